package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/state/statetest"
	"github.com/holdfast-storage/holdfast/watch"
)

// once makes a hook of a live check that does something the first time. It is
// what happens between the judgement and the removal.
func onceLive(do func(ctx context.Context) error) func(context.Context, string) error {
	var once sync.Once
	return func(ctx context.Context, _ string) (err error) {
		once.Do(func() { err = do(ctx) })
		return err
	}
}

func refusals(r *Reconciler) float64 {
	sum := 0.0
	for _, reason := range allReasons {
		for _, result := range []string{resultRefused, resultError, resultUnknown} {
			sum += value(r.metrics.removals.WithLabelValues(string(reason), result))
		}
	}
	return sum
}

// moment is a revision at which something happened to a key.
type moment struct{ put, deleted int64 }

// moments are the lives of a key, in order.
func (w *world) moments(key string) []moment {
	w.t.Helper()
	var out []moment
	for _, e := range statetest.Shared(w.t).History(w.t, w.prefix+"v1/"+key, 1) {
		if e.Deleted {
			out[len(out)-1].deleted = e.ModRevision
		} else {
			out = append(out, moment{put: e.ModRevision})
		}
	}
	return out
}

// Node judged gone and checked; it returns and attaches again; the removal is
// sent: refused. Also where the attach finds its own hold still there.
func TestReattachBetweenJudgementAndRemoval(t *testing.T) {
	for name, again := range map[string]func(w *world){
		"finds its own hold": func(w *world) { w.attach("vol-1", "n2") },
		"after a detach":     func(w *world) { w.detach("vol-1", "n2"); w.attach("vol-1", "n2") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, newNodes("n1"), noQuarantine)
			w.attach("vol-1", "n2")
			w.nodes.atLive(onceLive(func(context.Context) error {
				w.nodes.add("n2")
				again(w)
				return watch.ErrNodeNotFound // it was not there when it was looked up
			}))
			r := w.started()
			eventually(t, "the removal is refused", func() bool { return refusals(r) > 0 })
			eventually(t, "the departure is deleted", func() bool { return w.departure("n2") == nil })
			w.mustHold("vol-1", "n2")
			if n := len(w.journal(state.ActionRemoved)); n != 0 {
				t.Errorf("%d journal entries, want none", n)
			}
		})
	}
}

// Of a migration's two nodes one is deleted: the other keeps its hold.
func TestMigration_OneNodeDeleted(t *testing.T) {
	for gone, stays := range map[string]string{"source": "target", "target": "source"} {
		t.Run(gone+" deleted", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, newNodes("source", "target"), noQuarantine)
			h := w.attach("vol-1", "source")
			_, err := w.cluster.Migrate(t.Context(), state.MigrateRequest{
				Volume: "vol-1", Source: "source", SourceToken: h.Token, Target: state.Place{Node: "target"},
			})
			if err != nil {
				t.Fatal(err)
			}
			w.started()
			w.nodes.remove(gone)
			eventually(t, "one holds", func() bool { return len(w.holders("vol-1")) == 1 })
			w.mustHold("vol-1", stays)
		})
	}
}

// A node's deletion has a grace of its own: quarantine, then live check.
func TestQuarantineThenLiveCheck(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1", "n2"), shortWaits)
	w.attach("vol-1", "n2")
	w.nodes.atLive(func(context.Context, string) error {
		if w.quarantined("n2") {
			t.Error("live check within the quarantine")
		}
		return nil
	})
	w.started()
	w.nodes.remove("n2")
	w.departed("n2")
	w.mustHold("vol-1", "n2")
	w.removed("vol-1")
	quarantine, hold := w.moments("quarantines/a/n2"), w.moments("holds/vol-1/x/a/n2")
	if len(quarantine) != 1 || quarantine[0].deleted == 0 || hold[0].deleted <= quarantine[0].deleted {
		t.Errorf("hold %+v was removed before the quarantine %+v was over", hold, quarantine)
	}
	if w.nodes.liveChecks() == 0 {
		t.Error("removed without a live check")
	}
	// Nothing needs the departure any more.
	eventually(t, "the departure is deleted", func() bool { return w.departure("n2") == nil })
}

