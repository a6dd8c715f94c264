package watch

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

const detachmentJSON = `{"at":"2026-01-02T03:04:05Z","graceMs":30000,"reason":"detach","by":"test"}`

// waitForGrace has a node wait for the grace of a volume, and checks that it does.
func waitForGrace(t *testing.T, s *stage, node, volume string) {
	t.Helper()
	s.w.WatchGrace(node, volume)
	if !s.w.Node(node).InGrace[volume] {
		t.Fatalf("%s does not wait for the grace of %s", node, volume)
	}
}

func (s *stage) graceWatches() (watching, queued int) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return len(s.w.graces.watching), len(s.w.graces.queued)
}

func TestWatchGrace_EndOfTheGraceRequeues(t *testing.T) {
	s := newStage(t, nil)
	s.attach("v/1", "gone")
	s.put("detachments/v%2F1/x/a/gone", detachmentJSON)
	s.put("detachments/v%2F1/s/a/gone", detachmentJSON)
	s.put("detachments/v%2F1/x/b/gone", detachmentJSON) // another cluster's
	s.run("n1")
	s.until("gone", "missing", func(v NodeView) bool { return len(v.Attachments) == 1 })

	waitForGrace(t, s, "gone", "v/1")
	waitForGrace(t, s, "gone", "v/1")
	eventually(t, "the volume is watched", func() bool { n, _ := s.graceWatches(); return n == 1 })
	s.del("detachments/v%2F1/x/a/gone")
	s.attach("v2", "gone") // comes on the queue, with the grace still on
	s.until("gone", "in grace", func(v NodeView) bool { return len(v.Attachments) == 2 && v.InGrace["v/1"] })
	s.del("detachments/v%2F1/s/a/gone")
	s.until("gone", "out of grace", func(v NodeView) bool { return len(v.InGrace) == 0 })
	eventually(t, "no one watches", func() bool { n, q := s.graceWatches(); return n+q == 0 })
}

// A grace as it really ends: its lease runs out.
func TestWatchGrace_RealGrace(t *testing.T) {
	s := newStage(t, nil)
	s.attach("v1", "gone")
	s.detach("v1", "gone", 2*time.Second)
	s.attach("v1", "gone") // the same node takes it back
	s.run("n1")
	waitForGrace(t, s, "gone", "v1")
	s.until("gone", "out of grace", func(v NodeView) bool { return len(v.InGrace) == 0 })
	v, err := s.cluster.Ledger().Volume(t.Context(), "v1")
	if err != nil || len(v.Detachments) > 0 || len(v.Holds) != 1 {
		t.Errorf("etcd has %+v (%v), want the hold and no detachment", v, err)
	}
}

func TestWatchGrace_NothingToWaitFor(t *testing.T) {
	s := newStage(t, nil)
	s.w.WatchGrace("gone", "v1") // before Run
	s.attach("v1", "gone")
	s.run("n1")
	s.w.WatchGrace("gone", "v9")
	s.w.WatchGrace("n9", "v1")
	if v := s.w.Node("gone"); len(v.InGrace) > 0 {
		t.Errorf("waits for %v", v.InGrace)
	}
	// There is none: known as soon as etcd has said so.
	waitForGrace(t, s, "gone", "v1")
	s.until("gone", "out of grace", func(v NodeView) bool { return len(v.InGrace) == 0 })
}

// Two nodes of one volume share a watch; each is told of its own.
func TestWatchGrace_TwoNodesOfOneVolume(t *testing.T) {
	s := newStage(t, nil)
	for _, node := range []string{"g1", "g2"} {
		s.put("attachments/a/"+node+"/v1", attachmentJSON("shared"))
		s.put("detachments/v1/s/a/"+node, detachmentJSON)
	}
	s.run("n1")
	waitForGrace(t, s, "g1", "v1")
	waitForGrace(t, s, "g2", "v1")
	s.del("detachments/v1/s/a/g2")
	s.until("g2", "out of grace", func(v NodeView) bool { return len(v.InGrace) == 0 })
	if n, _ := s.graceWatches(); n != 1 || !s.w.Node("g1").InGrace["v1"] {
		t.Errorf("%d watches, g1 waits: %v; want one, and that it does", n, s.w.Node("g1").InGrace)
	}
	// The attachment goes: no one waits, and nothing is watched.
	s.del("attachments/a/g1/v1")
	eventually(t, "no one watches", func() bool { n, q := s.graceWatches(); return n+q == 0 })
}

