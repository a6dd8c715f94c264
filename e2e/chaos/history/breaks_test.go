package history

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/state/statetest"
)

const root = "/holdfast/v1/"

func (r *run) put(t *testing.T, key, value string, opts ...clientv3.OpOption) {
	t.Helper()
	_, err := r.raw.Put(t.Context(), root+key, value, opts...)
	must(t, err)
}

func (r *run) delete(t *testing.T, keys ...string) {
	t.Helper()
	var ops []clientv3.Op
	for _, k := range keys {
		ops = append(ops, clientv3.OpDelete(root+k))
	}
	_, err := r.raw.Txn(t.Context()).Then(ops...).Commit()
	must(t, err)
}

func (r *run) lease(t *testing.T, key string) clientv3.LeaseID {
	t.Helper()
	resp, err := r.raw.Get(t.Context(), root+key)
	must(t, err)
	if len(resp.Kvs) != 1 {
		t.Fatalf("%s is not there", key)
	}
	return clientv3.LeaseID(resp.Kvs[0].Lease)
}

// What Holdfast would never do, another client does, and it is seen for what it is.
func TestObserver_SeesWhatIsBroken(t *testing.T) {
	var told atomic.Int32
	r := observe(t, func(c *Config) { c.Checks.OnViolation = func(Violation) { told.Add(1) } }).open(t)
	const hold, other = `{"epoch":0}`, `{"epoch":1}`
	broken := []struct {
		volume string
		want   Invariant
		do     func(volume string)
	}{
		{"v1", TwoExclusive, func(v string) { r.put(t, "holds/"+v+"/x/a/node-2", hold) }},
		{"v2", MixedModes, func(v string) { r.put(t, "holds/"+v+"/s/a/node-2", hold) }},
		{"v3", ThirdHold, func(v string) {
			_, err := r.a.Migrate(t.Context(), state.MigrateRequest{Volume: v, Source: "node-1", Target: state.Place{Cluster: "b", Node: "node-1"}})
			must(t, err)
			r.gone(t, root+"migrations/"+v)
			r.put(t, "holds/"+v+"/x/a/node-3", hold)
		}},
		{"v4", UnexplainedEnd, func(v string) { r.delete(t, "holds/"+v+"/x/a/node-1", "attachments/a/node-1/"+v) }},
		{"v5", UnexplainedEnd, func(v string) { // a detach that nobody asked for
			_, err := r.a.Detach(t.Context(), state.DetachRequest{Volume: v, Node: "node-1"})
			must(t, err)
		}},
		{"v6", GraceBroken, func(v string) { r.detach(t, r.a, v, "node-1"); r.put(t, "holds/"+v+"/x/b/node-1", hold) }},
		{"v7", TokenNotGrown, func(v string) { r.detach(t, r.a, v, "node-1"); r.put(t, "holds/"+v+"/x/a/node-1", other) }},
		{"v8", EarlyEnd, func(v string) { r.detach(t, r.a, v, "node-1"); r.delete(t, "detachments/"+v+"/x/a/node-1") }},
		{"v9", EarlyEnd, func(v string) { // its lease is revoked, and nobody said so
			r.detach(t, r.a, v, "node-1")
			_, err := r.raw.Revoke(t.Context(), r.lease(t, "detachments/"+v+"/x/a/node-1"))
			must(t, err)
		}},
		{"v10", AttachmentLapse, func(v string) { r.delete(t, "attachments/a/node-1/"+v) }},
		{"v11", LeaseShape, func(v string) { // immortal
			r.put(t, "attachments/a/node-1/"+v, "", clientv3.WithIgnoreValue())
		}},
		{"v12", HoldRewritten, func(v string) { r.put(t, "holds/"+v+"/x/a/node-1", hold) }},
		{"v13", OrphanKeys, func(v string) { r.put(t, "attachments/a/node-2/"+v, `{"mode":"exclusive"}`) }},
		{"v14", WrongRemoval, func(v string) {
			_, err := r.raw.Txn(t.Context()).Then(
				clientv3.OpDelete(root+"holds/"+v+"/x/a/node-1"), clientv3.OpDelete(root+"attachments/a/node-1/"+v),
				clientv3.OpPut(root+"detachments/"+v+"/x/a/node-1", `{"graceMs":2000}`),
				clientv3.OpPut(root+"journal/a/1", fmt.Sprintf(`{"action":"removed","volume":%q,"node":"node-1","mode":"exclusive"}`, v))).Commit()
			must(t, err)
		}},
		{"v15", FrozenWrite, func(v string) {
			must(t, r.ledger.Freeze(t.Context(), "test", "test"))
			r.put(t, "holds/"+v+"/x/a/node-2", hold)
		}},
	}
	for _, b := range broken {
		r.attach(t, r.a, state.AttachRequest{Volume: b.volume, Node: "node-1"})
	}
	r.clean(t)
	for _, b := range broken {
		b.do(b.volume)
		must(t, r.obs.CatchUp(t.Context()))
		violations := r.obs.Report().Violations
		if !slices.ContainsFunc(violations, func(v Violation) bool { return errors.Is(v, b.want) && v.Key.Volume == b.volume }) {
			t.Errorf("%s of %s is not seen among %v", b.want, b.volume, violations)
		}
	}
	report, err := r.obs.Finish(t.Context())
	must(t, err) // it was all seen, broken as it is
	if report.Violated < len(broken) || int(told.Load()) != report.Violated {
		t.Errorf("%d violations, %d told", report.Violated, told.Load())
	}
	if len(r.obs.Last()) == 0 {
		t.Error("a run that failed keeps no history")
	}
}