// The list lags, or lies: the live check finds the node.
func TestLiveCheckContradictsTheList(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1"), noQuarantine)
	w.attach("vol-1", "n2")
	w.nodes.setDeaf(true)
	r := w.reconciler()
	w.nodes.atLive(onceLive(func(context.Context) error { w.nodes.add("n2"); return nil })) // unheard
	w.start(r)
	eventually(t, "the live check contradicts", func() bool {
		return value(r.metrics.live.WithLabelValues(liveContradicted)) > 1
	})
	w.mustHold("vol-1", "n2")
	w.nodes.relist()
	eventually(t, "the departure is deleted", func() bool { return w.departure("n2") == nil })
	w.mustHold("vol-1", "n2")
}

// Only a definite NotFound counts as gone.
func TestOnlyNotFoundCountsAsGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1"), noQuarantine)
	w.attach("vol-1", "n2")
	answers := []error{errAPI, context.DeadlineExceeded, fmt.Errorf("the server says 404: %w", state.ErrNotFound), watch.ErrNotSynced}
	var mu sync.Mutex
	w.nodes.atLive(func(context.Context, string) error {
		mu.Lock()
		defer mu.Unlock()
		if len(answers) == 0 {
			return nil // and so a definite answer
		}
		err := answers[0]
		answers = answers[1:]
		if !w.held("vol-1") {
			t.Errorf("removed before the answer %v", err)
		}
		return err
	})
	r := w.started()
	w.removed("vol-1")
	if n := value(r.metrics.live.WithLabelValues(resultError)); n != 4 {
		t.Errorf("%v live checks failed, want 4", n)
	}
}

// A node returns while the leader is putting its departure, and the leader
// dies: some replica deletes the departure.
func TestDepartureOfANodeThatIsBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1", "n2"), shortWaits)
	w.attach("vol-1", "n2")
	leader := w.lead()
	r := w.reconciler()
	w.start(r)
	eventually(t, "the other replica watches", func() bool { return r.watcher.Sources().Loaded() })
	if _, err := leader.Depart(t.Context(), state.Departure{Node: "n2", Reason: state.NodeGone}, floorWait); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the departure is deleted", func() bool { return w.departure("n2") == nil && !w.quarantined("n2") })
	if r.Leading() {
		t.Error("it leads; the test shows nothing")
	}
	w.mustHold("vol-1", "n2")
}

// A node is away, every controller is restarted, it comes and goes unseen: it
// waits anew.
func TestRestartWaitsAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1", "n2"), shortWaits)
	w.attach("vol-1", "n2")
	r := w.started()
	w.nodes.remove("n2")
	first := w.departed("n2")
	r.Stop()
	w.nodes.add("n2")
	w.nodes.remove("n2")
	eventually(t, "the first quarantine is over", func() bool { return !w.quarantined("n2") })
	w.mustHold("vol-1", "n2")
	w.started()
	w.removed("vol-1")
	departures, quarantines := w.departures("n2"), w.moments("quarantines/a/n2")
	if departures != 2 || len(quarantines) != 2 {
		t.Fatalf("%d departures and quarantines %+v, want 2 of each", departures, quarantines)
	}
	hold := w.moments("holds/vol-1/x/a/n2")[0]
	if quarantines[1].deleted == 0 || hold.deleted <= quarantines[1].deleted {
		t.Errorf("hold %+v was removed before the second quarantine %+v was over", hold, quarantines[1])
	}
	if entries := w.journal(state.ActionRemoved); len(entries) != 1 || entries[0].Evidence.DepartureRevision <= first.ModRevision {
		t.Errorf("removed by the evidence of %+v, want a later departure than %d", entries, first.ModRevision)
	}
}

