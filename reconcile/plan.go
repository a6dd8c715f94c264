// Package reconcile removes the attachments that no node stands behind, and
// keeps alive those of the clusters that are there.
//
// Plan judges: it is pure. The Reconciler gathers what Plan needs, then proves
// (departure, quarantine, fencer, live check) and removes. The Keeper keeps the
// leases of attachments alive. None of them is needed for a wait to end: that
// is etcd's doing.
package reconcile

import (
	"cmp"
	"slices"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/watch"
)

// Obstacle is one thing that stands in the way of an orphan's removal. The set
// is closed, and its names are printed.
type Obstacle string

// The obstacles, in the order in which they are looked at.
const (
	// NotSynced: one of the two sources has not been loaded.
	NotSynced Obstacle = "not-synced"
	// StaleNodes, StaleEtcd: the source has not been heard of for too long.
	StaleNodes Obstacle = "stale-nodes"
	StaleEtcd  Obstacle = "stale-etcd"
	// ClusterMismatch: the cluster on record is another one than ours.
	ClusterMismatch Obstacle = "cluster-mismatch"
	// Paused: removal in the cluster is paused.
	Paused Obstacle = "paused"
	// Frozen: the ledger is frozen, by an operator or because somebody noticed a
	// restored etcd.
	Frozen Obstacle = "frozen"
	// NotLeader: another replica leads, or none does.
	NotLeader Obstacle = "not-leader"
	// Unwitnessed: the leader does not know whether etcd is the one it was, because
	// it cannot read or write its witness outside etcd.
	Unwitnessed Obstacle = "unwitnessed"
	// Undecodable: a record that the removal relies on does not decode.
	Undecodable Obstacle = "undecodable"
	// Braked: too many nodes are missing at once.
	Braked Obstacle = "braked"
	// InGrace: the node has a detachment of the volume.
	InGrace Obstacle = "in-grace"
	// NoDeparture: there is no record that the node has left.
	NoDeparture Obstacle = "no-departure"
	// OtherDeparture: the node's departure is for another reason, or about another UID.
	OtherDeparture Obstacle = "other-departure"
	// DepartureNotTrusted: the departure is older than what this process has
	// seen of the nodes without a gap, so the node may have been back since.
	DepartureNotTrusted Obstacle = "departure-not-trusted"
	// InQuarantine: the wait that began with the departure is not over.
	InQuarantine Obstacle = "in-quarantine"
)

// Obstacles lists them all, in the order in which they are looked at.
func Obstacles() []Obstacle {
	return []Obstacle{
		NotSynced, StaleNodes, StaleEtcd, ClusterMismatch, Paused, Frozen, NotLeader, Unwitnessed, Undecodable, Braked, InGrace,
		NoDeparture, OtherDeparture, DepartureNotTrusted, InQuarantine,
	}
}

// Step is what comes next for a node or an orphan. The set is closed.
type Step string

// The steps.
const (
	// StepNone: nothing is to be done.
	StepNone Step = "none"
	// StepReturn: the node's departure has to be deleted.
	StepReturn Step = "return"
	// StepDepart: a departure has to be put.
	StepDepart Step = "depart"
	// StepWait: something stands in the way that ends by itself or by an operator.
	StepWait Step = "wait"
	// StepRemove: nothing stands in the way of the fencer, the live check and the removal.
	StepRemove Step = "remove"
)

// Gates is what Plan has to know beside the views.
type Gates struct {
	// UID is the cluster's identity that this process was started with.
	UID string
	// Leading: this process leads the cluster's controllers.
	Leading bool
	// Unwitnessed: it is not known whether etcd is the one it was.
	Unwitnessed bool
	// Braked is the brake's verdict.
	Braked bool
	// MatchNodeUID: a node of another UID is another node.
	MatchNodeUID bool
}

// Orphan is an attachment that no node stands behind.
type Orphan struct {
	Attachment state.Attachment      `json:"attachment"`
	Reason     state.DepartureReason `json:"reason"`
	// Obstacles are all that stands in the way, in the design's order.
	Obstacles []Obstacle `json:"obstacles,omitempty"`
}

