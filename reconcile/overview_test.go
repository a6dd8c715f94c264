package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/state/statetest"
	"github.com/holdfast-storage/holdfast/watch"
)

func (w *world) overview() *Overview {
	w.t.Helper()
	_, cluster := w.open(func(c *state.Config) { c.ReadOnly = true })
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	o, err := PlanOnce(ctx, Config{Cluster: cluster, Nodes: w.nodes, Logger: testLog(w.t)})
	if err != nil {
		w.t.Fatal(err)
	}
	return o
}

func TestPlanOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1", "n2", "n3"), func(c *state.Config) { c.Quarantine = state.DefaultQuarantine })
	w.attach("vol-1", "n1")
	w.attach("vol-2", "n2")
	w.attach("vol-3", "n3")
	w.detach("vol-3", "n3")
	w.attach("vol-3", "n3")
	if o := w.overview(); len(o.Nodes) != 0 || o.Brake.Engaged || o.Cluster != "a" {
		t.Errorf("plan is %+v, want nothing to do", o)
	}
	leader := w.lead()
	d, err := leader.Depart(t.Context(), state.Departure{Node: "n2", Reason: state.NodeGone}, state.DefaultQuarantine)
	if err != nil {
		t.Fatal(err)
	}
	w.nodes.relist("n2", "n3")
	before := statetest.Shared(t).Dump(t, w.prefix)
	o := w.overview()
	if after := statetest.Shared(t).Dump(t, w.prefix); !slices.Equal(before, after) {
		t.Errorf("planning has written:\n%v\n%v", before, after)
	}
	if len(o.Nodes) != 2 || o.Brake.Missing != 2 || o.Brake.Of != 3 {
		t.Fatalf("plan is %+v, want two nodes", o)
	}
	n2, n3 := o.Nodes[0], o.Nodes[1]
	if n2.Next != StepWait || n2.Departure.ModRevision != d.ModRevision || !slices.Equal(n2.Orphans[0].Obstacles, []Obstacle{InQuarantine}) {
		t.Errorf("n2: %+v, want one that waits in quarantine", n2)
	}
	if n3.Next != StepDepart || !slices.Equal(n3.Orphans[0].Obstacles, []Obstacle{InGrace, NoDeparture}) {
		t.Errorf("n3: %+v, want one in grace that has not departed", n3)
	}
	if err := w.ledger.Pause(t.Context(), "a", "test", "maintenance", 0); err != nil {
		t.Fatal(err)
	}
	if o := w.overview(); !slices.Equal(o.Obstacles, []Obstacle{Paused}) || o.Pause == nil || o.Pause.Why != "maintenance" {
		t.Errorf("plan is %+v, want one that is paused", o)
	}
	text, err := json.Marshal(o)
	if err != nil || !strings.Contains(string(text), `"obstacles":["in-quarantine"]`) {
		t.Errorf("as JSON: %s (%v)", text, err)
	}
}

// The brake counts from the journal here too.
func TestPlanOnce_Brake(t *testing.T) {
	t.Parallel()
	w, names, volumes := brakeWorld(t)
	r := w.started()
	w.nodes.relist(names[:2]...)
	w.removed(volumes[:2]...)
	r.Stop()
	w.nodes.remove(names[2])
	o := w.overview()
	if !o.Brake.Engaged || o.Brake.Missing != 1 || o.Brake.Removed != 2 {
		t.Errorf("brake is %s", o.Brake)
	}
	last := o.Nodes[len(o.Nodes)-1] // of the others a departure may be left
	if last.Node != names[2] || !slices.Equal(last.Orphans[0].Obstacles, []Obstacle{Braked, NoDeparture}) {
		t.Errorf("plan is %+v", o.Nodes)
	}
}

func TestPlanOnce_NodesCannotBeRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1"))
	w.nodes.fail(errAPI)
	_, err := PlanOnce(t.Context(), Config{Cluster: w.cluster, Nodes: w.nodes, Logger: testLog(t)})
	if !errors.Is(err, errAPI) || !errors.Is(err, watch.ErrNotSynced) {
		t.Errorf("error is %v, want the API's", err)
	}
	if _, err := PlanOnce(t.Context(), Config{}); !errors.Is(err, state.ErrInvalid) {
		t.Errorf("error is %v, want ErrInvalid", err)
	}
}
