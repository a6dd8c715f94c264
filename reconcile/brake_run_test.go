package reconcile

import (
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

// What the brake does to a running reconciler. How it counts is in brake_test.go.

// brakeWorld is one of ten nodes with an attachment each: n0 has vol-0.
func brakeWorld(t *testing.T) (w *world, names, volumes []string) {
	t.Helper()
	for i := range 10 {
		names, volumes = append(names, fmt.Sprint("n", i)), append(volumes, fmt.Sprint("vol-", i))
	}
	w = newWorld(t, newNodes(names...), noQuarantine)
	for i := range names {
		w.attach(volumes[i], names[i])
	}
	return w, names, volumes
}

func braked(t *testing.T, r *Reconciler) {
	t.Helper()
	eventually(t, "the brake is engaged", func() bool { return value(r.metrics.brake) == 1 })
}

func unbraked(t *testing.T, r *Reconciler) {
	t.Helper()
	eventually(t, "the brake is off", func() bool { return value(r.metrics.brake) == 0 })
}

// mustStay fails if any of the volumes has been removed.
func (w *world) mustStay(volumes ...string) {
	w.t.Helper()
	for _, v := range volumes {
		if !w.held(v) {
			w.t.Errorf("volume %s was removed", v)
		}
	}
}

func TestBrake_OperatorReleases(t *testing.T) {
	t.Parallel()
	w, names, volumes := brakeWorld(t)
	w.nodes.relist(names[:4]...)
	r := w.started()
	braked(t, r)
	for _, n := range names[:4] {
		w.departed(n) // the quarantines would run meanwhile
	}
	eventually(t, "all are held back", func() bool { return value(r.metrics.heldBack.WithLabelValues("braked")) == 4 })
	w.mustStay(volumes...)
	if _, err := w.ledger.ReleaseBrake(t.Context(), "a", "test", "half the rack is off"); err != nil {
		t.Fatal(err)
	}
	w.removed(volumes[:4]...)
	w.mustStay(volumes[4:]...)
	unbraked(t, r)
	// The release covers what the operator saw, and not the next accident.
	w.nodes.relist(names[4:7]...)
	braked(t, r)
	w.mustStay(volumes[4:]...)
}

func TestBrake_NodesComeBack(t *testing.T) {
	t.Parallel()
	w, names, volumes := brakeWorld(t)
	r := w.started()
	w.nodes.relist(names...) // all of them: the list is empty
	braked(t, r)
	if _, err := w.ledger.ReleaseBrake(t.Context(), "a", "test", "go on"); err != nil {
		t.Fatal(err)
	}
	w.judgedAgain(r)
	w.mustStay(volumes...) // nothing releases an empty list
	braked(t, r)
	for _, n := range names[:9] {
		w.nodes.add(n)
	}
	unbraked(t, r)
	w.removed(volumes[9])
	w.mustStay(volumes[:9]...)
}

func TestBrake_OutOfServiceIsNotBraked(t *testing.T) {
	t.Parallel()
	w, names, volumes := brakeWorld(t)
	r := w.started()
	w.nodes.relist(names[:4]...)
	braked(t, r)
	for _, n := range names[4:8] {
		w.nodes.put(tainted(n))
	}
	w.removed(volumes[4:8]...)
	w.mustStay(volumes[:4]...)
}

// Small bites count too, and a restart is no way around them: the window is
// rebuilt from the journal.
func TestBrake_SmallBitesAndRestart(t *testing.T) {
	t.Parallel()
	w, names, volumes := brakeWorld(t)
	r := w.started()
	for i := range 2 {
		w.nodes.remove(names[i])
		w.removed(volumes[i])
	}
	r.Stop()
	r = w.started()
	w.nodes.remove(names[2])
	braked(t, r)
	w.mustStay(volumes[2:]...)
}

// A release covers a departure for as long as that stands, whoever leads and
// however long ago it was given.
func TestBrake_ReleaseOutlivesTheLeader(t *testing.T) {
	t.Parallel()
	w, names, volumes := brakeWorld(t)
	window := func(c *Config) { c.Brake.Window = time.Second }
	first := w.started(window)
	second := w.reconciler(window)
	w.start(second)
	eventually(t, "the second watches", func() bool { return second.watcher.Sources().Loaded() })
	if err := w.ledger.Pause(t.Context(), "a", "test", "let me look", 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the pause is seen", func() bool { return second.watcher.Cluster().Pause != nil && first.watcher.Cluster().Pause != nil })
	for _, n := range names[:4] {
		w.nodes.remove(n)
		w.departed(n)
	}
	braked(t, first)
	released, err := w.ledger.ReleaseBrake(t.Context(), "a", "test", "all is well")
	if err != nil {
		t.Fatal(err)
	}
	unbraked(t, first)
	eventually(t, "the window has passed", func() bool { return time.Since(released.At) > 1500*time.Millisecond })
	first.Stop()
	eventually(t, "the second leads", second.Leading)
	if err := w.ledger.Resume(t.Context(), "a", "test"); err != nil {
		t.Fatal(err)
	}
	w.removed(volumes[:4]...)
}

func TestBrake_WindowPasses(t *testing.T) {
	t.Parallel()
	w, names, volumes := brakeWorld(t)
	r := w.started(func(c *Config) { c.Brake.Window = 2 * time.Second })
	w.nodes.relist(names[:2]...)
	w.removed(volumes[:2]...)
	w.nodes.remove(names[2])
	braked(t, r)
	w.mustStay(volumes[2:]...)
	w.removed(volumes[2])
	unbraked(t, r)
}

func TestBrake_ReleasesByItself(t *testing.T) {
	t.Parallel()
	w, names, volumes := brakeWorld(t)
	r := w.reconciler(func(c *Config) { c.Brake.Release = 500 * time.Millisecond })
	r.aside = time.Hour // whose ticker would look at the brake too
	w.start(r)
	w.nodes.relist(names...)
	braked(t, r)
	w.nodes.add(names[9])
	w.removed(volumes[:9]...)
	w.mustStay(volumes[9])
	got := w.journal(state.ActionBrakeReleased)
	if len(got) == 0 || got[0].By != releasedBy {
		t.Fatalf("journal has %+v, want a release by %s", got, releasedBy)
	}
}

// With no nodes at all it never goes on by itself.
func TestBrake_NeverReleasesAnEmptyList(t *testing.T) {
	t.Parallel()
	w, names, volumes := brakeWorld(t)
	r := w.started(func(c *Config) { c.Brake.Release = 50 * time.Millisecond })
	w.nodes.relist(names...)
	braked(t, r)
	one, since := r.current().term.Load(), time.Now()
	eventually(t, "ten times the release have passed", func() bool {
		one.wake()
		return time.Since(since) > 500*time.Millisecond
	})
	w.mustStay(volumes...)
	if got := w.journal(state.ActionBrakeReleased); len(got) != 0 {
		t.Errorf("journal has %+v, want no release", got)
	}
}

func TestBrake_NodesReplacedCount(t *testing.T) {
	t.Parallel()
	var names, volumes []string
	for i := range 10 {
		names, volumes = append(names, fmt.Sprint("n", i)), append(volumes, fmt.Sprint("vol-", i))
	}
	w := newWorld(t, newNodes(names...), noQuarantine, matchUID)
	for i := range names {
		w.attach(volumes[i], names[i])
	}
	for _, n := range names { // the API server is another cluster's
		node := tainted(n)
		node.UID, node.OutOfService = "another-of-"+n, false
		w.nodes.put(node)
	}
	r := w.started()
	braked(t, r)
	eventually(t, "it is judged", func() bool { return value(r.metrics.heldBack.WithLabelValues("braked")) > 0 })
	held := 0
	for _, v := range volumes {
		if w.held(v) {
			held++
		}
	}
	if held < 8 {
		t.Errorf("%d of 10 volumes are left, want at least the 8 that the brake allows to be kept", held)
	}
}
