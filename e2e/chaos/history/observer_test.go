package history

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/state/statetest"
)

// wait is the shortest that the test's etcd grants, for all waits of a ledger.
const wait = 2 * time.Second

// run is an observed etcd, and a ledger in it.
type run struct {
	etcd server
	told *Told
	obs  *Observer
	raw  *clientv3.Client
	end  context.CancelFunc
	done chan error

	ledger *state.Ledger
	a, b   *state.Cluster
}

// server is a statetest.Etcd or a statetest.Cluster.
type server interface {
	Endpoints() []string
	Client(testing.TB) *clientv3.Client
}

// observe starts an etcd with an observer that has seen nothing of it yet.
func observe(t *testing.T, edit ...func(*Config)) *run {
	t.Helper()
	return observeAt(t, statetest.Start(t), edit...)
}

func observeAt(t *testing.T, etcd server, edit ...func(*Config)) *run {
	t.Helper()
	begun := time.Now()
	now := func() time.Duration { return time.Since(begun) }
	r := &run{etcd: etcd, told: NewTold(now), done: make(chan error, 1)}
	r.raw = r.etcd.Client(t)
	cfg := Config{Etcd: clientv3.Config{Endpoints: r.etcd.Endpoints()}, Now: now}
	for _, e := range edit {
		e(&cfg)
	}
	var err error
	if r.obs, err = New(cfg, r.told); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r.end = cancel
	go func() { r.done <- r.obs.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if r.done != nil {
			<-r.done
		}
		r.obs.Close()
	})
	must(t, r.obs.Ready(t.Context()))
	return r
}

// open opens the ledger as two clusters.
func (r *run) open(t *testing.T) *run {
	t.Helper()
	l, err := state.Open(t.Context(), state.Config{
		Endpoints: r.etcd.Endpoints(), By: "test", Logger: slog.New(slog.DiscardHandler),
		GracePeriod: wait, MigrationWindow: wait, AttachmentTTL: time.Minute, Quarantine: wait,
	})
	must(t, err)
	t.Cleanup(func() { l.Close() })
	r.ledger, r.a, r.b = l, opened(t, l, "a"), opened(t, l, "b")
	return r
}