// Many volumes: a few are watched at a time, and each gets its turn.
func TestWatchGrace_IsBounded(t *testing.T) {
	const volumes, bound = 20, 3
	s := newStage(t, nil)
	for i := range volumes {
		s.put(fmt.Sprintf("attachments/a/gone/v%d", i), attachmentJSON("exclusive"))
		s.put(fmt.Sprintf("detachments/v%d/x/a/gone", i), detachmentJSON)
	}
	s.run("n1")
	s.w.mu.Lock()
	s.w.graces.bound = bound
	s.w.mu.Unlock()
	for i := range volumes {
		waitForGrace(t, s, "gone", fmt.Sprintf("v%d", i))
	}
	eventually(t, "as many are watched as may be", func() bool { n, q := s.graceWatches(); return n == bound && q == volumes-bound })
	// Those that wait for a place may come to be unwanted meanwhile.
	s.del("attachments/a/gone/v19")
	eventually(t, "v19 is gone", func() bool { return s.w.Cluster().Attachments == volumes-1 })
	for i := range volumes {
		if n, _ := s.graceWatches(); n > bound {
			t.Errorf("%d watches, want at most %d", n, bound)
		}
		s.del(fmt.Sprintf("detachments/v%d/x/a/gone", i))
	}
	s.until("gone", "out of every grace", func(v NodeView) bool { return len(v.InGrace) == 0 })
	eventually(t, "no one watches", func() bool { n, q := s.graceWatches(); return n+q == 0 })
}

// The same, step by step.
func TestGraces_WantedAgainWhileTheWatchEnds(t *testing.T) {
	w := &Watcher{index: newIndex("a", false, true), graces: newGraces()}
	g, at := &w.graces, waiter{node: "n", volume: "v"}
	g.add(at)
	g.add(waiter{node: "n2", volume: "v"})
	if v := g.next(); v != "v" || g.next() != "" {
		t.Fatalf("to watch: %q and more, want v once", v)
	}
	ended := 0
	g.watching["v"] = func() { ended++ }
	g.remove(at)
	if g.remove(waiter{node: "n9", volume: "v"}); ended != 0 {
		t.Error("the watch was ended, and n2 waits")
	}
	g.remove(waiter{node: "n2", volume: "v"})
	g.add(at)
	if v := g.next(); v != "" || ended != 1 {
		t.Errorf("to watch: %q, want none before the last watch of v is gone (ended %d times)", v, ended)
	}
	w.graceDone("v")
	if v := g.next(); v != "v" {
		t.Errorf("to watch: %q, want v again", v)
	}
}

// A node that begins to wait just as the watch of its volume ends is not forgotten.
func TestWatchGrace_WaitsAnewWhileTheWatchEnds(t *testing.T) {
	s := newStage(t, nil)
	s.attach("v1", "gone")
	s.run("n1")
	for range 200 {
		s.w.WatchGrace("gone", "v1")
		eventually(t, "the wait is over", func() bool { return len(s.w.Node("gone").InGrace) == 0 })
	}
}

// pagedRecords gives one volume's detachments in two pages, with nothing in the first.
type pagedRecords struct {
	recordWatcher
	between func()
}

func (p pagedRecords) Watch(_ context.Context, _ state.Scope, handle func(state.Batch) error) error {
	there := state.Event{Type: state.Put, Key: "k", Record: state.Detachment{Cluster: "a", Node: "n", Volume: "v"}}
	if err := handle(state.Batch{Reset: true}); err != nil {
		return err
	}
	p.between()
	if err := handle(state.Batch{Synced: true, Events: []state.Event{there}}); err != nil {
		return err
	}
	p.between()
	return handle(state.Batch{Events: []state.Event{{Type: state.Delete, Key: "k", Record: there.Record}}})
}

// Half a list does not end a wait.
func TestWatchGrace_HalfAList(t *testing.T) {
	checks := 0
	w, err := newWatcher(Config{Nodes: newFakeNodes()}, "a", nil, true)
	if err != nil {
		t.Fatal(err)
	}
	w.records = pagedRecords{between: func() {
		checks++
		if !w.Node("n").InGrace["v"] {
			t.Errorf("check %d: the wait is over, and the detachment is there", checks)
		}
	}}
	w.running = true
	w.update(func() changes {
		a := state.Attachment{Cluster: "a", Node: "n", Volume: "v", ModRevision: 1}
		return w.index.apply(partAttachments, state.Batch{Events: []state.Event{{Type: state.Put, Record: a}}})
	})
	w.WatchGrace("n", "v")
	if err := w.followGrace(t.Context(), "v"); err != nil || checks != 2 || w.Node("n").InGrace["v"] {
		t.Errorf("%v after %d checks, waits: %v; want the wait over in the end", err, checks, w.Node("n").InGrace)
	}
}
