package state

import (
	"errors"
	"fmt"
	"testing"
)

func TestDetach(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	attached(t, c, "pvc-1", "node-1")
	d := detached(t, c, "pvc-1", "node-1")
	v := read(t, l, "pvc-1")
	if v.State != StateGrace || len(v.Detachments) != 1 || len(v.Holds)+len(v.Attachments) != 0 {
		t.Fatalf("detached: %+v", v)
	}
	if got := v.Detachments[0]; got.ModRevision != d.ModRevision || got.Lease != d.Lease || got.Grace != DefaultGracePeriod || got.Reason != "detached" {
		t.Errorf("the record reads %+v, and the detach said %+v", got, d)
	}
	e, err := c.Detach(t.Context(), DetachRequest{Volume: "pvc-1", Node: "node-1"})
	if err != nil || e.Existed {
		t.Errorf("detached again: %+v, %v", e, err)
	}
}

func TestDetach_Token(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	old := attached(t, c, "pvc-1", "node-1")
	detached(t, c, "pvc-1", "node-1")
	h := attached(t, c, "pvc-1", "node-1")
	_, err := c.Detach(t.Context(), DetachRequest{Volume: "pvc-1", Node: "node-1", Token: old.Token})
	mustBe(t, err, ErrStaleToken)
	_, err = c.Detach(t.Context(), DetachRequest{Volume: "pvc-1", Node: "node-1", Token: NewToken(7, h.Token.Revision())})
	mustBe(t, err, ErrStaleToken)
	mustHold(t, l, "pvc-1", StateAttached, Place{"a", "node-1"})
	e, err := c.Detach(t.Context(), DetachRequest{Volume: "pvc-1", Node: "node-1", Token: h.Token})
	mustBe(t, err, nil)
	if !e.Existed || e.Detachment.Token != h.Token || read(t, l, "pvc-1").Detachments[0].Token != h.Token {
		t.Errorf("detached by token: %+v", e)
	}
}

// A hold that another process of the cluster made, newer than what this one has
// seen: nothing is ambiguous, so it is found all the same.
func TestDetach_HoldNewerThanSeen(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	attached(t, asCluster(t, again(t, l), "a"), "pvc-1", "node-1")
	l.seen.Store(1)
	detached(t, c, "pvc-1", "node-1")
	l.seen.Store(1)
	attached(t, c, "pvc-1", "node-1")
}

func TestDetach_EmptyNode(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	attached(t, c, "pvc-1", "node-1")
	_, err := c.Detach(t.Context(), DetachRequest{Volume: "pvc-1"})
	mustBe(t, err, ErrInvalid)
	mustHold(t, l, "pvc-1", StateAttached, Place{"a", "node-1"})
}

func TestDetachAll(t *testing.T) {
	l := openLedger(t)
	a, b := asCluster(t, l, "a"), asCluster(t, l, "b")
	for i := range 100 {
		attached(t, a, fmt.Sprintf("pvc-%d", i), "node-1")
	}
	attached(t, a, "other", "node-2")
	attached(t, b, "foreign", "node-1")
	// Lapsed holds have no attachment that leads to them.
	lapse(t, l, "pvc-7", Place{"a", "node-1"})
	ended, err := a.DetachAll(t.Context(), DetachAllRequest{Node: "node-1"})
	mustBe(t, err, nil)
	if len(ended) != 100 {
		t.Errorf("ended %d holds, want 100", len(ended))
	}
	mustHold(t, l, "pvc-7", StateGrace)
	mustHold(t, l, "other", StateAttached, Place{"a", "node-2"})
	mustHold(t, l, "foreign", StateAttached, Place{"b", "node-1"})

	for _, n := range []string{"node-1", "node-2"} {
		if _, err := a.Attach(t.Context(), AttachRequest{Volume: "shared", Node: n, Mode: Shared}); err != nil {
			t.Fatal(err)
		}
	}
	ended, err = a.DetachAll(t.Context(), DetachAllRequest{Volume: "shared"})
	if err != nil || len(ended) != 2 {
		t.Errorf("ended %d shared holds, %v", len(ended), err)
	}
	for _, bad := range []DetachAllRequest{{}, {Volume: "v", Node: "n"}, {Node: "Not A Node"}} {
		_, err := a.DetachAll(t.Context(), bad)
		mustBe(t, err, ErrInvalid)
	}
}

// What was read about a detach before it is what it ends: see resend_test.go
// for the late and the lost.
func TestDetach_Frozen(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	attached(t, c, "pvc-1", "node-1")
	attached(t, c, "pvc-2", "node-1")
	mustBe(t, l.Freeze(t.Context(), "op", "restored"), nil)
	detached(t, c, "pvc-1", "node-1")
	if _, err := c.DetachAll(t.Context(), DetachAllRequest{Volume: "pvc-2"}); err != nil {
		t.Error(err)
	}
	_, err := c.Attach(t.Context(), AttachRequest{Volume: "pvc-1", Node: "node-1"})
	mustBe(t, err, ErrFrozen)
	_, err = c.Migrate(t.Context(), MigrateRequest{Volume: "pvc-1", Source: "node-1", SourceToken: 1, Target: Place{Node: "node-2"}})
	mustBe(t, err, ErrFrozen)
	mustBe(t, l.Unfreeze(t.Context(), "op", false), nil)
	attached(t, c, "pvc-1", "node-1")
	var conflict *ConflictError
	mustBe(t, l.Unfreeze(t.Context(), "op", false), ErrNotFound)
	if errors.As(err, &conflict) {
		t.Error("a frozen ledger is no conflict")
	}
}

// A freeze by another process stops this one's very next attach: it is compared.
func TestFreeze_StopsWhoHasNotSeenIt(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, again(t, l), "a")
	mustBe(t, l.Freeze(t.Context(), "op", "why not"), nil)
	_, err := c.Attach(t.Context(), AttachRequest{Volume: "pvc-1", Node: "node-1"})
	mustBe(t, err, ErrFrozen)
	mustHold(t, l, "pvc-1", StateFree)
	mustBe(t, l.Unfreeze(t.Context(), "op", true), nil)
	if h := attached(t, c, "pvc-1", "node-1"); h.Token.Epoch() != 1 {
		t.Errorf("attached after a restore was accepted, under epoch %d", h.Token.Epoch())
	}
	entries := journal(t, l, "")
	if len(entries) != 2 || entries[0].Action != ActionFrozen || entries[1].Action != ActionUnfrozen || entries[1].Reason != "restored" {
		t.Errorf("journal: %+v", entries)
	}
}
