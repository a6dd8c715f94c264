package reconcile

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

// as opens the ledger as another cluster.
func (w *world) as(name string) *state.Cluster {
	w.t.Helper()
	c, err := w.ledger.Cluster(w.t.Context(), state.Identity{Name: name, UID: "uid-of-" + name})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// migrates begins a migration of a volume that source holds, of the shortest window.
func migrates(t *testing.T, source *state.Cluster, volume, from string, target state.Place) state.Migration {
	t.Helper()
	_, err := source.Attach(t.Context(), state.AttachRequest{Volume: volume, Node: from})
	if err == nil {
		var m state.Migration
		if m, err = source.Migrate(t.Context(), state.MigrateRequest{Volume: volume, Source: from, Target: target, Window: floorWait}); err == nil {
			return m
		}
	}
	t.Fatal(err)
	return state.Migration{}
}

func (w *world) overdue(volumes ...string) {
	w.t.Helper()
	for _, v := range volumes {
		eventually(w.t, "the migration of "+v+" is overdue", func() bool { return w.state(v) == state.StateOverdue })
	}
}

// looking makes a reconciler look often at what is overdue.
func looking(r *Reconciler) *Reconciler {
	r.overdueLook = 20 * time.Millisecond
	return r
}

func gauged(t *testing.T, r *Reconciler, n float64) {
	t.Helper()
	eventually(t, "the gauge is right", func() bool { return value(r.metrics.overdue) == n })
}

// A window that ends by itself is told of, to the cluster of either side, and
// counted until one of the two is detached. One that is committed is not.
func TestOverdue_WindowsEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1", "n2"))
	reporter := &told{}
	r := looking(w.reconciler(to(reporter)))
	w.start(r)
	eventually(t, "it leads", r.Leading)
	b, c := w.as("b"), w.as("c")
	migrates(t, w.cluster, "vol-out", "n1", state.Place{Cluster: "b", Node: "far"})
	migrates(t, b, "vol-in", "far", state.Place{Cluster: "a", Node: "n2"})
	migrates(t, b, "vol-else", "far", state.Place{Cluster: "c", Node: "away"})
	m := migrates(t, w.cluster, "vol-done", "n1", state.Place{Node: "n2"})
	if err := w.cluster.Commit(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	w.overdue("vol-out", "vol-in", "vol-else")
	want := []string{"overdue vol-in: b/far, a/n2", "overdue vol-out: a/n1, b/far"}
	reporter.was(t, "", want...)
	gauged(t, r, 2)

	w.detach("vol-out", "n1")
	gauged(t, r, 1)
	if _, err := b.Detach(t.Context(), state.DetachRequest{Volume: "vol-in", Node: "far"}); err != nil {
		t.Fatal(err)
	}
	gauged(t, r, 0)
	if _, err := c.Detach(t.Context(), state.DetachRequest{Volume: "vol-else", Node: "away"}); err != nil {
		t.Fatal(err)
	}
	reporter.was(t, "", want...) // looked at many times, told of once
	r.Stop()
}

// What was overdue before is found when it begins to lead, by each leader.
func TestOverdue_FoundAtTheStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1", "n2"), func(c *state.Config) { c.ElectionTTL = floorWait })
	b := w.as("b")
	w.attach("before", "n1")
	migrates(t, w.cluster, "vol-1", "n1", state.Place{Cluster: "b", Node: "far"})
	migrates(t, b, "vol-2", "far", state.Place{Cluster: "b", Node: "away"})
	_, err := b.Attach(t.Context(), state.AttachRequest{Volume: "vol-3", Node: "far", Mode: state.Shared})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.cluster.Attach(t.Context(), state.AttachRequest{Volume: "vol-3", Node: "n1", Mode: state.Shared}); err != nil {
		t.Fatal(err)
	}
	w.overdue("vol-1", "vol-2")
	first, second := &told{}, &told{}
	one := looking(w.reconciler(to(first)))
	w.start(one)
	first.was(t, "", "overdue vol-1: a/n1, b/far")
	gauged(t, one, 1)
	two := looking(w.reconciler(to(second)))
	w.start(two)
	eventually(t, "it watches", func() bool { return two.watcher.Sources().Loaded() })
	if got := second.list(""); len(got) != 0 || value(two.metrics.overdue) != 0 {
		t.Errorf("one that does not lead tells of %q, and counts %v", got, value(two.metrics.overdue))
	}
	one.current().term.Load().cancel() // it loses the lead, and goes on
	gauged(t, one, 0)
	second.was(t, "", "overdue vol-1: a/n1, b/far")
	gauged(t, two, 1)
}

