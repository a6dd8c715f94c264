package watch

import (
	"strings"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

// How each kind of record goes into the index and out of it. A record that is
// put as it was (a list that is read again) changes nothing but the mark that
// the list had it.

func (ix *index) putAttachment(key string, a state.Attachment, c *changes) {
	e, list := ix.entry(a.Node), ix.parts[partAttachments].list
	old := e.records[a.Volume]
	if old != nil && old.mod == a.ModRevision {
		old.list = list
		return
	}
	r := newRecord(a, list)
	if old != nil {
		ix.forget(e, old)
		*old = *r
	} else {
		if e.records == nil {
			e.records = make(map[string]*record, 1)
			ix.attached++
		}
		// The volume that came is a piece of a key: keep the piece alone.
		e.records[strings.Clone(a.Volume)] = r
		ix.attachments++
	}
	if r.lease != 0 {
		ix.leases[r.lease]++
	}
	if ix.matchUID && e.differs(r) {
		e.alien++
	}
	ix.markBroken(e, key, a, c)
	ix.lapses.remove(a.Node, a.Volume)
	ix.settle(e, c)
}

// forget takes out of the counts what a record put into them.
func (ix *index) forget(e *entry, r *record) {
	if ix.matchUID && e.differs(r) {
		e.alien--
	}
	if n := ix.leases[r.lease]; n > 1 {
		ix.leases[r.lease] = n - 1
	} else {
		delete(ix.leases, r.lease)
	}
}

func (ix *index) markBroken(e *entry, key string, a state.Attachment, c *changes) {
	_, was := e.broken[a.Volume]
	switch {
	case a.Broken != nil:
		if e.broken == nil {
			e.broken = make(map[string]error, 1)
		}
		e.broken[strings.Clone(a.Volume)] = a.Broken
	case was:
		delete(e.broken, a.Volume)
	}
	ix.noteBroken(partAttachments, key, was, a.Broken, c)
}

// noteBroken counts a record that does not decode, and has it reported once.
func (ix *index) noteBroken(p part, key string, was bool, err error, c *changes) {
	if err != nil && !was {
		ix.broken[p]++
		c.broken = append(c.broken, brokenRecord{key: key, err: err})
	}
	if err == nil && was {
		ix.broken[p]--
	}
}

func (ix *index) dropAttachment(node, volume string, c *changes) {
	e := ix.entries[node]
	if e == nil || e.records[volume] == nil {
		return
	}
	r := e.records[volume]
	ix.forget(e, r)
	delete(e.records, volume)
	ix.attachments--
	if len(e.records) == 0 {
		e.records = nil
		ix.attached--
	}
	if _, was := e.broken[volume]; was {
		delete(e.broken, volume)
		ix.broken[partAttachments]--
	}
	if _, waits := e.graces[volume]; waits {
		delete(e.graces, volume)
		c.released = append(c.released, waiter{node: e.name, volume: volume})
	}
	ix.lapses.add(Lapse{Volume: strings.Clone(volume), Node: e.name, Mode: r.modeOf(), Token: r.token, Lease: r.lease})
	c.lapsed = true
	ix.settle(e, c)
}

func (ix *index) putDeparture(key string, d state.Departure, seen time.Time, c *changes) {
	e, old := ix.entry(d.Node), (*state.Departure)(nil)
	e.departureList = ix.parts[partDepartures].list
	old, e.departure = e.departure, &d
	if old != nil && old.ModRevision == d.ModRevision {
		return
	}
	e.departureSeen = seen
	if old == nil {
		ix.departures++
	}
	ix.noteBroken(partDepartures, key, old != nil && old.Broken != nil, d.Broken, c)
	delete(ix.behind, e.name)
	if ix.awaitQuarantine && d.Reason != state.OutOfService && d.ModRevision > ix.parts[partQuarantines].revision {
		ix.behind[e.name] = e
	}
	ix.settle(e, c)
}

func (ix *index) dropDeparture(node string, c *changes) {
	e := ix.entries[node]
	if e == nil || e.departure == nil {
		return
	}
	if e.departure.Broken != nil {
		ix.broken[partDepartures]--
	}
	e.departure = nil
	ix.departures--
	delete(ix.behind, node)
	ix.settle(e, c)
}

func (ix *index) putQuarantine(key string, q state.Quarantine, c *changes) {
	e := ix.entry(q.Node)
	old := e.quarantine
	e.quarantine, e.quarantineList = &q, ix.parts[partQuarantines].list
	if old != nil && old.ModRevision == q.ModRevision {
		return
	}
	if old == nil {
		ix.quarantines++
	}
	ix.noteBroken(partQuarantines, key, old != nil && old.Broken != nil, q.Broken, c)
	ix.settle(e, c)
}

func (ix *index) dropQuarantine(node string, c *changes) {
	e := ix.entries[node]
	if e == nil || e.quarantine == nil {
		return
	}
	if e.quarantine.Broken != nil {
		ix.broken[partQuarantines]--
	}
	e.quarantine = nil
	ix.quarantines--
	ix.settle(e, c)
}

// restoreFreeze is one in the index, and the list that had it last.
type restoreFreeze struct {
	state.RestoreFreeze
	list uint32
}

func (ix *index) putFreeze(key string, f state.RestoreFreeze, c *changes) {
	old, there := ix.freezes[f.Cluster]
	ix.freezes[f.Cluster] = restoreFreeze{f, ix.parts[partFreezes].list}
	c.all = c.all || !there
	ix.noteBroken(partFreezes, key, there && old.Broken != nil, f.Broken, c)
}

func (ix *index) dropFreeze(cluster string, c *changes) {
	f, there := ix.freezes[cluster]
	if f.Broken != nil {
		ix.broken[partFreezes]--
	}
	delete(ix.freezes, cluster)
	c.all = c.all || there
}

// catchUp finds the departures that the view of the quarantines has reached.
func (ix *index) catchUp(c *changes) {
	for name, e := range ix.behind {
		if e.departure.ModRevision <= ix.parts[partQuarantines].revision {
			delete(ix.behind, name)
			c.touch(name)
		}
	}
}

// single takes in a change of a record of which there is one.
func (ix *index) single(p part, e state.Event, c *changes) {
	if e.Type == state.Delete {
		ix.dropSingle(p, c)
		return
	}
	ix.seen[p] = true
	was, err := ix.brokenSingle(p), e.Broken
	switch r := e.Record.(type) {
	case state.Pause:
		c.all = c.all || ix.pause == nil || ix.pause.ModRevision != r.ModRevision
		ix.pause = &r
	case state.LedgerRecord:
		c.all = c.all || ix.ledger.ModRevision != r.ModRevision
		ix.ledger = r
	case state.ClusterRecord:
		c.all = c.all || ix.identity.ModRevision != r.ModRevision
		ix.identity = r
	default:
		return
	}
	ix.noteBroken(p, e.Key, was, err, c)
}

func (ix *index) brokenSingle(p part) bool {
	switch p {
	case partPause:
		return ix.pause != nil && ix.pause.Broken != nil
	case partLedger:
		return ix.ledger.Broken != nil
	}
	return ix.identity.Broken != nil
}

func (ix *index) dropSingle(p part, c *changes) {
	if ix.brokenSingle(p) {
		ix.broken[p]--
	}
	switch p {
	case partPause:
		c.all = c.all || ix.pause != nil
		ix.pause = nil
	case partLedger:
		c.all = c.all || ix.ledger.ModRevision != 0
		ix.ledger = state.LedgerRecord{}
	case partCluster:
		c.all = c.all || ix.identity.ModRevision != 0
		ix.identity = state.ClusterRecord{}
	}
}

// awaitGrace notes that a node waits for the grace of a volume. It is false
// where the node has no such attachment, or waits already.
func (ix *index) awaitGrace(node, volume string) bool {
	e := ix.entries[node]
	if e == nil || e.records[volume] == nil {
		return false
	}
	if _, waits := e.graces[volume]; waits {
		return false
	}
	if e.graces == nil {
		e.graces = make(map[string]struct{}, 1)
	}
	e.graces[strings.Clone(volume)] = struct{}{}
	return true
}

// endGrace notes that a node's wait is over.
func (ix *index) endGrace(node, volume string) changes {
	var c changes
	if e := ix.entries[node]; e != nil {
		if _, waits := e.graces[volume]; waits {
			delete(e.graces, volume)
			c.touch(e.name)
		}
	}
	return c
}
