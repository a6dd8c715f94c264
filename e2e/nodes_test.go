package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/holdfast-storage/holdfast/state"
)

// A Node is deleted: quarantine, live check, removal, journal, Event. One that
// comes back within its quarantine keeps what it has.
func TestNode_Deleted(t *testing.T) {
	w := newWorld(t)
	c := w.cluster("east", "node-1", "node-2", "node-3", "node-4")
	c.claimed("vol-1", "csi.example.com", "data")
	controller := c.controller("--quarantine", "4s")
	c.leads(controller)
	hold := c.attach("vol-1", "node-1")
	c.attach("vol-2", "node-2")
	uid := c.nodeUID("node-1")

	deleted := time.Now()
	c.deleteNode("node-1")
	eventually(t, "node-1 is in quarantine", w.has("quarantines/east/node-1"))
	w.mustBeHeldBy("vol-1", "east/node-1")
	eventually(t, "vol-1 is removed", func() error { return w.heldBy("vol-1") })
	if took := time.Since(deleted); took < 4*time.Second {
		t.Errorf("vol-1 was removed %v after its node, within the quarantine of 4 s", took)
	}
	w.mustBeHeldBy("vol-2", "east/node-2")

	entry := w.removed("east", "vol-1")
	if entry.Reason != string(state.NodeGone) || entry.Node != "node-1" || entry.Token != hold.Token {
		t.Errorf("the journal has %+v; expected node-1, NodeGone, token %v", entry, hold.Token)
	}
	if e := entry.Evidence; e == nil || e.NodeUID != uid || e.LiveCheckedAt.IsZero() || time.Since(e.LiveCheckedAt) > patience {
		t.Errorf("evidence %+v; expected the UID %s and a live check of just now", e, uid)
	}
	confirmed, err := controller.metric(`holdfast_live_checks_total{cluster="east",result="confirmed"}`)
	if err != nil || confirmed < 1 {
		t.Errorf("%v live checks confirmed, %v; expected one at least", confirmed, err)
	}
	note := c.event("PersistentVolumeClaim", "data", "OrphanRemoved")
	for _, text := range []string{"vol-1", "node-1", "east"} {
		if !strings.Contains(note, text) {
			t.Errorf("the Event says %q; expected %s in it", note, text)
		}
	}

	t.Log("a node that comes back within its quarantine")
	c.deleteNode("node-2")
	eventually(t, "node-2 is in quarantine", w.has("quarantines/east/node-2"))
	c.addNode("node-2")
	eventually(t, "the departure of node-2 is taken back", w.hasNot("departures/east/node-2"))
	throughout(t, 6*time.Second, "after the quarantine would have ended", func() error { return w.heldBy("vol-2", "east/node-2") })
}

// A Node that is made anew under its name is the same by default, and another
// one with --node-identity uid.
func TestNode_MadeAnew(t *testing.T) {
	for _, identity := range []string{"name", "uid"} {
		t.Run(identity, func(t *testing.T) {
			w := newWorld(t)
			c := w.cluster("east", "node-1", "node-2", "node-3", "node-4")
			c.leads(c.controller("--node-identity", identity))
			c.attach("vol-1", "node-1")

			c.deleteNode("node-1")
			c.addNode("node-1")
			if identity == "name" {
				throughout(t, 2*short, "with the name as the identity", func() error { return w.heldBy("vol-1", "east/node-1") })
				if err := w.hasNot("departures/east/node-1")(); err != nil {
					t.Error(err)
				}
				return
			}
			eventually(t, "node-1 is in quarantine", w.has("quarantines/east/node-1"))
			w.mustBeHeldBy("vol-1", "east/node-1")
			eventually(t, "vol-1 is removed", func() error { return w.heldBy("vol-1") })
			if got := w.removed("east", "vol-1").Reason; got != string(state.NodeReplaced) {
				t.Errorf("the journal says %s; expected NodeReplaced", got)
			}
		})
	}
}

// The out-of-service taint is an operator's word that the machine is off: no
// quarantine. That a node is not Ready says nothing of the kind.
func TestNode_OutOfService(t *testing.T) {
	w := newWorld(t)
	c := w.cluster("east", "node-1", "node-2", "node-3")
	c.leads(c.controller("--quarantine", "1h"))
	c.attach("vol-1", "node-1")
	c.attach("vol-2", "node-2")

	c.setReady("node-2", corev1.ConditionFalse)
	c.taint("node-2", corev1.TaintNodeNotReady, corev1.TaintEffectNoExecute)
	c.taint("node-1", corev1.TaintNodeOutOfService, corev1.TaintEffectNoExecute)
	eventually(t, "vol-1 is removed", func() error { return w.heldBy("vol-1") })
	if got := w.removed("east", "vol-1").Reason; got != string(state.OutOfService) {
		t.Errorf("the journal says %s; expected OutOfService", got)
	}
	throughout(t, short, "a node that is not Ready", func() error {
		if has := w.keys("departures/east/node-2"); len(has) > 0 {
			return fmt.Errorf("there is %v", has)
		}
		return w.heldBy("vol-2", "east/node-2")
	})
}

// has is nil once etcd has a key of the ledger.
func (w *world) has(key string) func() error {
	return func() error {
		if len(w.keys(key)) == 0 {
			return errors.New(key + " is not there")
		}
		return nil
	}
}

// hasNot is nil once etcd has not.
func (w *world) hasNot(key string) func() error {
	return func() error {
		if len(w.keys(key)) > 0 {
			return errors.New(key + " is there")
		}
		return nil
	}
}