// A relist is a gap in the view: the same.
func TestRelistWaitsAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1", "n2"), shortWaits)
	w.attach("vol-1", "n2")
	w.started()
	w.nodes.remove("n2")
	w.departed("n2")
	w.nodes.relist()
	w.removed("vol-1")
	if n := w.departures("n2"); n != 2 {
		t.Errorf("%d departures, want 2", n)
	}
}

func tainted(name string) watch.Node {
	return watch.Node{Name: name, UID: "uid-of-" + name, OutOfService: true}
}

func TestOutOfService_NoQuarantine(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1", "n2"), shortWaits)
	w.attach("vol-1", "n2")
	w.started()
	w.nodes.put(tainted("n2"))
	w.removed("vol-1")
	if q := w.moments("quarantines/a/n2"); len(q) != 0 {
		t.Errorf("quarantines %+v, want none", q)
	}
	if e := w.journal(state.ActionRemoved); len(e) != 1 || e[0].Reason != string(state.OutOfService) {
		t.Errorf("journal is %+v", e)
	}
}

// The taint is taken off between judgement and removal: refused.
func TestOutOfService_TaintTakenOff(t *testing.T) {
	t.Parallel()
	nodes := newNodes("n1")
	nodes.put(tainted("n2"))
	w := newWorld(t, nodes, shortWaits)
	w.attach("vol-1", "n2")
	nodes.atLive(onceLive(func(context.Context) error { nodes.add("n2"); return nil }))
	r := w.started()
	eventually(t, "the live check contradicts", func() bool { return value(r.metrics.live.WithLabelValues(liveContradicted)) > 0 })
	eventually(t, "the departure is deleted", func() bool { return w.departure("n2") == nil })
	w.mustHold("vol-1", "n2")
}

func TestNodeReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1", "n2"), shortWaits, matchUID)
	w.attach("vol-1", "n2")
	w.started()
	w.nodes.put(watch.Node{Name: "n2", UID: "another"})
	d := w.departed("n2")
	if d.Reason != state.NodeReplaced || d.UID != "uid-of-n2" {
		t.Errorf("departure is %+v", d)
	}
	h, err := w.cluster.Attach(t.Context(), state.AttachRequest{Volume: "vol-2", Node: "n2", NodeUID: "another"})
	if err != nil {
		t.Fatal(err)
	}
	w.removed("vol-1")
	w.mustHold("vol-2", h.Node)
	// Ended by its attachments' end.
	eventually(t, "the departure is deleted", func() bool { return w.departure("n2") == nil })
	w.mustHold("vol-2", h.Node)
}

// The quarantine ends while nobody leads. A replica that watched throughout
// takes over and removes without a second wait; one that did not waits anew.
func TestQuarantineEndsWhileNobodyLeads(t *testing.T) {
	for name, throughout := range map[string]bool{"watched throughout": true, "did not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, newNodes("n1", "n2"), shortWaits)
			w.attach("vol-1", "n2")
			leader := w.lead() // one that leads and does nothing
			r := w.reconciler()
			if throughout {
				w.start(r)
				eventually(t, "the replica watches", func() bool { return r.watcher.Sources().Loaded() })
			}
			w.nodes.remove("n2")
			if _, err := leader.Depart(t.Context(), state.Departure{Node: "n2", Reason: state.NodeGone}, floorWait); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the quarantine is over", func() bool { return !w.quarantined("n2") })
			w.mustHold("vol-1", "n2")
			if !throughout {
				w.start(r)
			}
			leader.Resign()
			w.removed("vol-1")
			want := 1
			if !throughout {
				want = 2
			}
			if n := w.departures("n2"); n != want {
				t.Errorf("%d departures, want %d", n, want)
			}
		})
	}
}

