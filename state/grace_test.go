package state

import (
	"errors"
	"testing"
	"time"
)

func TestIsWithinGracePeriod_NoDetachTimestamp(t *testing.T) {
	l := openLedger(t)
	for _, period := range []time.Duration{time.Nanosecond, 30 * time.Second, 24 * time.Hour} {
		if read(t, l, "pvc-1").WithinGrace(period) {
			t.Errorf("a volume that was never attached is within a grace period of %s", period)
		}
	}
	if read(t, l, "pvc-1").InGrace() {
		t.Error("a volume that was never attached is in its grace period")
	}
}

func TestIsWithinGracePeriod_WithinPeriod(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	attached(t, c, "pvc-1", "node-1")
	if read(t, l, "pvc-1").InGrace() {
		t.Error("an attached volume is in its grace period")
	}
	detached(t, c, "pvc-1", "node-1")
	if v := read(t, l, "pvc-1"); !v.InGrace() || !v.WithinGrace(30*time.Second) || v.State != StateGrace {
		t.Errorf("just detached: in grace %v, within 30 s %v, state %s", v.InGrace(), v.WithinGrace(30*time.Second), v.State)
	}
}

func TestIsWithinGracePeriod_OutsidePeriod(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	attached(t, c, "pvc-1", "node-1")
	detached(t, c, "pvc-1", "node-1")
	if read(t, l, "pvc-1").WithinGrace(time.Nanosecond) {
		t.Error("within a grace period of 1 ns after the detach")
	}
}

func TestGetDetachTimestamp(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	if at := read(t, l, "pvc-1").DetachedAt(); !at.IsZero() {
		t.Errorf("never attached, and detached at %s", at)
	}
	attached(t, c, "pvc-1", "node-1")
	before := time.Now().Add(-time.Second)
	detached(t, c, "pvc-1", "node-1")
	if at := read(t, l, "pvc-1").DetachedAt(); at.Before(before) || at.After(time.Now().Add(time.Second)) {
		t.Errorf("detached just now, and the record says %s", at)
	}
}

func TestClearDetachTimestamp(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	attached(t, c, "pvc-1", "node-1")
	d := detached(t, c, "pvc-1", "node-1")
	mustBe(t, c.Clear(t.Context(), d), nil)
	if v := read(t, l, "pvc-1"); v.InGrace() || v.WithinGrace(time.Hour) || v.State != StateFree {
		t.Errorf("cleared, and still %s: %+v", v.State, v.Detachments)
	}
	mustBe(t, c.Clear(t.Context(), d), ErrNotFound)
}

func TestClear_RenewedSince(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	attached(t, c, "pvc-1", "node-1")
	old := detached(t, c, "pvc-1", "node-1")
	attached(t, c, "pvc-1", "node-1")
	detached(t, c, "pvc-1", "node-1")
	mustBe(t, c.Clear(t.Context(), old), ErrConflict)
	if !read(t, l, "pvc-1").InGrace() {
		t.Error("the clear of an older detachment ended the newer one's grace")
	}
}

func TestGracePeriod_LiveMigrationScenario(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	attached(t, c, "pvc-1", "node-1")
	d := detached(t, c, "pvc-1", "node-1")
	if !read(t, l, "pvc-1").InGrace() {
		t.Fatal("detached, and not in grace")
	}
	mustBe(t, c.Clear(t.Context(), d), nil)
	attached(t, c, "pvc-1", "node-2")
	mustHold(t, l, "pvc-1", StateAttached, Place{"a", "node-2"})
}

// A grace ends by itself, with every process of ours gone, and not before.
func TestGrace_EndsByItself(t *testing.T) {
	l := openLedger(t)
	w := again(t, l, shortGrace)
	c := asCluster(t, w, "a")
	attached(t, c, "pvc-1", "node-1")
	before := time.Now()
	detached(t, c, "pvc-1", "node-1")
	mustBe(t, w.Close(), nil)
	gone(t, l, l.keys.detachment("pvc-1", Exclusive, "a", "node-1"))
	if after := time.Since(before); after < floorGrace {
		t.Errorf("a grace of %s ended after %s", floorGrace, after)
	}
	mustHold(t, l, "pvc-1", StateFree)
}

