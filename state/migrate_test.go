package state

import (
	"errors"
	"testing"
	"time"
)

func migrating(t testing.TB, c *Cluster, volume, source string, target Place, window time.Duration) Migration {
	t.Helper()
	m, err := c.Migrate(t.Context(), MigrateRequest{Volume: volume, Source: source, Target: target, Window: window})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMigrate_CommitAndAbort(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	source := attached(t, c, "pvc-1", "node-1")
	m := migrating(t, c, "pvc-1", "node-1", Place{Node: "node-2"}, 0)
	if m.SourceToken != source.Token || m.TargetToken <= m.SourceToken {
		t.Errorf("tokens %s and %s, the source's was %s", m.SourceToken, m.TargetToken, source.Token)
	}
	v := read(t, l, "pvc-1")
	if v.State != StateMigrating || v.Migration == nil || v.Migration.TargetToken != m.TargetToken || v.Holds[1].Token != m.TargetToken {
		t.Fatalf("migrating: %+v", v)
	}
	mustBe(t, c.Commit(t.Context(), m), nil)
	mustHold(t, l, "pvc-1", StateAttached, Place{"a", "node-2"})
	mustBe(t, c.Commit(t.Context(), m), ErrNotFound)
	mustBe(t, c.Abort(t.Context(), m), ErrNotFound)
	mustHold(t, l, "pvc-1", StateAttached, Place{"a", "node-2"})

	m = migrating(t, c, "pvc-1", "node-2", Place{Node: "node-3"}, 0)
	mustBe(t, c.Abort(t.Context(), m), nil)
	mustHold(t, l, "pvc-1", StateAttached, Place{"a", "node-2"})
}

func TestMigrate_NeverAThird(t *testing.T) {
	l := openLedger(t)
	a, b := asCluster(t, l, "a"), asCluster(t, l, "b")
	attached(t, a, "pvc-1", "node-1")
	m := migrating(t, a, "pvc-1", "node-1", Place{Node: "node-2"}, 0)
	_, err := a.Attach(t.Context(), AttachRequest{Volume: "pvc-1", Node: "node-3"})
	mustBe(t, err, ErrConflict)
	_, err = b.Attach(t.Context(), AttachRequest{Volume: "pvc-1", Node: "node-1"})
	mustBe(t, err, ErrConflict)
	for _, from := range []string{"node-1", "node-2"} {
		_, err = a.Migrate(t.Context(), MigrateRequest{Volume: "pvc-1", Source: from, Target: Place{Node: "node-3"}})
		mustBe(t, err, ErrConflict)
	}
	mustHold(t, l, "pvc-1", StateMigrating, Place{"a", "node-1"}, Place{"a", "node-2"})
	// Standing by either side changes nothing.
	for _, n := range []string{"node-1", "node-2"} {
		attached(t, a, "pvc-1", n)
	}
	if v := read(t, l, "pvc-1"); v.Migration == nil || v.Migration.Revision != m.Revision {
		t.Errorf("the window is %+v", v.Migration)
	}
}

func TestMigrate_Refusals(t *testing.T) {
	l := openLedger(t)
	a, b := asCluster(t, l, "a"), asCluster(t, l, "b")
	migrate := func(c *Cluster, volume, source string, token Token, target Place) error {
		_, err := c.Migrate(t.Context(), MigrateRequest{Volume: volume, Source: source, SourceToken: token, Target: target})
		return err
	}
	to := Place{Node: "node-9"}
	mustBe(t, migrate(a, "free", "node-1", 0, to), ErrNotFound)
	mustBe(t, migrate(a, "free", "node-1", 5, to), ErrNotFound)
	h := attached(t, a, "pvc-1", "node-1")
	mustBe(t, migrate(a, "pvc-1", "node-2", 0, to), ErrConflict)
	mustBe(t, migrate(a, "pvc-1", "node-2", h.Token, to), ErrConflict)
	mustBe(t, migrate(b, "pvc-1", "node-1", 0, to), ErrConflict)
	mustBe(t, migrate(a, "pvc-1", "node-1", h.Token+1, to), ErrStaleToken)
	mustBe(t, migrate(a, "pvc-1", "node-1", 0, Place{Node: "node-1"}), ErrInvalid)
	mustBe(t, migrate(a, "pvc-1", "node-1", 0, Place{Cluster: "unknown", Node: "node-1"}), ErrNotFound)
	if _, err := a.Attach(t.Context(), AttachRequest{Volume: "shared", Node: "node-1", Mode: Shared}); err != nil {
		t.Fatal(err)
	}
	mustBe(t, migrate(a, "shared", "node-1", 0, to), ErrConflict)
	mustHold(t, l, "pvc-1", StateAttached, Place{"a", "node-1"})
}

// A plain detach of either side ends the migration too.
func TestMigrate_DetachOfEitherSide(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	for loser, winner := range map[string]string{"node-1": "node-2", "node-2": "node-1"} {
		volume := "pvc-" + loser
		attached(t, c, volume, "node-1")
		migrating(t, c, volume, "node-1", Place{Node: "node-2"}, 0)
		detached(t, c, volume, loser)
		mustHold(t, l, volume, StateAttached, Place{"a", winner})
		if m := read(t, l, volume).Migration; m != nil {
			t.Errorf("after the detach of %s the window is still there: %+v", loser, m)
		}
	}
}

// The window ends by itself, with every process gone and a restart between,
// and leaves the volume overdue: never a third hold.
func TestMigrate_WindowEndsByItself(t *testing.T) {
	l := openLedger(t)
	first := again(t, l)
	c := asCluster(t, first, "a")
	attached(t, c, "pvc-1", "node-1")
	begun := time.Now()
	m := migrating(t, c, "pvc-1", "node-1", Place{Node: "node-2"}, floorGrace)
	mustBe(t, first.Close(), nil)
	if v := read(t, l, "pvc-1"); v.Migration == nil || !v.Migration.Deadline.Equal(m.Deadline) {
		t.Fatalf("after a restart the window is %+v, want until %s", v.Migration, m.Deadline)
	}
	gone(t, l, l.keys.migration("pvc-1"))
	if took := time.Since(begun); took < floorGrace {
		t.Errorf("a window of %s ended after %s", floorGrace, took)
	}
	mustHold(t, l, "pvc-1", StateOverdue, Place{"a", "node-1"}, Place{"a", "node-2"})
	c = asCluster(t, l, "a")
	_, err := c.Attach(t.Context(), AttachRequest{Volume: "pvc-1", Node: "node-3"})
	mustBe(t, err, ErrConflict)
	_, err = c.Migrate(t.Context(), MigrateRequest{Volume: "pvc-1", Source: "node-1", Target: Place{Node: "node-3"}})
	mustBe(t, err, ErrConflict)
	mustBe(t, c.Commit(t.Context(), m), ErrNotFound)
	detached(t, c, "pvc-1", "node-1")
	mustHold(t, l, "pvc-1", StateAttached, Place{"a", "node-2"})
}

// The target's attachment is its own cluster's: it lapses with that one.
func TestMigrate_TargetOfAnotherCluster(t *testing.T) {
	l := openLedger(t)
	a, b := asCluster(t, l, "a"), asCluster(t, l, "b")
	attached(t, a, "pvc-1", "node-1")
	migrating(t, a, "pvc-1", "node-1", Place{"b", "node-1"}, 0)
	attachments := read(t, l, "pvc-1").Attachments
	if len(attachments) != 2 || attachments[0].Lease == attachments[1].Lease {
		t.Fatalf("the two sides have attachments %+v", attachments)
	}
	lapse(t, l, "pvc-1", Place{"b", "node-1"})
	for _, h := range read(t, l, "pvc-1").Holds {
		if h.Lapsed != (h.Cluster == "b") {
			t.Errorf("the hold of cluster %s: lapsed %v", h.Cluster, h.Lapsed)
		}
	}
	// And more of them do not share a lease with the source's.
	attached(t, a, "pvc-2", "node-1")
	migrating(t, a, "pvc-2", "node-1", Place{"b", "node-1"}, 0)
	leases := map[LeaseID]map[string]bool{}
	for _, c := range []string{"a", "b"} {
		for at, err := range l.Attachments(t.Context(), c, "") {
			mustBe(t, err, nil)
			if leases[at.Lease] == nil {
				leases[at.Lease] = map[string]bool{}
			}
			leases[at.Lease][at.Cluster] = true
		}
	}
	for id, clusters := range leases {
		if len(clusters) > 1 {
			t.Errorf("lease %s is shared by two clusters", id)
		}
	}
	// The target's cluster ends its own side; the source's goes on.
	detached(t, b, "pvc-1", "node-1")
	mustHold(t, l, "pvc-1", StateAttached, Place{"a", "node-1"})
}

func TestMigrate_TargetDetachedSince(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	attached(t, c, "pvc-1", "node-2")
	detached(t, c, "pvc-1", "node-2")
	attached(t, c, "pvc-1", "node-1")
	l.seen.Store(1) // as a process that has not seen the target's detachment
	migrating(t, c, "pvc-1", "node-1", Place{Node: "node-2"}, 0)
	mustHold(t, l, "pvc-1", StateMigrating, Place{"a", "node-1"}, Place{"a", "node-2"})
	if errors.Is(errPast, ErrConflict) {
		t.Error("errPast is the writer's own")
	}
}