// Next is the step that comes next for the orphan.
func (o Orphan) Next() Step {
	if len(o.Obstacles) == 0 {
		return StepRemove
	}
	switch o.Obstacles[0] {
	case NoDeparture, OtherDeparture, DepartureNotTrusted:
		return StepDepart
	}
	return StepWait
}

// NodePlan is what Plan says of one node.
type NodePlan struct {
	Node string `json:"node"`
	// Next is the first thing to do for the node.
	Next Step `json:"next"`
	// Departure is the record to put (StepDepart; its ModRevision is that of
	// the one to replace) or to delete (StepReturn). Otherwise the node's, if any.
	Departure *state.Departure `json:"departure,omitempty"`
	// Returned: the node's departure is contradicted by the Node list. Without
	// it a StepReturn means that nothing needs the departure any more.
	Returned bool     `json:"returned,omitempty"`
	Orphans  []Orphan `json:"orphans,omitempty"`
}

// Removable are the orphans that nothing stands in the way of.
func (p NodePlan) Removable() []Orphan {
	var out []Orphan
	for _, o := range p.Orphans {
		if len(o.Obstacles) == 0 {
			out = append(out, o)
		}
	}
	return out
}

// Plan judges one node. It is pure: the same views and gates give the same
// plan. Whatever is not known counts as present, and so stands in the way.
//
// Pause, freeze, brake and grace keep orphans from removal, not the node from
// departing: its quarantine runs meanwhile.
func Plan(c watch.ClusterView, n watch.NodeView, g Gates) NodePlan {
	p := NodePlan{Node: n.Name, Next: StepNone, Departure: n.Departure}
	if c.Sources.Nodes.Loaded {
		p.Orphans = orphans(n, g)
	}
	shut := shutGates(c, g)
	want := wanted(n, p.Orphans)
	for i := range p.Orphans {
		p.Orphans[i].Obstacles = slices.Concat(shut, obstacles(n, p.Orphans[i], g.Braked))
	}
	reliable := !slices.ContainsFunc(shut, func(o Obstacle) bool {
		return o == NotSynced || o == StaleNodes || o == StaleEtcd || o == ClusterMismatch
	})
	switch {
	case reliable && contradicted(n, g):
		p.Next, p.Returned = StepReturn, true
	case reliable && g.Leading && needsDeparture(n, want):
		p.Next, p.Departure = StepDepart, want
	case reliable && g.Leading && n.Departure != nil && n.Departure.Broken == nil && len(p.Orphans) == 0:
		// Nothing stands behind the departure any more. Deleting it keeps the
		// departures of a cluster whose nodes come and go from piling up.
		p.Next = StepReturn
	case len(p.Removable()) > 0:
		p.Next = StepRemove
	case len(p.Orphans) > 0:
		p.Next = StepWait
	}
	return p
}

// orphans finds the attachments that no node stands behind, by volume.
func orphans(n watch.NodeView, g Gates) []Orphan {
	var out []Orphan
	for _, a := range n.Attachments {
		if reason := reasonFor(n, a, g); reason != "" {
			out = append(out, Orphan{Attachment: a, Reason: reason})
		}
	}
	slices.SortFunc(out, func(a, b Orphan) int { return cmp.Compare(a.Attachment.Volume, b.Attachment.Volume) })
	return out
}

// reasonFor is empty for an attachment that its node stands behind. A node that
// is being deleted is still there, and one that is not ready is too: it may
// well reach its disks.
func reasonFor(n watch.NodeView, a state.Attachment, g Gates) state.DepartureReason {
	switch {
	case !n.Present:
		return state.NodeGone
	case g.MatchNodeUID && a.NodeUID != "" && n.Node.UID != "" && a.NodeUID != n.Node.UID:
		return state.NodeReplaced
	case n.Node.OutOfService:
		return state.OutOfService
	}
	return ""
}

