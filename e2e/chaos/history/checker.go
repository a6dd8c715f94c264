package history

import (
	"strings"
	"time"
)

// Checks says what a checker holds the history against.
type Checks struct {
	// Prefix is the ledger's; default "/holdfast/".
	Prefix string
	// LiveCheck is how long a live check allows a removal; default 5 s.
	LiveCheck time.Duration
	// LeastLapse is how soon after its last put an attachment may lapse. A lease
	// is filled for as long as a third of the TTL is left, and a request may hang
	// for a while. 0: that is not looked at.
	LeastLapse time.Duration
	// Retention is the journal's; 0: that is not looked at.
	Retention time.Duration
	// AttachesTold: the run tells of every attach and migration, so that a hold
	// which none of them can have put is a violation.
	AttachesTold bool
	// OnViolation is told at once. It must not call the observer.
	OnViolation func(Violation)
}

// kept bounds the violations that a report has.
const kept = 200

// Checker holds revisions against the invariants as they come. Its memory is
// what stands in the ledger. It is not safe for concurrent use.
type Checker struct {
	checks Checks
	told   *Told
	report Report
	root   string

	segment int
	begin   int64 // the revision of the segment's list
	last    Bounds
	number  int64
	bounds  func(revision int64, received time.Duration) Bounds
	at      *ledger
	// restored: the epoch is still that of the snapshot.
	restored bool

	// What outlives a segment: the greatest token that each volume has had, and
	// the greatest epoch.
	tokens map[string]uint64
	epoch  uint16
}

// NewChecker returns a checker that has seen nothing yet.
func NewChecker(checks Checks, told *Told) *Checker {
	if checks.Prefix == "" {
		checks.Prefix = "/holdfast/"
	}
	if checks.LiveCheck == 0 {
		checks.LiveCheck = 5 * time.Second
	}
	return &Checker{
		checks: checks, told: told, root: strings.TrimSuffix(checks.Prefix, "/") + "/v1/", at: newLedger(), tokens: map[string]uint64{},
		report: Report{Evaluated: map[Invariant]int{}, Ended: map[Kind]int{}},
	}
}

// Begin begins a segment with the list of all keys at a revision. bounds tells
// the times of a revision, at most the time given.
func (c *Checker) Begin(segment int, revision int64, kvs []KV, bounds func(int64, time.Duration) Bounds) {
	c.segment, c.begin, c.number, c.bounds, c.at = segment, revision, revision, bounds, newLedger()
	c.restored = c.report.Segments > 0
	c.report.Segments++
	base := &change{checker: c, number: revision}
	for _, kv := range kvs {
		if r := base.decode(kv); r != nil {
			c.at.put(r)
			base.shape(r)
			c.note(r)
		}
	}
	for name, v := range c.at.volumes {
		base.together(name, v)
		base.modes(Key{Kind: Holds, Volume: name}, v)
	}
	for _, cl := range c.at.clusters {
		base.waiting(cl)
	}
}

// note keeps what outlives a segment.
func (c *Checker) note(r *Record) {
	c.epoch = max(c.epoch, r.epoch())
	if r.Kind == Holds {
		c.tokens[r.Volume] = max(c.tokens[r.Volume], r.token())
	}
}

// Take takes the next revision in.
func (c *Checker) Take(r Revision) {
	c.report.Revisions++
	c.report.Events += len(r.Events)
	ch := &change{
		checker: c, number: r.Number, when: c.bounds(r.Number, r.Received),
		put: map[string]*Record{}, deleted: map[string]*Record{},
	}
	for _, e := range r.Events {
		switch {
		case !strings.HasPrefix(e.Key, c.root):
			ch.others++
		case e.Delete:
			if was := c.at.keys[e.Key]; was != nil {
				ch.deleted[e.Key] = was
			}
		default:
			if rec := ch.decode(e.KV); rec != nil {
				ch.put[e.Key] = rec
			}
		}
	}
	c.number, c.last = ch.number, ch.when
	ch.before()
	ch.apply()
	ch.after()
}

// Quiet checks what must be so at rest: every hold of the live clusters is
// stood by. What must be so at any time has been checked at every revision.
func (c *Checker) Quiet(live []string) {
	ch := &change{checker: c, number: c.number, when: c.last}
	for _, name := range live {
		for _, v := range c.at.volumes {
			for _, h := range v.holds {
				if h.Cluster != name {
					continue
				}
				c.count(OrphanKeys)
				if len(pick(v.attachments, func(a *Record) bool { return a.place() == h.place() })) == 0 {
					ch.violation(OrphanKeys, h.Key, "at rest nobody stands by it, and its cluster is up", h)
				}
			}
		}
	}
}

// Report is what was found so far.
func (c *Checker) Report() Report {
	out := c.report
	out.Evaluated = make(map[Invariant]int, len(Invariants))
	for _, i := range Invariants {
		out.Evaluated[i] = c.report.Evaluated[i]
	}
	out.Ended = make(map[Kind]int, len(c.report.Ended))
	for k, n := range c.report.Ended {
		out.Ended[k] = n
	}
	out.Violations = append([]Violation(nil), c.report.Violations...)
	out.Tolerated = append([]Violation(nil), c.report.Tolerated...)
	return out
}

// lower is the earliest time at which what a record tells of can have been put;
// 0 where the segment's list had it already.
func (c *Checker) lower(r *Record) time.Duration {
	if r.KV.Mod <= c.begin {
		return 0
	}
	return c.bounds(r.KV.Mod, c.last.Upper).Lower
}

func (c *Checker) count(i Invariant) { c.report.Evaluated[i]++ }