func TestGrace_SurvivesRestart(t *testing.T) {
	l := openLedger(t)
	first := again(t, l)
	attached(t, asCluster(t, first, "a"), "pvc-1", "node-1")
	d := detached(t, asCluster(t, first, "a"), "pvc-1", "node-1")
	mustBe(t, first.Close(), nil)

	for _, cluster := range []string{"a", "b"} {
		second := again(t, l)
		asCluster(t, second, cluster)
		v := read(t, second, "pvc-1")
		if !v.InGrace() || !v.DetachedAt().Equal(d.At) {
			t.Errorf("after a restart, from cluster %s: in grace %v since %s, want since %s", cluster, v.InGrace(), v.DetachedAt(), d.At)
		}
	}
}

// Two graces of different lengths on one volume: each ends at its own time.
func TestGrace_EachAtItsOwnTime(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	for _, n := range []string{"node-1", "node-2"} {
		if _, err := c.Attach(t.Context(), AttachRequest{Volume: "pvc-1", Node: n, Mode: Shared}); err != nil {
			t.Fatal(err)
		}
	}
	for n, grace := range map[string]time.Duration{"node-1": time.Minute, "node-2": floorGrace} {
		if _, err := c.Detach(t.Context(), DetachRequest{Volume: "pvc-1", Node: n, Grace: grace}); err != nil {
			t.Fatal(err)
		}
	}
	begun := time.Now()
	gone(t, l, l.keys.detachment("pvc-1", Shared, "a", "node-2"))
	if time.Since(begun) > 40*time.Second {
		t.Errorf("a grace of 2 s took %s", time.Since(begun))
	}
	v := read(t, l, "pvc-1")
	if len(v.Detachments) != 1 || v.Detachments[0].Node != "node-1" {
		t.Fatalf("after the shorter grace: %+v", v.Detachments)
	}
	if left, err := l.TimeLeft(t.Context(), v.Detachments[0].Lease); err != nil || left < 15*time.Second {
		t.Errorf("the longer grace has %s left, %v", left, err)
	}
}

// An older detach must not let a third node have what the second one holds.
func TestGrace_OfOlderDetachDoesNotEvict(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	attached(t, c, "pvc-1", "node-a")
	detached(t, c, "pvc-1", "node-a")
	b := attached(t, c, "pvc-1", "node-b")
	_, err := c.Attach(t.Context(), AttachRequest{Volume: "pvc-1", Node: "node-c"})
	mustBe(t, err, ErrConflict)
	if v := read(t, l, "pvc-1"); len(v.Holds) != 1 || v.Holds[0].Token != b.Token {
		t.Errorf("node-b's hold is %+v, want token %s", v.Holds, b.Token)
	}
}

// A foreign grace keeps other clusters out; its own cluster is let in at once.
func TestGrace_Foreign(t *testing.T) {
	l := openLedger(t)
	a, b := asCluster(t, l, "a"), asCluster(t, l, "b")
	attached(t, a, "pvc-1", "node-1")
	detached(t, a, "pvc-1", "node-1")
	_, err := b.Attach(t.Context(), AttachRequest{Volume: "pvc-1", Node: "node-1"})
	mustBe(t, err, ErrInGrace)
	var ge *GraceError
	if !errors.As(err, &ge) || ge.Left <= 0 || len(ge.Detachments) != 1 || ge.Detachments[0].Cluster != "a" {
		t.Errorf("the refusal says %+v", err)
	}
	attached(t, a, "pvc-1", "node-2")
	detached(t, a, "pvc-1", "node-2")
	if _, err := b.Attach(t.Context(), AttachRequest{Volume: "pvc-1", Node: "node-1", IgnoreGrace: true, Why: "a is gone"}); err != nil {
		t.Fatal(err)
	}
	v := read(t, l, "pvc-1")
	if len(v.Detachments) != 0 || v.State != StateAttached {
		t.Errorf("attached past the grace: %s, detachments %+v", v.State, v.Detachments)
	}
	if e := journal(t, l, "b"); len(e) != 1 || e[0].Action != ActionForced || e[0].Why != "a is gone" {
		t.Errorf("journal: %+v", e)
	}
}

// A shared detach reserves the volume for nobody.
func TestGrace_SharedReservesNothing(t *testing.T) {
	l := openLedger(t)
	a, b := asCluster(t, l, "a"), asCluster(t, l, "b")
	if _, err := a.Attach(t.Context(), AttachRequest{Volume: "pvc-1", Node: "node-1", Mode: Shared}); err != nil {
		t.Fatal(err)
	}
	detached(t, a, "pvc-1", "node-1")
	attached(t, b, "pvc-1", "node-1")
}

func journal(t testing.TB, l *Ledger, cluster string) []Entry {
	t.Helper()
	var out []Entry
	for e, err := range l.Journal(t.Context(), cluster, time.Time{}) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, e)
	}
	return out
}
