package state

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/state/statetest"
)

// follow watches a scope and hands its batches to the test.
func follow(t *testing.T, l *Ledger, s Scope) <-chan Batch {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out := make(chan Batch, 1000)
	done := make(chan error, 1)
	go func() {
		done <- l.Watch(ctx, s, func(b Batch) error { out <- b; return nil })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("the watch ended with %v", err)
		}
	})
	return out
}

// next waits for a batch that fits.
func next(t *testing.T, batches <-chan Batch, fits func(Batch) bool) Batch {
	t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		select {
		case b := <-batches:
			if fits(b) {
				return b
			}
		case <-timeout:
			t.Fatal("no such batch")
		}
	}
}

func withEvents(b Batch) bool { return len(b.Events) > 0 }

func TestWatch(t *testing.T) {
	l := openLedger(t)
	c, other := asCluster(t, l, "a"), asCluster(t, l, "b")
	first := attached(t, c, "pvc-1", "node-1")
	batches := follow(t, l, ScopeAttachments("a"))
	b := next(t, batches, func(Batch) bool { return true })
	if !b.Reset || len(b.Events) != 1 || b.Events[0].Record.(Attachment).Token != first.Token {
		t.Fatalf("the list is %+v", b)
	}
	next(t, batches, func(b Batch) bool { return b.Synced })
	attached(t, other, "pvc-9", "node-1")
	second := attached(t, c, "pvc-2", "node-1")
	b = next(t, batches, withEvents)
	if at := b.Events[0].Record.(Attachment); at.Volume != "pvc-2" || at.Token != second.Token || b.Revision != second.Revision {
		t.Errorf("a put is told as %+v", b)
	}
	d := detached(t, c, "pvc-1", "node-1")
	b = next(t, batches, withEvents)
	if e := b.Events[0]; e.Type != Delete || e.Record.(Attachment).Volume != "pvc-1" || e.Revision != d.ModRevision || e.Broken != nil {
		t.Errorf("a delete is told as %+v", b)
	}
	// A quiet watch gives a sign of life, complete up to a revision.
	attached(t, other, "pvc-10", "node-1")
	at := read(t, l, "x").Revision
	b = next(t, batches, func(b Batch) bool { return b.Revision >= at })
	if len(b.Events) != 0 || b.Contact.IsZero() {
		t.Errorf("progress is told as %+v", b)
	}
}

// An etcd in which nothing at all is written is no dead one: every watch goes on
// giving signs of life.
func TestWatch_QuietEtcd(t *testing.T) {
	l := openAt(t, statetest.Start(t).Endpoints(), "/holdfast/")
	var watches []<-chan Batch
	for _, s := range []Scope{ScopeAttachments("a"), ScopeLedger(), ScopePause("a")} {
		batches := follow(t, l, s)
		next(t, batches, func(b Batch) bool { return b.Synced })
		watches = append(watches, batches)
	}
	for _, batches := range watches {
		for range 2 {
			next(t, batches, func(b Batch) bool { return len(b.Events) == 0 && !b.Reset })
		}
	}
}

