package history

import (
	"fmt"
	"time"
)

// How what is under a lease may go.

// expired says why the revision cannot be the end of r's lease: that deletes
// all the keys of the lease, and does nothing else. Empty if it can.
func (ch *change) expired(r *Record) string {
	lease := r.KV.Lease
	switch {
	case lease == 0:
		return "it is under no lease"
	case len(ch.put)+ch.others > 0:
		return "its revision does more than ending a lease"
	}
	for _, other := range ch.deleted {
		if other.KV.Lease != lease {
			return fmt.Sprintf("its lease is %x, and %s goes with it under %x", lease, other.below(), other.KV.Lease)
		}
	}
	if kept := len(ch.checker.at.leases[lease]) - len(ch.deleted); kept > 0 {
		return fmt.Sprintf("its lease %x still has %d other keys", lease, kept)
	}
	return ""
}

// waited checks that r goes by the end of its lease, and not before its time.
// unreported, if not nil, says that nobody was told of the wait.
func (ch *change) waited(i Invariant, r *Record, wait time.Duration, unreported func() bool, others ...*Record) {
	c := ch.checker
	others = append(others, r)
	why := ch.expired(r)
	if why == "" {
		c.report.Ended[r.Kind]++
		switch {
		case c.told.wasRevoked(r.KV.Lease):
			return
		case r.KV.Mod <= c.begin: // the segment's list had it: when it was put is not known
			c.report.Skipped++
			return
		}
		lower := c.lower(r)
		if most := ch.when.Upper - lower; most < wait {
			why = fmt.Sprintf("at most %v after it was put at revision %d, not before %v, and it should last for %v", most, r.KV.Mod, lower, wait)
		}
	}
	c.count(i)
	switch {
	case why == "":
	case unreported != nil && unreported():
		c.report.Tolerated = append(c.report.Tolerated, ch.describe(i, r.Key, why, others))
	default:
		ch.violation(i, r.Key, "it goes: "+why, others...)
	}
}

func (ch *change) untold(kind CallKind, volume string, p place, token uint64) bool {
	return ch.checker.told.untold(Call{Kind: kind, Volume: volume, Cluster: p.Cluster, Node: p.Node, Token: token}, ch.when)
}

// graceOver: a detachment goes by itself, by force, or because it is cleared.
func (ch *change) graceOver(d *Record) {
	for _, r := range ch.put {
		if r.Kind == Holds && r.Volume == d.Volume {
			ch.expect(ch.entry("forced", r.Key) != nil, EarlyEnd, d.Key, "an attach deletes it, and not by force", d, r)
			return
		}
	}
	wait := time.Duration(d.value.GraceMS) * time.Millisecond
	if ch.checker.told.explains(Call{Kind: CallClear, Volume: d.Volume, Cluster: d.Cluster, Node: d.Node}, ch.when, ch.checker.lower(d)) {
		return
	}
	ch.waited(EarlyEnd, d, wait, func() bool {
		return ch.untold(CallEnd, d.Volume, d.place(), d.value.Token) || ch.untold(CallEvict, d.Volume, d.place(), d.value.Token) || ch.stalled(d)
	})
}

// stall is how far apart the bounds of a revision are at least if etcd stood
// still for longer than a removal waits for its answer.
const stall = time.Second

// stalled: a removal left it, in a request that etcd may have carried out only
// when its sender had given up. It is sent once, and nobody looks after its waits.
func (ch *change) stalled(d *Record) bool {
	put := ch.checker.bounds(d.KV.Mod, ch.when.Upper)
	return d.removed && put.Upper-put.Lower > stall
}

// windowOver: a window ends with one of its holds, or by itself.
func (ch *change) windowOver(w *Record) {
	for _, p := range []place{w.value.Source, w.value.Target} {
		if ch.deletes(Key{Kind: Holds, Volume: w.Volume, Mode: "x", Cluster: p.Cluster, Node: p.Node}) != nil {
			ch.checker.count(EarlyEnd)
			return
		}
	}
	ch.waited(EarlyEnd, w, w.value.Deadline.Sub(w.value.Since), func() bool { return ch.untold(CallMigrate, w.Volume, w.value.Target, 0) })
}

// quarantineOver: a quarantine ends with its departure, or by itself.
func (ch *change) quarantineOver(q *Record) {
	k := Key{Kind: Departures, Cluster: q.Cluster, Node: q.Node}
	if ch.deletes(k) != nil || ch.puts(k) != nil {
		ch.checker.count(EarlyEnd)
		return
	}
	departure := ch.checker.at.cluster(q.Cluster).departures[q.Node]
	if departure == nil {
		return // seen as an orphan
	}
	// A departure whose request was given up may be carried out late, and its
	// quarantine end at once. That frees nothing: a removal has to wait all the same.
	departure.owed = q.value.Until.Sub(departure.value.Since)
	ch.waited(EarlyEnd, q, departure.owed, func() bool { return true }, departure)
}

// pauseOver: somebody resumed, and the journal says so, or it had an end.
func (ch *change) pauseOver(p *Record) {
	if ch.entry("resumed", Key{Cluster: p.Cluster}) != nil {
		ch.checker.count(EarlyEnd)
		return
	}
	ch.waited(EarlyEnd, p, p.value.Until.Sub(p.value.Since), nil)
}

// lapsed: an attachment goes with its hold, or by the end of its lease.
func (ch *change) lapsed(a *Record) {
	if ch.deletes(Key{Kind: Holds, Volume: a.Volume, Mode: a.letter(), Cluster: a.Cluster, Node: a.Node}) != nil {
		ch.checker.count(AttachmentLapse)
		return
	}
	ch.waited(AttachmentLapse, a, ch.checker.checks.LeastLapse, nil)
}

// forgotten: a journal entry goes when its retention is over.
func (ch *change) forgotten(entry *Record) {
	ch.waited(EarlyEnd, entry, ch.checker.checks.Retention, nil)
}
