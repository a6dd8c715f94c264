package reconcile

import (
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/state/statetest"
	"github.com/holdfast-storage/holdfast/watch"
)

// etcd ends a quarantine early (it stood still, and took the put on a lease that
// was over) and the leader, which would have put it again, is killed before the
// answer. Who takes over has seen it all, and waits by its own clock.
func TestQuarantineEndedEarlyAndLeaderKilled(t *testing.T) {
	t.Parallel()
	const quarantine = 4 * time.Second
	w := newWorld(t, newNodes("n1", "n2"), shortWaits, func(c *state.Config) { c.Quarantine = quarantine })
	w.attach("vol-1", "n2")
	leader := w.lead() // one that leads and does nothing
	r := w.reconciler()
	w.start(r)
	eventually(t, "the replica watches", func() bool { return r.watcher.Sources().Loaded() })
	w.nodes.remove("n2")
	began := time.Now()
	if _, err := leader.Depart(t.Context(), state.Departure{Node: "n2", Reason: state.NodeGone}, quarantine); err != nil {
		t.Fatal(err)
	}
	key := w.prefix + "v1/quarantines/a/n2"
	if _, err := statetest.Shared(t).Client(t).Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	leader.Resign()
	w.removed("vol-1")
	if took := time.Since(began); took < quarantine {
		t.Errorf("removed %s after the departure, within its quarantine of %s", took, quarantine)
	}
	if n := w.departures("n2"); n != 1 {
		t.Errorf("%d departures, want 1: what has passed of the wait counts", n)
	}
}

func TestUnwaited(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, c := range map[string]struct {
		reason           state.DepartureReason
		ago, waits, want time.Duration
	}{
		"within":         {state.NodeGone, 15 * time.Second, 40 * time.Second, 25 * time.Second},
		"over":           {state.NodeGone, 40 * time.Second, 40 * time.Second, 0},
		"no quarantine":  {state.NodeGone, 0, state.NoQuarantine, 0},
		"out of service": {state.OutOfService, 0, 40 * time.Second, 0},
	} {
		n := watch.NodeView{Departure: &state.Departure{Reason: c.reason}, DepartureSeen: now.Add(-c.ago)}
		if got := unwaited(n, c.waits, now); got != c.want {
			t.Errorf("%s: %s left, want %s", name, got, c.want)
		}
	}
	if got := unwaited(watch.NodeView{}, time.Minute, now); got != 0 {
		t.Errorf("no departure: %s left", got)
	}
}