// The leader is stopped between live check and removal for longer than the
// check is good for; the node returns; the leader goes on: refused.
func TestStoppedForLongerThanTheCheckIsGoodFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1"), noQuarantine)
	w.attach("vol-1", "n2")
	r := w.reconciler()
	r.good = 300 * time.Millisecond
	w.nodes.atLive(onceLive(func(ctx context.Context) error {
		<-ctx.Done()
		w.nodes.add("n2")
		return watch.ErrNodeNotFound
	}))
	w.start(r)
	eventually(t, "the removal is refused", func() bool { return refusals(r) > 0 })
	eventually(t, "the departure is deleted", func() bool { return w.departure("n2") == nil })
	w.mustHold("vol-1", "n2")
}

// The same for longer than its election: another leads.
func TestStoppedForLongerThanTheElection(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1"), noQuarantine)
	w.attach("vol-1", "n2")
	r := w.reconciler()
	w.nodes.atLive(onceLive(func(ctx context.Context) error {
		etcd := statetest.Shared(t)
		for _, kv := range etcd.Dump(t, w.prefix+"v1/elections/") {
			if _, err := etcd.Client(t).Delete(ctx, kv.Key); err != nil {
				t.Error(err)
			}
		}
		w.nodes.add("n2")
		return watch.ErrNodeNotFound
	}))
	w.start(r)
	eventually(t, "it led", func() bool { return w.nodes.liveChecks() > 0 })
	eventually(t, "the removal is refused", func() bool { return value(r.metrics.fails.WithLabelValues("not_leader")) > 0 })
	eventually(t, "the departure is deleted", func() bool { return w.departure("n2") == nil })
	w.attach("vol-2", "n3")
	w.removed("vol-2") // it leads again
	w.mustHold("vol-1", "n2")
}

// Paused, or frozen, between judgement and removal: refused. When that ends the
// removal goes on, with nothing but the event to ask for it.
func TestGatesBetweenJudgementAndRemoval(t *testing.T) {
	type gate struct{ shut, open func(w *world) error }
	for name, g := range map[string]gate{
		"paused": {
			func(w *world) error { return w.ledger.Pause(t.Context(), "a", "test", "maintenance", 0) },
			func(w *world) error { return w.ledger.Resume(t.Context(), "a", "test") },
		},
		"frozen": {
			func(w *world) error { return w.ledger.Freeze(t.Context(), "test", "restore") },
			func(w *world) error { return w.ledger.Unfreeze(t.Context(), "test", false) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, newNodes("n1"), noQuarantine)
			w.attach("vol-1", "n2")
			w.nodes.atLive(onceLive(func(context.Context) error { return g.shut(w) }))
			r := w.started()
			eventually(t, "the removal is refused", func() bool { return value(r.metrics.fails.WithLabelValues(name)) > 0 })
			w.mustHold("vol-1", "n2")
			eventually(t, "it is held back", func() bool { return value(r.metrics.heldBack.WithLabelValues(name)) == 1 })
			if err := g.open(w); err != nil {
				t.Fatal(err)
			}
			w.removed("vol-1")
		})
	}
}

// A pause that ends by itself.
func TestPauseEndsByItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1", "n2"), noQuarantine)
	if err := w.ledger.Pause(t.Context(), "a", "test", "maintenance", floorWait); err != nil {
		t.Fatal(err)
	}
	r := w.started()
	w.attach("vol-1", "n2")
	w.nodes.remove("n2")
	eventually(t, "it is held back", func() bool { return value(r.metrics.heldBack.WithLabelValues("paused")) == 1 })
	w.mustHold("vol-1", "n2")
	w.removed("vol-1")
	if pause := w.moments("pauses/a"); pause[0].deleted == 0 || pause[0].deleted > w.moments("holds/vol-1/x/a/n2")[0].deleted {
		t.Errorf("removed while paused: %+v", pause)
	}
}