// shutGates are the obstacles of the whole cluster.
func shutGates(c watch.ClusterView, g Gates) []Obstacle {
	var shut []Obstacle
	add := func(is bool, o Obstacle) {
		if is {
			shut = append(shut, o)
		}
	}
	add(!c.Sources.Nodes.Synced || !c.Sources.Etcd.Synced, NotSynced)
	add(c.Sources.Nodes.Loaded && !c.Sources.Nodes.Fresh, StaleNodes)
	add(c.Sources.Etcd.Loaded && !c.Sources.Etcd.Fresh, StaleEtcd)
	add(c.Sources.Etcd.Loaded && (c.Identity.UID != g.UID || c.Identity.Broken != nil), ClusterMismatch)
	add(c.Pause != nil, Paused)
	add(c.Frozen() != nil, Frozen)
	add(!g.Leading, NotLeader)
	add(g.Unwitnessed, Unwitnessed)
	add(c.Sources.Etcd.Loaded && (c.Ledger.UUID == "" || c.Ledger.Broken != nil), Undecodable)
	return shut
}

// obstacles are those of one orphan alone.
func obstacles(n watch.NodeView, o Orphan, braked bool) []Obstacle {
	var out []Obstacle
	if o.Attachment.Broken != nil || n.Departure != nil && n.Departure.Broken != nil {
		out = append(out, Undecodable)
	}
	if braked && o.Reason != state.OutOfService {
		out = append(out, Braked)
	}
	if n.InGrace[o.Attachment.Volume] {
		out = append(out, InGrace)
	}
	switch d := n.Departure; {
	case d == nil:
		return append(out, NoDeparture)
	case d.Broken != nil:
		return out
	case !covers(*d, o):
		return append(out, OtherDeparture)
	case !trusted(n):
		return append(out, DepartureNotTrusted)
	}
	if n.Quarantined {
		out = append(out, InQuarantine)
	}
	return out
}

// covers says whether a departure is about the node that the orphan was
// attached to, for the same reason.
func covers(d state.Departure, o Orphan) bool {
	if d.Reason != o.Reason {
		return false
	}
	return d.Reason != state.NodeReplaced || d.UID == o.Attachment.NodeUID
}

// trusted: the view of the nodes has had no gap since before the departure. A
// departure from before may have outlived a return of the node that nobody saw.
func trusted(n watch.NodeView) bool {
	return n.Departure.ModRevision > n.ContinuousSince && !n.Returned
}

// contradicted says whether the Node list contradicts the departure on record,
// or has done so since that was put: a node that came and went waits anew.
func contradicted(n watch.NodeView, g Gates) bool {
	d := n.Departure
	switch {
	case d == nil || d.Broken != nil:
		return false
	case n.Returned:
		return true
	case !n.Present:
		return false
	}
	switch d.Reason {
	case state.NodeGone:
		return true
	case state.OutOfService:
		return !n.Node.OutOfService
	case state.NodeReplaced:
		return !g.MatchNodeUID || d.UID == n.Node.UID
	}
	return false
}

// wanted is the departure that the orphans of a node need, nil if there are
// none. One that still has orphans stays, so that no wait of theirs is lost;
// then an operator's word comes first.
func wanted(n watch.NodeView, orphans []Orphan) *state.Departure {
	if len(orphans) == 0 {
		return nil
	}
	want := state.Departure{Node: n.Name}
	if d := n.Departure; d != nil {
		want.ModRevision = d.ModRevision
		if slices.ContainsFunc(orphans, func(o Orphan) bool { return covers(*d, o) }) {
			want.Reason, want.UID = d.Reason, d.UID
			return &want
		}
	}
	first := slices.MinFunc(orphans, func(a, b Orphan) int {
		return cmp.Or(cmp.Compare(rank(a.Reason), rank(b.Reason)), cmp.Compare(a.Attachment.NodeUID, b.Attachment.NodeUID))
	})
	want.Reason, want.UID = first.Reason, first.Attachment.NodeUID
	if first.Reason == state.OutOfService && n.Node.UID != "" {
		want.UID = n.Node.UID
	}
	return &want
}

func rank(r state.DepartureReason) int {
	return slices.Index([]state.DepartureReason{state.NodeGone, state.OutOfService, state.NodeReplaced}, r)
}

// needsDeparture says whether the wanted departure has to be put: there is
// none, it is another, or it cannot be trusted.
func needsDeparture(n watch.NodeView, want *state.Departure) bool {
	switch d := n.Departure; {
	case want == nil:
		return false
	case d == nil:
		return true
	case d.Broken != nil:
		return false
	default:
		return d.Reason != want.Reason || d.UID != want.UID || !trusted(n)
	}
}
