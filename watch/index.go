package watch

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

// part is one range of records that the index is built from.
type part int

const (
	partAttachments part = iota
	partDepartures
	partQuarantines
	partPause
	partLedger
	partCluster
	partFreezes
	parts
)

func (p part) String() string {
	return [parts]string{"attachments", "departures", "quarantines", "pause", "ledger", "cluster", "freezes"}[p]
}

func (p part) scope(cluster string) state.Scope {
	switch p {
	case partAttachments:
		return state.ScopeAttachments(cluster)
	case partDepartures:
		return state.ScopeDepartures(cluster)
	case partQuarantines:
		return state.ScopeQuarantines(cluster)
	case partPause:
		return state.ScopePause(cluster)
	case partLedger:
		return state.ScopeLedger()
	case partFreezes:
		return state.ScopeFreezes()
	}
	return state.ScopeCluster(cluster)
}

// listing is how far a part, or the Node list, has come.
type listing struct {
	list     uint32 // counts the lists, to tell what the present one did not have
	under    bool   // a list is under way
	loaded   bool
	revision int64 // complete up to here
}

// index is the join. It does no I/O, knows no time and is not safe for
// concurrent use. Each method that changes it says what has to be done about it.
type index struct {
	cluster string
	// matchUID: attachments under another Node UID make a suspect.
	matchUID bool
	// awaitQuarantine: departures come with quarantines, so a departure newer
	// than the view of the quarantines has one that is not in view yet.
	awaitQuarantine bool

	entries map[string]*entry
	parts   [parts]listing
	nodes   listing // revision: continuous since

	suspects nameSet
	missing  nameSet
	behind   map[string]*entry // departures that the view of the quarantines has not reached
	leases   map[state.LeaseID]int
	lapses   lapseSet

	listed, attached, attachments, departures, quarantines int
	broken                                                 [parts]int

	freezes  map[string]restoreFreeze // by cluster
	pause    *state.Pause
	ledger   state.LedgerRecord
	identity state.ClusterRecord
	seen     [parts]bool // a single record was in the present list
}

func newIndex(cluster string, matchUID, awaitQuarantine bool) *index {
	return &index{
		cluster: cluster, matchUID: matchUID, awaitQuarantine: awaitQuarantine,
		entries: make(map[string]*entry), behind: make(map[string]*entry), leases: make(map[state.LeaseID]int),
		freezes: make(map[string]restoreFreeze),
	}
}

// changes is what a change of the index asks for.
type changes struct {
	// nodes are suspects whose evidence changed, or that are suspects no more.
	nodes map[string]struct{}
	// all: what changed concerns every suspect.
	all bool
	// broken are records that do not decode and did before, or were not there.
	broken []brokenRecord
	// released are the waits for a grace whose attachment is gone.
	released []waiter
	// lapsed: a lapse can be taken.
	lapsed bool
}

type brokenRecord struct {
	key string
	err error
}

// waiter is a node that waits for the grace of a volume.
type waiter struct{ node, volume string }

func (c *changes) touch(name string) {
	if c.nodes == nil {
		c.nodes = make(map[string]struct{})
	}
	c.nodes[name] = struct{}{}
}

// apply takes in what etcd has to tell of a part. The cost is that of the
// batch, or of the index where the batch ends a list.
func (ix *index) apply(p part, b state.Batch) changes {
	var c changes
	v := &ix.parts[p]
	if b.Reset {
		v.list++
		v.under, ix.seen[p] = true, false
	}
	for _, e := range b.Events {
		ix.event(p, e, b.Contact, &c)
	}
	if b.Synced {
		ix.sweep(p, &c)
		v.under, v.loaded, v.revision = false, true, b.Revision
		c.all = true
	}
	if !v.under {
		v.revision = max(v.revision, b.Revision)
		if p == partQuarantines {
			ix.catchUp(&c)
		}
	}
	return c
}

func (ix *index) event(p part, e state.Event, seen time.Time, c *changes) {
	gone := e.Type == state.Delete
	switch r := e.Record.(type) {
	case state.Attachment:
		if gone {
			ix.dropAttachment(r.Node, r.Volume, c)
		} else {
			ix.putAttachment(e.Key, r, c)
		}
	case state.Departure:
		if gone {
			ix.dropDeparture(r.Node, c)
		} else {
			ix.putDeparture(e.Key, r, seen, c)
		}
	case state.Quarantine:
		if gone {
			ix.dropQuarantine(r.Node, c)
		} else {
			ix.putQuarantine(e.Key, r, c)
		}
	case state.RestoreFreeze:
		if gone {
			ix.dropFreeze(r.Cluster, c)
		} else {
			ix.putFreeze(e.Key, r, c)
		}
	default:
		ix.single(p, e, c)
	}
}

