package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
)

// The API server goes away in the middle of a quarantine, and answers with 404
// and 500 while it comes back: nothing is removed until it says for itself that
// the node is gone.
func TestServer_AwayAndBack(t *testing.T) {
	w := newWorld(t)
	c := w.cluster("east", "node-1", "node-2", "node-3", "node-4")
	controller := c.controller("--quarantine", "4s", "--resync", "1s")
	c.leads(controller)
	c.attach("vol-1", "node-1")
	c.attach("vol-2", "node-2")
	kept := func() error { return errors.Join(w.heldBy("vol-1", "east/node-1"), w.heldBy("vol-2", "east/node-2")) }

	c.deleteNode("node-1")
	eventually(t, "node-1 is in quarantine", w.has("quarantines/east/node-1"))
	c.server.Kill()
	eventually(t, "the quarantine ends", w.hasNot("quarantines/east/node-1"))
	throughout(t, short, "while the API server is away", kept)

	for _, status := range []int{http.StatusNotFound, http.StatusInternalServerError} {
		c.front.Answer(status)
		throughout(t, short, fmt.Sprintf("while every answer is %d", status), kept)
	}
	c.server.Launch(t)
	throughout(t, short, "while the API server starts behind answers of 500", kept)
	c.front.Answer(http.StatusNotFound)
	c.server.AwaitReady(t)
	throughout(t, short, "while every answer is 404", kept)

	t.Log("nothing between them any more: the one node that is gone is seen to be gone")
	c.front.Pass()
	eventually(t, "vol-1 is removed", func() error { return w.heldBy("vol-1") })
	throughout(t, 2*short, "after all of it", func() error {
		if n := len(w.journal("east", "removed")); n != 1 {
			return fmt.Errorf("%d removals in the journal", n)
		}
		return w.heldBy("vol-2", "east/node-2")
	})
	if n, err := controller.metric(`holdfast_source_node_errors_total{cluster="east"}`); err != nil || n < 1 {
		t.Errorf("%v errors of the Node list, %v; expected some", n, err)
	}
}

// A starting API server can say of a Node that it is not there, in its own
// words: only together with a /readyz that is well does that count. Nor does a
// 404, or anything else, that is not the API server's own word about the Node.
func TestServer_NotReady(t *testing.T) {
	w := newWorld(t)
	c := w.cluster("east", "node-1", "node-2", "node-3")
	controller := c.controller("--resync", "1s")
	c.leads(controller)
	c.attach("vol-1", "node-1")

	c.front.AnswerAt("/readyz", http.StatusInternalServerError) // before the node is seen to be gone
	c.deleteNode("node-1")
	failed := func() float64 {
		n, err := controller.metric(`holdfast_live_checks_total{cluster="east",result="error"}`)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, fault := range []struct {
		path   string
		status int
	}{
		{"/readyz", http.StatusInternalServerError},
		{"/api/v1/nodes/node-1", http.StatusNotFound},
		{"/api/v1/nodes/node-1", http.StatusInternalServerError},
	} {
		c.front.AnswerAt(fault.path, fault.status)
		kept := func() error { return w.heldBy("vol-1", "east/node-1") }
		before := failed()
		eventually(t, "a live check fails", func() error {
			if failed() == before && kept() == nil {
				return errors.New("none yet")
			}
			return nil
		})
		throughout(t, short, fmt.Sprintf("while %s is answered with %d", fault.path, fault.status), kept)
	}
	c.front.Pass()
	eventually(t, "vol-1 is removed", func() error { return w.heldBy("vol-1") })
}

// Only the watch hangs, without an error, while /readyz and GETs go on: the view
// turns stale, and nothing is removed by it, though a live check would have
// confirmed it.
func TestServer_WatchHangs(t *testing.T) {
	w := newWorld(t)
	c := w.cluster("east", "node-1", "node-2", "node-3", "node-4")
	const fresh = `holdfast_source_fresh{cluster="east",source="nodes"}`
	// Longer than the minute between the API server's bookmarks.
	controller := c.controller("--stale-after", "70s", "--quarantine", "80s")
	c.leads(controller)
	c.attach("vol-1", "node-1")

	c.deleteNode("node-1")
	eventually(t, "node-1 is in quarantine", w.has("quarantines/east/node-1"))
	c.front.HangWatches()
	controller.metricIs(fresh, 0)
	w.mustBeHeldBy("vol-1", "east/node-1")
	if got, err := c.kube.CoreV1().Nodes().Get(t.Context(), "node-2", getOptions); err != nil || got.Name != "node-2" {
		t.Fatalf("a GET of a node: %v, %v; expected that it goes on", got, err)
	}
	eventually(t, "the quarantine ends", w.hasNot("quarantines/east/node-1"))
	throughout(t, 2*short, "while the watch hangs", func() error { return w.heldBy("vol-1", "east/node-1") })
	if held, err := controller.metric(`holdfast_held_back{cluster="east",obstacle="stale-nodes"}`); err != nil || held != 1 {
		t.Errorf("%v held back by stale nodes, %v; expected vol-1", held, err)
	}

	c.front.Pass()
	controller.metricIs(fresh, 1)
	eventually(t, "vol-1 is removed", func() error { return w.heldBy("vol-1") })
}

// Too many nodes gone at once is more likely a mistake than a fact.
func TestBrake(t *testing.T) {
	w := newWorld(t)
	var nodes []string
	for i := range 10 {
		nodes = append(nodes, fmt.Sprintf("node-%d", i))
	}
	c := w.cluster("east", nodes...)
	controller := c.controller()
	c.leads(controller)
	volume := func(i int) string { return fmt.Sprintf("vol-%d", i) }
	for i, n := range nodes {
		c.attach(volume(i), n)
	}
	held := func(from int) func() error {
		return func() error {
			for i := from; i < len(nodes); i++ {
				if err := w.heldBy(volume(i), "east/"+nodes[i]); err != nil {
					return err
				}
			}
			return nil
		}
	}
	const engaged = `holdfast_brake_engaged{cluster="east"}`

	t.Log("30% of the nodes")
	for _, n := range nodes[:3] {
		c.deleteNode(n)
	}
	controller.metricIs(engaged, 1)
	eventually(t, "the quarantines end", w.hasNot("quarantines/east/"))
	throughout(t, short, "while the brake is on", held(0))
	if note := c.event("Namespace", "kube-system", "BrakeEngaged"); note == "" {
		t.Error("the Event says nothing")
	}
	w.does("resume", "east", "--brake", "--reason", "scaled down on purpose")
	for i := range 3 {
		eventually(t, volume(i)+" is removed", func() error { return w.heldBy(volume(i)) })
	}
	controller.metricIs(engaged, 0)
	c.event("Namespace", "kube-system", "BrakeReleased")
	if err := held(3)(); err != nil {
		t.Fatal(err)
	}

	t.Log("all nodes")
	for _, n := range nodes[3:] {
		c.deleteNode(n)
	}
	controller.metricIs(engaged, 1)
	eventually(t, "the quarantines end", w.hasNot("quarantines/east/"))
	// No word of an operator's releases this one.
	w.does("resume", "east", "--brake", "--reason", "to go on without any node")
	controller.says("brake released", "without any node")
	throughout(t, short, "while there are no nodes at all", held(3))
	controller.metricIs(engaged, 1)
}
