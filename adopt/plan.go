package adopt

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

// Result is what becomes of a VolumeAttachment in an import. The set is closed,
// and its names are printed.
type Result string

// The results, in the order in which they are listed.
const (
	// ToAttach: the node gets a hold, or would.
	ToAttach Result = "attach"
	// Done: the node got its hold.
	Done Result = "attached"
	// There: the node had it already.
	There Result = "there"
	// Moving: it is being attached or detached in Kubernetes.
	Moving Result = "in-motion"
	// Skip: it is not known which volume it is about, or how it is to be held.
	Skip Result = "skipped"
	// NotTried: the import ended before its turn.
	NotTried Result = "not-tried"
	// Conflict: something in the ledger, or in Kubernetes itself, stands in the
	// way. Nothing is overwritten.
	Conflict Result = "conflict"
	// Left: the node got its hold, and meanwhile its VolumeAttachment has gone.
	Left Result = "left"
	// Unknown: the attach was sent and its answer never came. The next import finds out.
	Unknown Result = "unknown"
	// Failed: the attach failed.
	Failed Result = "failed"
)

// Results lists them, in the order in which they are listed.
func Results() []Result {
	return []Result{ToAttach, Done, There, Moving, Skip, NotTried, Conflict, Left, Unknown, Failed}
}

// Item is a VolumeAttachment in an import.
type Item struct {
	VolumeAttachment
	// NodeUID is the Node object's, where the Nodes could be read.
	NodeUID string `json:"nodeUID,omitempty"`
	Result  Result `json:"result"`
	// Detail says why, and who stands in the way.
	Detail  string   `json:"detail,omitempty"`
	Holders []Holder `json:"holders,omitempty"`
	// Token is the hold's, once it is there.
	Token state.Token `json:"token,omitempty"`
}

// Plan says of each VolumeAttachment of a cluster what an import would do. It is
// pure. What comes back is by volume and node.
func Plan(cluster string, attachments []VolumeAttachment, held *Held, nodeUIDs map[string]string) []Item {
	byVolume := map[string][]VolumeAttachment{}
	for _, a := range attachments {
		if a.Unknown == "" && a.Phase == Attached {
			byVolume[a.Volume] = append(byVolume[a.Volume], a)
		}
	}
	items := make([]Item, 0, len(attachments))
	for _, a := range attachments {
		item := Item{VolumeAttachment: a, NodeUID: nodeUIDs[a.Node]}
		switch {
		case a.Unknown != "":
			item.Result, item.Detail = Skip, a.Unknown
		case a.Phase != Attached:
			item.Result, item.Detail = Moving, "it is "+string(a.Phase)
		default:
			item.judge(cluster, byVolume[a.Volume], held, len(nodeUIDs) > 0)
		}
		items = append(items, item)
	}
	slices.SortStableFunc(items, func(a, b Item) int {
		return cmp.Or(cmp.Compare(a.Volume, b.Volume), cmp.Compare(a.Node, b.Node), cmp.Compare(a.Name, b.Name))
	})
	return items
}

// judge decides on one that is attached; all are those attached of its volume.
// known: the Nodes could be read.
func (i *Item) judge(cluster string, all []VolumeAttachment, held *Held, known bool) {
	place := i.place(cluster)
	first := slices.IndexFunc(all, func(a VolumeAttachment) bool { return a.Node == i.Node })
	own, there := held.of(i.Volume, place)
	blocking := held.blocking(i.Volume, place, i.Mode)
	switch {
	case slices.ContainsFunc(all, func(a VolumeAttachment) bool { return a.Mode != i.Mode }):
		i.Result, i.Detail = Skip, "the volume has several PersistentVolumes, with different access modes: --mode says how to hold it"
	case i.Mode == "":
		i.Result, i.Detail = Skip, fmt.Sprintf("its PersistentVolume %q has no access modes: --mode says how to hold it", i.PersistentVolume)
	case all[first].Name != i.Name:
		i.Result, i.Detail = Skip, fmt.Sprintf("VolumeAttachment %s is of the same volume and node", all[first].Name)
	case there && own.suffices(i.Mode):
		i.Result = There
	case there:
		i.Result, i.Holders = Conflict, []Holder{own}
		i.Detail = "the node holds it shared, and its access modes are those of a single node"
	case alone(all) && len(nodes(all)) > 1:
		i.Result, i.Holders = Conflict, blocking
		i.Detail = "it is attached twice in Kubernetes, although its access modes are those of a single node: to " + strings.Join(nodes(all), " and ")
	case len(blocking) > 0:
		i.Result, i.Holders, i.Detail = Conflict, blocking, "held by "+listed(blocking)
	case len(held.Graces[i.Volume]) > 0:
		i.Result, i.Detail = Conflict, inGrace(held.Graces[i.Volume])
	case slices.Contains(held.Detached[i.Volume], i.Node):
		// Kubernetes was read before the ledger, and hears of a detach after it.
		i.Result, i.Detail = Moving, "its node has just detached it from the ledger, and is in its grace period"
	default:
		i.Result = ToAttach
		if i.NodeUID == "" && known {
			i.Detail = "its node is not in the Node list: it may run all the same, and the controller looks after that"
		}
	}
}

func listed(holders []Holder) string {
	var out []string
	for _, h := range holders {
		out = append(out, fmt.Sprintf("node %s of cluster %s (%s)", h.Node, h.Cluster, h.Mode))
	}
	return strings.Join(out, ", ")
}

func inGrace(detachments []state.Detachment) string {
	var by []string
	for _, d := range detachments {
		by = append(by, fmt.Sprintf("node %s of cluster %s at %s", d.Node, d.Cluster, d.At.UTC().Format(time.RFC3339)))
	}
	return "it is in its grace period: detached by " + strings.Join(by, " and ")
}