func TestWatch_SingleKeysAndDeletes(t *testing.T) {
	l := openLedger(t)
	pauses := follow(t, l, ScopePause("a"))
	ledger := follow(t, l, ScopeLedger())
	graces := follow(t, l, ScopeDetachments("pvc-1"))
	for _, ch := range []<-chan Batch{pauses, ledger, graces} {
		next(t, ch, func(b Batch) bool { return b.Synced })
	}
	mustBe(t, l.Pause(t.Context(), "a-b", "op", "another", 0), nil)
	mustBe(t, l.Pause(t.Context(), "a", "op", "why", 0), nil)
	if e := next(t, pauses, withEvents).Events[0]; e.Record.(Pause).Why != "why" {
		t.Errorf("%+v", e)
	}
	mustBe(t, l.Freeze(t.Context(), "op", "why"), nil)
	if e := next(t, ledger, withEvents).Events[0]; e.Record.(LedgerRecord).Frozen == nil {
		t.Errorf("%+v", e)
	}
	mustBe(t, l.Unfreeze(t.Context(), "op", false), nil)
	journals := follow(t, l, ScopeJournal("", time.Now()))
	if b := next(t, journals, withEvents); len(b.Events) != 4 { // two pauses, a freeze, an unfreeze
		t.Errorf("the journal of all has %d entries, want 4", len(b.Events))
	}
	c := asCluster(t, l, "a")
	attached(t, c, "pvc-1", "node-1")
	d := detached(t, c, "pvc-1", "node-1")
	next(t, graces, withEvents)
	mustBe(t, c.Clear(t.Context(), d), nil)
	e := next(t, graces, withEvents).Events[0]
	if got := e.Record.(Detachment); e.Type != Delete || got.Node != "node-1" || got.Grace != d.Grace || got.Lease != d.Lease {
		t.Errorf("the end of a grace is told as %+v", e)
	}
}

// A watch that falls behind a compaction lists anew.
func TestWatch_ListsAnewAfterCompaction(t *testing.T) {
	proxy, through, l := proxied(t)
	c := asCluster(t, l, "a")
	attached(t, c, "pvc-1", "node-1")
	batches := follow(t, through, ScopeAttachments("a"))
	next(t, batches, func(b Batch) bool { return b.Synced })
	proxy.Cut()
	detached(t, c, "pvc-1", "node-1")
	for i := range 10 {
		attached(t, c, fmt.Sprintf("new-%d", i), "node-1")
	}
	if _, err := l.client.Compact(t.Context(), read(t, l, "x").Revision); err != nil {
		t.Fatal(err)
	}
	proxy.Resume()
	b := next(t, batches, func(b Batch) bool { return b.Reset })
	if len(b.Events) != 10 {
		t.Errorf("the new list has %d records, want 10", len(b.Events))
	}
	next(t, batches, func(b Batch) bool { return b.Synced })
	attached(t, c, "after", "node-1")
	next(t, batches, func(b Batch) bool { return withEvents(b) && b.Events[0].Record.(Attachment).Volume == "after" })
}

func TestWatch_HandlerFails(t *testing.T) {
	l := openLedger(t)
	own := errors.New("enough")
	mustBe(t, l.Watch(t.Context(), ScopeAll(), func(Batch) error { return own }), own)
}

// The windows of all clusters, and which one it was that ended.
func TestWatch_Migrations(t *testing.T) {
	l := openLedger(t)
	a, b := asCluster(t, l, "a"), asCluster(t, l, "b")
	attached(t, a, "pvc-1", "node-1")
	attached(t, b, "pvc-2", "node-1")
	target := Place{Cluster: "b", Node: "node-2"}
	began, err := a.Migrate(t.Context(), MigrateRequest{Volume: "pvc-1", Source: "node-1", Target: target})
	if err != nil {
		t.Fatal(err)
	}
	batches := follow(t, l, ScopeMigrations())
	listed := next(t, batches, withEvents)
	if m, ok := listed.Events[0].Record.(Migration); !ok || !listed.Reset || m.Volume != "pvc-1" || m.Target != target {
		t.Errorf("the list is %+v", listed)
	}
	if _, err := b.Migrate(t.Context(), MigrateRequest{Volume: "pvc-2", Source: "node-1", Target: target}); err != nil {
		t.Fatal(err)
	}
	if e := next(t, batches, withEvents).Events[0]; e.Type != Put || e.Record.(Migration).Volume != "pvc-2" {
		t.Errorf("the window that opened is %+v", e)
	}
	if err := a.Commit(t.Context(), began); err != nil {
		t.Fatal(err)
	}
	e := next(t, batches, withEvents).Events[0]
	if m := e.Record.(Migration); e.Type != Delete || m.Volume != "pvc-1" || m.Source != (Place{Cluster: "a", Node: "node-1"}) || m.Target != target {
		t.Errorf("the window that ended is %+v", e)
	}
}
