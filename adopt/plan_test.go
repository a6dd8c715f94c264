package adopt

import (
	"strings"
	"testing"

	"github.com/holdfast-storage/holdfast/state"
)

// A node without a Node object may run and write all the same: its volume is
// held, and whoever imports is told.
func TestPlan_NodeNotListed(t *testing.T) {
	attachment := VolumeAttachment{Name: "va", Volume: "v", Node: "n1", Mode: state.Exclusive, Phase: Attached}
	for _, c := range []struct {
		uids map[string]string
		told bool
	}{
		{map[string]string{"n2": "uid"}, true},
		{map[string]string{"n1": "uid"}, false},
		{nil, false}, // the Nodes could not be read
	} {
		items := Plan("east", []VolumeAttachment{attachment}, &Held{}, c.uids)
		if len(items) != 1 || items[0].Result != ToAttach {
			t.Fatalf("%v: %+v, want one to attach", c.uids, items)
		}
		if told := strings.Contains(items[0].Detail, "not in the Node list"); told != c.told {
			t.Errorf("%v: the detail is %q", c.uids, items[0].Detail)
		}
	}
}