// batches of the watch of windows, without an etcd.
func opened(volume, source, target string) state.Event {
	return state.Event{Type: state.Put, Record: state.Migration{
		Volume: volume, Source: state.Place{Cluster: source, Node: "s"}, Target: state.Place{Cluster: target, Node: "t"}}}
}

func ended(e state.Event) state.Event { e.Type = state.Delete; return e }

func newTestOverdues(t *testing.T) *overdues {
	o := newOverdues(&run{Reconciler: newWorld(t, newNodes()).reconciler()})
	o.shortest = 10 * time.Second
	return o
}

// asked is what is to be looked at, and forgets it.
func (o *overdues) asked() (volumes []string, walk bool) {
	for v := range o.ask {
		volumes = append(volumes, v)
	}
	slices.Sort(volumes)
	walk, o.ask, o.walk = o.walk, map[string]bool{}, false
	return volumes, walk
}

// What ended while the watch was cut off is found by the list that comes after;
// what also began then, by a walk, if there was time for a window.
func TestOverdue_Relist(t *testing.T) {
	o := newTestOverdues(t)
	began := time.Now()
	at := func(after time.Duration, b state.Batch) {
		t.Helper()
		b.Contact = began.Add(after)
		if err := o.take(b); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(what string, wantWalk bool, want ...string) {
		t.Helper()
		got, walk := o.asked()
		if !slices.Equal(got, want) || walk != wantWalk {
			t.Errorf("%s: to be looked at are %v (walk %v), want %v (walk %v)", what, got, walk, want, wantWalk)
		}
	}
	one, two, three := opened("vol-1", "a", "b"), opened("vol-2", "b", "a"), opened("vol-3", "b", "c")
	at(0, state.Batch{Reset: true, Events: []state.Event{one, two, three}})
	at(0, state.Batch{Synced: true})
	expect("the first list", true)
	at(time.Second, state.Batch{Events: []state.Event{ended(three), opened("vol-4", "a", "a")}})
	expect("another cluster's window ends", false)
	at(2*time.Second, state.Batch{Events: []state.Event{ended(one)}})
	expect("a window ends", false, "vol-1")
	at(10*time.Second, state.Batch{Reset: true, Events: []state.Event{two}})
	at(10*time.Second, state.Batch{Synced: true})
	expect("after a short gap", false, "vol-4")
	at(20*time.Second, state.Batch{Reset: true, Events: nil})
	at(20*time.Second, state.Batch{Synced: true})
	expect("after a gap as long as a window can be short", true, "vol-2")
	broken := ended(opened("vol-5", "", ""))
	m := broken.Record.(state.Migration)
	m.Broken = errors.New("not JSON")
	broken.Record = m
	at(21*time.Second, state.Batch{Events: []state.Event{broken}})
	expect("one that does not decode", false, "vol-5")
	at(22*time.Second, state.Batch{Events: []state.Event{opened("vol-6", "a", "b"), ended(opened("vol-6", "", "")), ended(opened("vol-7", "", ""))}})
	expect("one whose end has its name only", false, "vol-6")
}

// Each leader tells of all, at once and then rarely.
func TestOverdue_ToldAgain(t *testing.T) {
	o := newTestOverdues(t)
	reporter := &told{}
	o.run.cfg.Reporter, o.run.reports = reporter, newReports(testLog(t))
	v := state.Volume{Name: "vol-1", State: state.StateOverdue, Holds: []state.Hold{
		{Cluster: "b", Node: "t", Mode: state.Exclusive, Revision: 9}, {Cluster: "a", Node: "s", Mode: state.Exclusive, Revision: 5}}}
	look := func() {
		o.judge(&v)
		o.publish()
	}
	const text = "overdue vol-1: a/s, b/t"
	look() // it does not lead
	foreign := v
	foreign.Name, foreign.Holds = "vol-2", []state.Hold{
		{Cluster: "b", Node: "t", Mode: state.Exclusive, Revision: 9}, {Cluster: "c", Node: "s", Mode: state.Exclusive, Revision: 5}}
	o.judge(&foreign) // none of the cluster's
	o.lead(true)
	reporter.was(t, "", text)
	look()
	o.late["vol-1"].told = time.Now().Add(-overdueAgain + time.Minute)
	look()
	o.late["vol-1"].told = time.Now().Add(-overdueAgain - time.Minute)
	look()
	reporter.was(t, "", text, text)
	o.lead(false)
	o.lead(true)
	reporter.was(t, "", text, text, text)
	v.Holds = v.Holds[:1]
	v.State = state.StateAttached
	look()
	o.run.reports.end()
	reporter.was(t, "", text, text, text)
	if len(o.late) != 0 || value(o.run.metrics.overdue) != 0 {
		t.Errorf("left are %v, counted %v", o.late, value(o.run.metrics.overdue))
	}
}
