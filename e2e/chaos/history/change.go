package history

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// change is one revision: what it put, and what it deleted as it stood before.
type change struct {
	checker *Checker
	number  int64
	when    Bounds
	put     map[string]*Record
	deleted map[string]*Record
	others  int // events outside of the ledger
}

func (ch *change) violation(i Invariant, k Key, detail string, records ...*Record) {
	v := ch.describe(i, k, detail, records)
	c := ch.checker
	c.report.Violated++
	if len(c.report.Violations) < kept {
		c.report.Violations = append(c.report.Violations, v)
	}
	if c.checks.OnViolation != nil {
		c.checks.OnViolation(v)
	}
}

func (ch *change) describe(i Invariant, k Key, detail string, records []*Record) Violation {
	v := Violation{Invariant: i, Key: k, Segment: ch.checker.segment, Revision: ch.number, When: ch.when, Detail: detail}
	for _, r := range records {
		if r != nil {
			v.Records = append(v.Records, r.String())
		}
	}
	slices.Sort(v.Records)
	return v
}

// expect counts an evaluation, and reports a violation unless ok.
func (ch *change) expect(ok bool, i Invariant, k Key, detail string, records ...*Record) {
	ch.checker.count(i)
	if !ok {
		ch.violation(i, k, detail, records...)
	}
}

// decode returns nil for what is not below the ledger's root, or no key of it.
// A value that does not decode is an empty one: its key still counts.
func (ch *change) decode(kv KV) *Record {
	c := ch.checker
	if !strings.HasPrefix(kv.Key, c.root) {
		return nil
	}
	k, err := ParseKey(c.root, kv.Key)
	if err != nil {
		ch.expect(false, UnknownKey, Key{Kind: Kind(kv.Key)}, err.Error())
		return nil
	}
	r, err := newRecord(k, kv)
	ch.expect(err == nil, UnknownKey, k, fmt.Sprint(err), r)
	return r
}

// raw is the key in etcd of a key.
func (ch *change) raw(k Key) string { return ch.checker.root + k.below() }

func (ch *change) puts(k Key) *Record    { return ch.put[ch.raw(k)] }
func (ch *change) deletes(k Key) *Record { return ch.deleted[ch.raw(k)] }

// entry finds the revision's journal entry of an action about a key.
func (ch *change) entry(action string, about Key) *Record {
	for _, r := range ch.put {
		if r.Kind == Journal && r.value.Action == action && r.Cluster == about.Cluster &&
			(about.Node == "" || r.value.Node == about.Node) &&
			slices.ContainsFunc(r.tells(), func(o orphan) bool { return about.Volume == "" || o.Volume == about.Volume }) {
			return r
		}
	}
	return nil
}

// before holds the revision against what stood before it.
func (ch *change) before() {
	for _, r := range ordered(ch.put) {
		ch.shape(r)
		switch r.Kind {
		case Holds:
			ch.held(r)
		case Journal:
			ch.journaled(r)
		case Ledger:
			ch.epochRaised(r)
		}
	}
	for _, r := range ordered(ch.deleted) {
		switch r.Kind {
		case Holds:
			ch.ended(r)
		case Detachments:
			ch.graceOver(r)
		case Migrations:
			ch.windowOver(r)
		case Quarantines:
			ch.quarantineOver(r)
		case Pauses:
			ch.pauseOver(r)
		case Attachments:
			ch.lapsed(r)
		case Journal:
			ch.forgotten(r)
		case Freezes:
			ch.lifted(r)
		case Ledger, Clusters:
			ch.expect(false, LostRecord, r.Key, "it is deleted, which nothing does", r)
		}
	}
}

func ordered(m map[string]*Record) []*Record {
	out := make([]*Record, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[k])
	}
	return out
}

func (ch *change) apply() {
	at := ch.checker.at
	for raw := range ch.deleted {
		at.remove(raw)
	}
	for _, r := range ch.put {
		r.removed = r.Kind == Detachments && ch.entry("removed", r.Key) != nil
		at.put(r)
		ch.checker.note(r)
	}
}

// after checks what the revision leaves of each volume and cluster it touched.
func (ch *change) after() {
	at := ch.checker.at
	volumes, clusters := map[string]bool{}, map[string]bool{}
	for _, m := range []map[string]*Record{ch.put, ch.deleted} {
		for _, r := range m {
			volumes[r.Volume] = true
			if r.Kind == Departures || r.Kind == Quarantines {
				clusters[r.Cluster] = true
			}
		}
	}
	delete(volumes, "")
	for name := range volumes {
		ch.together(name, at.volume(name))
	}
	for name := range clusters {
		ch.waiting(at.cluster(name))
	}
	for _, r := range ordered(ch.put) {
		if r.Kind == Holds {
			ch.modes(r.Key, at.volume(r.Volume))
		}
	}
}
