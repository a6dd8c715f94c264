package e2e

import (
	"testing"

	"github.com/holdfast-storage/holdfast/state"
)

// The kubeconfig of another cluster under a name that is taken: its nodes would
// make every node of the right cluster look gone.
func TestIdentity_AnotherCluster(t *testing.T) {
	w := newWorld(t)
	east := w.cluster("east", "node-1", "node-2", "node-3")
	controller := east.controller()
	east.leads(controller)
	east.attach("vol-1", "node-1")
	controller.kill()

	other := w.cluster("other", "elsewhere")
	other.name = "east"
	wrong := other.start("--quarantine", "0")
	if code := wrong.exits(); code != 3 {
		t.Errorf("exit code %d, expected 3 for a conflict", code)
	}
	for _, text := range []string{east.uid(), other.uid(), "holdfast clusters rebind east --uid " + other.uid()} {
		if wrong.count(text) == 0 {
			t.Errorf("it does not say %q:\n%s", text, wrong.logged())
		}
	}
	w.mustBeHeldBy("vol-1", "east/node-1")
	if keys := append(w.keys("elections/"), w.keys("departures/")...); len(keys) > 0 {
		t.Errorf("it left %v", keys)
	}

	t.Log("the cluster was built anew on purpose")
	east.server.Kill()
	w.does("clusters", "rebind", "east", "--uid", other.uid(), "--reason", "built anew after the fire")
	rebound := w.journal("east", state.ActionRebound)
	if len(rebound) != 1 || rebound[0].Why != "built anew after the fire" {
		t.Errorf("the journal has %+v; expected one rebinding, with its reason", rebound)
	}
	// The one node there is and the brake: what node-1 held is not given up at once.
	now := other.controller("--brake-fraction", "1")
	other.leads(now)
	eventually(t, "vol-1, whose node the new cluster has not, is removed", func() error { return w.heldBy("vol-1") })
	if got := w.removed("east", "vol-1").Reason; got != string(state.NodeGone) {
		t.Errorf("removed for %s, expected NodeGone", got)
	}
}