// Leases that are revoked by hand end no wait early, if the run says so.
func TestObserver_LeasesRevokedByHand(t *testing.T) {
	r := observe(t, func(c *Config) { c.Checks.LeastLapse = 20 * time.Second }).open(t)
	r.attach(t, r.a, state.AttachRequest{Volume: "v1", Node: "node-1"})
	r.attach(t, r.a, state.AttachRequest{Volume: "v2", Node: "node-1"})
	r.detach(t, r.a, "v2", "node-1")
	for _, key := range []string{"attachments/a/node-1/v1", "detachments/v2/x/a/node-1"} {
		id := r.lease(t, key)
		r.told.Revoked(int64(id))
		_, err := r.raw.Revoke(t.Context(), id)
		must(t, err)
	}
	if report := r.clean(t); report.Ended[Attachments] != 1 || report.Ended[Detachments] != 1 {
		t.Errorf("ended: %v", report.Ended)
	}
}

// The bounds of each revision hold its commit, and are not wide on a calm etcd.
func TestObserver_Bounds(t *testing.T) {
	r := observe(t)
	for range 20 {
		before := r.told.now()
		resp, err := r.raw.Put(t.Context(), "/other", "")
		must(t, err)
		after := r.told.now()
		must(t, r.obs.CatchUp(t.Context()))
		r.obs.mu.Lock()
		got := r.obs.life.beacons.bounds(resp.Header.Revision, r.told.now())
		r.obs.mu.Unlock()
		if got.Lower > after || got.Upper < before {
			t.Fatalf("a put between %v and %v is bounded by %v", before, after, got)
		}
	}
	first := r.obs.Revision()
	must(t, r.obs.until(t.Context(), func() bool { return r.obs.life.beacons.last().Revision > first }))
	r.clean(t)
}

// A restored etcd, at the address of the one before, begins a new segment; what
// it was when it was restored is no news, and what is written into it is.
func TestObserver_OverARestore(t *testing.T) {
	old, restored := statetest.Start(t), statetest.Start(t)
	door := newDoor(t, old.Endpoints()[0])
	r := observeAt(t, old, func(c *Config) { c.Etcd.Endpoints = []string{door.endpoint()} }).open(t)
	for range 5 {
		r.attach(t, r.a, state.AttachRequest{Volume: "v1", Node: "node-1"})
		r.detach(t, r.a, "v1", "node-1")
	}
	r.attach(t, r.a, state.AttachRequest{Volume: "v1", Node: "node-1"})

	// The other etcd has an older state, as a restored one would.
	l, err := state.Open(t.Context(), state.Config{Endpoints: restored.Endpoints(), Logger: slog.New(slog.DiscardHandler), GracePeriod: wait})
	must(t, err)
	defer l.Close()
	a := opened(t, l, "a")
	r.attach(t, a, state.AttachRequest{Volume: "v2", Node: "node-1"})

	must(t, r.obs.BeforeRestore(t.Context()))
	door.lead(restored.Endpoints()[0])
	must(t, r.obs.Restored(t.Context()))
	if report := r.clean(t, "a"); report.Segments != 2 {
		t.Errorf("segments: %d", report.Segments)
	}
	r.attach(t, a, state.AttachRequest{Volume: "v1", Node: "node-1"})
	must(t, r.obs.CatchUp(t.Context()))
	got := r.obs.Report().Err()
	for _, want := range []Invariant{WrittenWhileRestored, TokenNotGrown} {
		if !errors.Is(got, want) {
			t.Errorf("%v is not %s", got, want)
		}
	}
	before := r.obs.Report().Violated
	must(t, l.Freeze(t.Context(), "test", "test"))
	must(t, l.Unfreeze(t.Context(), "test", true))
	r.attach(t, a, state.AttachRequest{Volume: "v3", Node: "node-1"})
	report, err := r.obs.Finish(t.Context(), "a")
	must(t, err)
	if report.Violated != before {
		t.Errorf("after the restore was accepted: %v", report.Err())
	}
}

// door is an address that leads to one etcd, and later to another.
type door struct {
	listener net.Listener
	mu       sync.Mutex
	to       string
	open     []net.Conn
	joined   sync.WaitGroup
}

func newDoor(t *testing.T, to string) *door {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	d := &door{listener: l}
	d.lead(to)
	d.joined.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d.mu.Lock()
			out, err := net.Dial("tcp", d.to)
			if err == nil {
				d.open = append(d.open, c, out)
				d.joined.Go(func() { io.Copy(out, c); out.Close() })
				d.joined.Go(func() { io.Copy(c, out); c.Close() })
			}
			d.mu.Unlock()
		}
	})
	t.Cleanup(func() { l.Close(); d.lead(""); d.joined.Wait() })
	return d
}

func (d *door) endpoint() string { return "http://" + d.listener.Addr().String() }

func (d *door) lead(to string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(to) > 7 {
		to = to[7:] // http://
	}
	d.to = to
	for _, c := range d.open {
		c.Close()
	}
	d.open = nil
}

// What the ledger's own golden file holds still is what this package reads.
func TestRecords_OfTheStableFormat(t *testing.T) {
	golden, err := os.ReadFile("../../../state/testdata/layout.golden")
	must(t, err)
	var k Key
	kinds := map[Kind]bool{}
	for line := range strings.Lines(string(golden)) {
		line = strings.TrimSuffix(line, "\n")
		if value, ok := strings.CutPrefix(line, "  "); ok {
			if _, err := newRecord(k, KV{Value: value}); err != nil {
				t.Errorf("%s: %v", k.below(), err)
			}
			continue
		}
		if k, err = ParseKey(root, line); err != nil {
			t.Error(err)
		}
		kinds[k.Kind] = true
	}
	if len(kinds) < 10 {
		t.Errorf("the golden file has only %v", kinds)
	}
}