// sweep drops what the list that has just ended did not have.
func (ix *index) sweep(p part, c *changes) {
	list := ix.parts[p].list
	switch p {
	case partAttachments:
		for _, e := range ix.entries {
			for volume, r := range e.records {
				if r.list != list {
					ix.dropAttachment(e.name, volume, c)
				}
			}
		}
	case partDepartures:
		for _, e := range ix.entries {
			if e.departure != nil && e.departureList != list {
				ix.dropDeparture(e.name, c)
			}
		}
	case partQuarantines:
		for _, e := range ix.entries {
			if e.quarantine != nil && e.quarantineList != list {
				ix.dropQuarantine(e.name, c)
			}
		}
	case partFreezes:
		for cluster, f := range ix.freezes {
			if f.list != list {
				ix.dropFreeze(cluster, c)
			}
		}
	default:
		if !ix.seen[p] {
			ix.dropSingle(p, c)
		}
	}
}

// replaceNodes takes in a whole Node list.
func (ix *index) replaceNodes(nodes []Node, since int64) changes {
	var c changes
	v := &ix.nodes
	v.list++
	for _, n := range nodes {
		ix.putNode(n, &c)
	}
	for _, e := range ix.entries {
		if e.listed && e.nodeList != v.list {
			ix.dropNode(e, &c)
		}
	}
	// How long the view has been continuous is evidence for every suspect.
	c.all = !v.loaded || v.revision != since
	v.loaded, v.revision = true, since
	return c
}

func (ix *index) applyNode(n Node, deleted bool) changes {
	var c changes
	if !deleted {
		ix.putNode(n, &c)
	} else if e := ix.entries[n.Name]; e != nil && e.listed {
		ix.dropNode(e, &c)
	}
	return c
}

func (ix *index) putNode(n Node, c *changes) {
	e := ix.entry(n.Name)
	n.Name, n.UID = e.name, strings.Clone(n.UID)
	e.nodeList = ix.nodes.list
	if e.listed && e.node == n {
		return
	}
	if !e.listed {
		ix.listed++
	}
	renewed := !e.listed || e.node.UID != n.UID
	e.node, e.listed = n, true
	if renewed && ix.matchUID {
		e.recount()
	}
	ix.settle(e, c)
}

func (ix *index) dropNode(e *entry, c *changes) {
	ix.listed--
	e.node, e.listed, e.alien = Node{}, false, 0
	ix.settle(e, c)
}

// entry finds or makes a node's. settle takes it away again if nothing comes of it.
func (ix *index) entry(name string) *entry {
	e := ix.entries[name]
	if e == nil {
		// The name that came is a piece of a key, or of a Node object.
		e = &entry{name: strings.Clone(name)}
		ix.entries[e.name] = e
	}
	return e
}

// settle brings the counts and sets up to date with an entry that changed.
func (ix *index) settle(e *entry, c *changes) {
	if missing := len(e.records) > 0 && !e.listed; missing != e.missing {
		e.missing = missing
		ix.missing.set(e.name, missing)
	}
	if e.contradicts(ix.matchUID) {
		e.returned = e.departure.ModRevision
	}
	was := e.suspect
	e.suspect = e.missing || e.departure != nil || e.quarantine != nil ||
		len(e.records) > 0 && e.node.OutOfService || ix.matchUID && e.alien > 0
	if e.suspect != was {
		ix.suspects.set(e.name, e.suspect)
	}
	if was || e.suspect {
		c.touch(e.name)
	}
	if e.empty() {
		delete(ix.entries, e.name)
	}
}

// view copies what there is of a node.
func (ix *index) view(name string) NodeView {
	out, all := ix.glance(name)
	out.Attachments = attachmentsOf(ix.cluster, name, all)
	return out
}

// glance is view without the attachments, and what to make them of: they need no
// index for it, and who has it may go on.
func (ix *index) glance(name string) (NodeView, []held) {
	out := NodeView{Name: name, ContinuousSince: ix.nodes.revision}
	e := ix.entries[name]
	if e == nil {
		return out, nil
	}
	out.Present, out.Node = e.listed, e.node
	if e.departure != nil {
		d := *e.departure
		out.Departure, out.DepartureSeen, out.Returned = &d, e.departureSeen, e.returned == d.ModRevision
	}
	out.Quarantined = e.quarantine != nil || ix.behind[name] != nil
	if len(e.graces) > 0 {
		out.InGrace = make(map[string]bool, len(e.graces))
		for volume := range maps.Keys(e.graces) {
			out.InGrace[volume] = true
		}
	}
	return out, e.holding()
}

// counts copies what there is of the cluster, without its Sources.
func (ix *index) counts() ClusterView {
	out := ClusterView{
		Ledger: ix.ledger, Identity: ix.identity, Nodes: ix.listed,
		Attachments: ix.attachments, WithAttachments: ix.attached, Missing: ix.missing.list(),
	}
	if ix.ledger.Frozen != nil {
		f := *ix.ledger.Frozen
		out.Ledger.Frozen = &f
	}
	for _, cluster := range slices.Sorted(maps.Keys(ix.freezes)) {
		out.Freezes = append(out.Freezes, ix.freezes[cluster].RestoreFreeze)
	}
	if ix.pause != nil {
		p := *ix.pause
		out.Pause = &p
	}
	return out
}