func opened(t *testing.T, l *state.Ledger, name string) *state.Cluster {
	t.Helper()
	c, err := l.Cluster(t.Context(), state.Identity{Name: name, UID: "uid-of-" + name})
	must(t, err)
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// call tells of a call, makes it, and tells of its end.
func (r *run) call(t *testing.T, kind CallKind, volume string, p state.Place, do func() error) {
	t.Helper()
	b := r.told.Begin(Call{Kind: kind, Volume: volume, Cluster: p.Cluster, Node: p.Node})
	err := do()
	b.Done(err == nil)
	must(t, err)
}

func (r *run) attach(t *testing.T, c *state.Cluster, req state.AttachRequest) state.Hold {
	t.Helper()
	h, err := c.Attach(t.Context(), req)
	must(t, err)
	return h
}

func (r *run) detach(t *testing.T, c *state.Cluster, volume, node string) state.Detachment {
	t.Helper()
	var d state.Detachment
	r.call(t, CallEnd, volume, state.Place{Cluster: c.Name(), Node: node}, func() error {
		e, err := c.Detach(t.Context(), state.DetachRequest{Volume: volume, Node: node})
		d = e.Detachment
		return err
	})
	return d
}

// gone waits until a key is no longer there.
func (r *run) gone(t *testing.T, key string) {
	t.Helper()
	for {
		resp, err := r.raw.Get(t.Context(), key)
		must(t, err)
		if len(resp.Kvs) == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// clean fails on any violation.
func (r *run) clean(t *testing.T, live ...string) Report {
	t.Helper()
	report, err := r.obs.Finish(t.Context(), live...)
	must(t, err)
	must(t, report.Err())
	if len(report.Tolerated) > 0 {
		t.Errorf("tolerated: %v", report.Tolerated)
	}
	return report
}

// A ledger in use breaks nothing, and everything is looked at.
func TestObserver_ALedgerInUse(t *testing.T) {
	var lines strings.Builder
	r := observe(t, func(c *Config) { c.Log, c.Checks.LeastLapse = &lines, 100*time.Millisecond }).open(t)
	ctx := t.Context()

	// Attach, handoff, detach; a grace that ends, one that is cleared, one that is broken by force.
	r.attach(t, r.a, state.AttachRequest{Volume: "pvc/1", Node: "node-1"})
	r.attach(t, r.a, state.AttachRequest{Volume: "pvc/1", Node: "node-1"})
	r.detach(t, r.a, "pvc/1", "node-1")
	r.attach(t, r.a, state.AttachRequest{Volume: "pvc/1", Node: "node-2"})
	first := r.detach(t, r.a, "pvc/1", "node-2")
	r.gone(t, "/holdfast/v1/detachments/pvc%2F1/x/a/node-2")
	r.attach(t, r.b, state.AttachRequest{Volume: "pvc/1", Node: "node-1"})
	forced := r.detach(t, r.b, "pvc/1", "node-1")
	r.attach(t, r.a, state.AttachRequest{Volume: "pvc/1", Node: "node-1", IgnoreGrace: true, Why: "test"})
	cleared := r.detach(t, r.a, "pvc/1", "node-1")
	r.call(t, CallClear, "pvc/1", state.Place{Cluster: "a"}, func() error { return r.a.Clear(ctx, cleared) })
	if first.ModRevision == 0 || forced.ModRevision == 0 {
		t.Fatal("a detach told nothing")
	}

	// Shared holds.
	for _, node := range []string{"node-1", "node-2"} {
		r.attach(t, r.a, state.AttachRequest{Volume: "shared", Node: node, Mode: state.Shared})
	}
	r.detach(t, r.a, "shared", "node-1")

	r.migrations(t)
	r.removal(t)
	r.eviction(t)

	must(t, r.ledger.Freeze(ctx, "test", "test"))
	must(t, r.ledger.Unfreeze(ctx, "test", false))
	must(t, r.ledger.Pause(ctx, "a", "test", "test", wait))
	r.gone(t, "/holdfast/v1/pauses/a")
	must(t, r.ledger.Pause(ctx, "a", "test", "test", 0))
	must(t, r.ledger.Resume(ctx, "a", "test"))

	report := r.clean(t, "a", "b")
	for _, i := range []Invariant{
		TwoExclusive, ThirdHold, MixedModes, GraceBroken, HoldRewritten, TokenNotGrown, FrozenWrite, WrittenWhileRestored,
		UnexplainedEnd, WrongRemoval, EarlyEnd, AttachmentLapse, LeaseShape, OrphanKeys, UnknownKey,
	} {
		if report.Evaluated[i] == 0 {
			t.Errorf("%s was never looked at", i)
		}
	}
	for _, k := range []Kind{Detachments, Migrations, Quarantines, Pauses} {
		if report.Ended[k] == 0 {
			t.Errorf("none of the %s ended by itself", k)
		}
	}
	if report.Skipped > 0 || report.Unproven > 0 || report.Segments != 1 {
		t.Errorf("report: %+v", report)
	}
	if got := strings.Count(lines.String(), "\n"); got <= report.Revisions {
		t.Errorf("%d lines for %d revisions", got, report.Revisions)
	}
}

// migrations commits, aborts, detaches in, and lets lapse, a window.
func (r *run) migrations(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	to := state.Place{Cluster: "b", Node: "node-9"}
	begin := func(volume string) state.Migration {
		r.attach(t, r.a, state.AttachRequest{Volume: volume, Node: "node-1"})
		m, err := r.a.Migrate(ctx, state.MigrateRequest{Volume: volume, Source: "node-1", Target: to})
		must(t, err)
		return m
	}
	m := begin("m-1")
	r.call(t, CallEnd, "m-1", m.Source, func() error { return r.a.Commit(ctx, m) })
	m = begin("m-2")
	r.call(t, CallEnd, "m-2", m.Target, func() error { return r.a.Abort(ctx, m) })
	begin("m-3")
	r.detach(t, r.b, "m-3", "node-9")
	begin("m-4")
	r.gone(t, "/holdfast/v1/migrations/m-4")
	r.detach(t, r.a, "m-4", "node-1")
}

// removal removes a hold of a node that has left.
func (r *run) removal(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r.told.Present("a", "node-7")
	r.attach(t, r.a, state.AttachRequest{Volume: "r-1", Node: "node-7"})
	ld, err := r.a.Campaign(ctx, "test")
	must(t, err)
	r.told.Leaving("a", "node-7")
	d, err := ld.Depart(ctx, state.Departure{Node: "node-7", Reason: state.NodeGone}, wait)
	must(t, err)
	r.gone(t, "/holdfast/v1/quarantines/a/node-7")
	v, err := r.ledger.Volume(ctx, "r-1")
	must(t, err)
	results, err := ld.Remove(ctx, []state.Orphan{{Attachment: v.Attachments[0], Departure: d}})
	must(t, err)
	if !results[0].Ended {
		t.Fatalf("removal: %+v", results)
	}
	must(t, r.a.Return(ctx, d))
	ld.Resign()
}

// eviction lets a hold lapse, and evicts it.
func (r *run) eviction(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	other, err := state.Open(ctx, state.Config{Endpoints: r.etcd.Endpoints(), AttachmentTTL: wait, GracePeriod: wait, Logger: slog.New(slog.DiscardHandler)})
	must(t, err)
	defer other.Close()
	h := r.attach(t, opened(t, other, "lost"), state.AttachRequest{Volume: "e-1", Node: "node-1"})
	r.gone(t, "/holdfast/v1/attachments/lost/node-1/e-1")
	r.call(t, CallEvict, "", state.Place{Cluster: "lost"}, func() error {
		_, err := r.ledger.Evict(ctx, "lost", []state.Hold{h}, "test", "test")
		return err
	})
}

// A compaction that the observer has kept up with takes nothing from it, nor
// does an etcd that goes away for a while.
func TestObserver_GoesOnThroughCompactionAndRestart(t *testing.T) {
	etcd := statetest.Start(t)
	r := observeAt(t, etcd).open(t)
	ctx := t.Context()
	for range 3 {
		r.attach(t, r.a, state.AttachRequest{Volume: "pvc-1", Node: "node-1"})
		r.detach(t, r.a, "pvc-1", "node-1")
		must(t, r.obs.CatchUp(ctx))
		_, err := r.raw.Compact(ctx, r.obs.Revision())
		must(t, err)
		etcd.Restart(t)
	}
	r.clean(t, "a", "b")
}

// A compaction that overtakes the observer is told, and not passed over.
func TestObserver_TellsWhatItMissed(t *testing.T) {
	etcd := statetest.Start(t)
	proxy := etcd.Proxy(t)
	r := observeAt(t, etcd, func(c *Config) { c.Etcd.Endpoints = proxy.Endpoints() })
	must(t, r.obs.CatchUp(t.Context()))
	proxy.Cut()
	var last int64
	for range 3 {
		resp, err := r.raw.Put(t.Context(), "/other", "")
		must(t, err)
		last = resp.Header.Revision
	}
	_, err := r.raw.Compact(t.Context(), last)
	must(t, err)
	proxy.Resume()
	err = <-r.done
	r.done = nil
	if !errors.Is(err, ErrMissed) {
		t.Fatalf("the observer ended with %v", err)
	}
	if _, err := r.obs.Finish(t.Context()); !errors.Is(err, ErrMissed) {
		t.Errorf("and its report came with %v", err)
	}
}

// A watch that is cut off, and one that hangs, goes on where it was.
func TestObserver_GoesOnAfterACut(t *testing.T) {
	etcd := statetest.Start(t)
	proxy := etcd.Proxy(t)
	r := observeAt(t, etcd, func(c *Config) { c.Etcd.Endpoints = proxy.Endpoints() })
	for _, fault := range []func(){proxy.Cut, proxy.Pause, proxy.PauseResponses, proxy.DropConnections} {
		fault()
		for range 3 {
			_, err := r.raw.Put(t.Context(), "/other", "")
			must(t, err)
		}
		proxy.Resume()
		must(t, r.obs.CatchUp(t.Context()))
	}
	r.clean(t)
}

// Members that are killed, the leader among them, and a time without a quorum
// take nothing from it.
func TestObserver_GoesOnThroughKilledMembers(t *testing.T) {
	cluster := statetest.StartCluster(t, 3)
	r := observeAt(t, cluster).open(t)
	for i := range 3 {
		leader := cluster.Leader(t)
		cluster.Member(leader).Kill(t)
		for err := state.ErrUnavailable; err != nil; { // until they have another
			_, err = r.a.Attach(t.Context(), state.AttachRequest{Volume: "pvc-1", Node: "node-1"})
		}
		r.detach(t, r.a, "pvc-1", "node-1")
		if i == 1 { // the quorum too
			other := (leader + 1) % 3
			cluster.Member(other).Kill(t)
			cluster.Member(other).Start(t)
		}
		cluster.Member(leader).Start(t)
		must(t, r.obs.CatchUp(t.Context()))
	}
	r.clean(t, "a")
}