// Two controllers: the leader is killed during a quarantine; the other finishes
// it without starting it again, and no orphan is removed twice.
func TestLeaderKilledDuringAQuarantine(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1", "n2"), shortWaits, func(c *state.Config) { c.Quarantine = 3 * time.Second })
	var volumes []string
	for i := range 10 {
		volumes = append(volumes, fmt.Sprint("vol-", i))
		w.attach(volumes[i], "n2")
	}
	cable := statetest.Shared(t).Proxy(t)
	_, cluster := w.open(func(c *state.Config) { c.Endpoints = cable.Endpoints() })
	first := w.reconcilerOf(cluster)
	w.start(first)
	eventually(t, "the first leads", first.Leading)
	second := w.reconciler()
	w.start(second)
	eventually(t, "the second watches", func() bool { return second.watcher.Sources().Loaded() })
	w.nodes.remove("n2")
	w.departed("n2")
	cable.Cut() // as a killed process: it cannot even resign
	first.Stop()
	w.removed(volumes...)
	if n, q := w.departures("n2"), w.moments("quarantines/a/n2"); n != 1 || len(q) != 1 {
		t.Errorf("%d departures and quarantines %+v, want one of each", n, q)
	}
	var got []string
	for _, e := range w.journal(state.ActionRemoved) {
		got = append(got, e.Volume)
	}
	slices.Sort(got)
	if !slices.Equal(got, volumes) {
		t.Errorf("the journal has %v, want each of %v once", got, volumes)
	}
}

// From deleting a node to its orphans' removal no timer is involved: the resync
// is an hour away.
func TestRemovalIsEventDriven(t *testing.T) {
	w := newWorld(t, newNodes("n1", "n2"), noQuarantine)
	r := w.started()
	var volumes []string
	for i := range 150 { // more than two requests
		volumes = append(volumes, fmt.Sprint("vol-", i))
		w.attach(volumes[i], "n2")
	}
	checks := w.nodes.liveChecks()
	w.nodes.remove("n2")
	w.removed(volumes...)
	if r.Resync() != time.Hour {
		t.Error("the resync is no hour")
	}
	if n := w.nodes.liveChecks() - checks; n > 2 {
		t.Errorf("%d live checks for one node", n)
	}
	if n := len(w.journal(state.ActionRemoved)); n != len(volumes) {
		t.Errorf("%d journal entries, want %d", n, len(volumes))
	}
}

// Two replicas whose views of the nodes differ do not race each other: the one
// that sees the node deletes the departure, and the leader takes its time to
// put it again.
func TestReplicasDisagree(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1"), shortWaits)
	w.attach("vol-1", "n2")
	leader := w.started()
	lagging := &world{t: t, prefix: w.prefix, edits: w.edits, nodes: newNodes("n1", "n2")}
	other := lagging.reconciler()
	lagging.start(other)
	eventually(t, "the departure goes to and fro", func() bool { return value(other.metrics.departures.WithLabelValues(departureReturned)) >= 3 })
	before := value(leader.metrics.departures.WithLabelValues(departurePut))
	if before > 8 {
		t.Errorf("%v departures were put", before)
	}
	lagging.nodes.remove("n2")
	w.removed("vol-1")
}

// A leader that has long been blind makes room for one that may see.
func TestBlindLeaderStandsAside(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1"), noQuarantine)
	w.attach("vol-1", "n2")
	blind := &world{t: t, prefix: w.prefix, edits: w.edits, nodes: newNodes("n1", "n2")}
	first := blind.reconciler()
	first.aside = 300 * time.Millisecond
	blind.start(first)
	eventually(t, "the first leads", first.Leading)
	w.start(w.reconciler())
	blind.nodes.fail(errAPI)
	w.removed("vol-1")
	if first.Leading() {
		t.Error("the first leads still")
	}
}

func TestRun_EndsForGoodWhenTheNameIsAnothers(t *testing.T) {
	w := newWorld(t, newNodes("n1"), noQuarantine)
	_, cluster := w.open()
	if err := w.ledger.Rebind(t.Context(), "a", "another", "test", "rebuilt"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := w.reconcilerOf(cluster).Run(ctx); !errors.Is(err, state.ErrClusterMismatch) {
		t.Errorf("error is %v, want ErrClusterMismatch", err)
	}
}
