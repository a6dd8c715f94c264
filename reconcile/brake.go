package reconcile

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-storage/holdfast/failpoint"
	"github.com/holdfast-storage/holdfast/state"
)

// The defaults of a BrakeConfig.
const (
	DefaultBrakeFraction = 0.2
	DefaultBrakeMin      = 2
	DefaultBrakeWindow   = 10 * time.Minute
)

// NoBrakeMin is the Min of a BrakeConfig that lets a single node brake, where
// it is more than the fraction.
const NoBrakeMin = -1

// BrakeConfig says how many nodes may be missing before removals stop. The zero
// value of a field has a default.
type BrakeConfig struct {
	// Fraction of the nodes with attachments, above 0 and up to 1; default 0.2.
	// At 1 only an empty Node list brakes.
	Fraction float64
	// Min is a number of nodes that may always be missing; default 2.
	Min int
	// Window is how long a removed node counts; default 10 minutes. It must be
	// shorter than the journal's retention, for it is rebuilt from the journal.
	Window time.Duration
	// Release, above 0, lets a brake that has been engaged for so long go on by
	// itself, except where there are no nodes at all. Default: never.
	Release time.Duration
}

func (c BrakeConfig) withDefaults() BrakeConfig {
	if c.Fraction == 0 {
		c.Fraction = DefaultBrakeFraction
	}
	switch c.Min {
	case 0:
		c.Min = DefaultBrakeMin
	case NoBrakeMin:
		c.Min = 0
	}
	if c.Window == 0 {
		c.Window = DefaultBrakeWindow
	}
	return c
}

func (c BrakeConfig) validate(retention time.Duration) error {
	switch {
	case !(c.Fraction > 0 && c.Fraction <= 1):
		return fmt.Errorf("%w brake fraction %v: expected a number above 0 and up to 1", state.ErrInvalid, c.Fraction)
	case c.Min < 0:
		return fmt.Errorf("%w brake minimum %d: expected a number of nodes", state.ErrInvalid, c.Min)
	case c.Window < 0 || c.Window >= retention:
		return fmt.Errorf("%w brake window %s: expected a duration shorter than the journal's retention of %s",
			state.ErrInvalid, c.Window, retention)
	case c.Release < 0:
		return fmt.Errorf("%w brake release %s: expected a duration, or 0 for never", state.ErrInvalid, c.Release)
	}
	return nil
}

// Verdict is what the brake says, and why.
type Verdict struct {
	Engaged bool `json:"engaged"`
	// NoNodes: the Node list is empty, which nothing releases.
	NoNodes bool `json:"noNodes,omitempty"`
	// Missing nodes have attachments and are not in the list, or are another
	// machine's there. Removed ones lost theirs within the window. None is in
	// both, and what a release covers is in neither.
	Missing int `json:"missing"`
	Removed int `json:"removed"`
	// Of is how many nodes have attachments, or had before they were removed.
	Of int `json:"of"`
	// Allowed is how many may be missing or removed before the brake engages.
	Allowed int `json:"allowed"`
	// Until is when a removed node next leaves the window; zero if none is in it.
	Until time.Time `json:"until,omitzero"`
}

// String says it in a line.
func (v Verdict) String() string {
	switch {
	case v.NoNodes:
		return fmt.Sprintf("engaged: the Node list is empty; nodes with attachments: %d", v.Of)
	case v.Engaged:
		return fmt.Sprintf("engaged: missing %d, removed %d, more than %d of %d nodes with attachments", v.Missing, v.Removed, v.Allowed, v.Of)
	}
	return fmt.Sprintf("off: missing %d, removed %d, up to %d of %d nodes with attachments", v.Missing, v.Removed, v.Allowed, v.Of)
}

// census is what the brake counts, as the index has it now.
type census struct {
	nodes int // in the Node list
	// withAttachments counts the nodes that have some, missing ones too.
	withAttachments int
	// missing are the nodes with attachments that are gone or replaced, sorted.
	missing []string
	// departure is the ModRevision of a node's, 0 where there is none.
	departure func(node string) int64
	// standing says whether a node has attachments.
	standing func(node string) bool
}

// removal is the last that was removed of a node.
type removal struct {
	at        time.Time
	departure int64 // ModRevision of the departure that it was removed by
}

// brake keeps the window of removals. It is safe for concurrent use.
type brake struct {
	cfg BrakeConfig

	mu       sync.Mutex
	removed  map[string]removal
	underWay map[string]int // removals that are being sent, by node
	released int64          // ModRevision of the newest release
}

func newBrake(cfg BrakeConfig) *brake {
	return &brake{cfg: cfg, removed: map[string]removal{}, underWay: map[string]int{}}
}

// note takes in a journal entry and when it was written, by this process's own
// clock: those of others may be wrong. Entries may come in any order and more
// than once. It returns true for one that may let go what is braked.
func (b *brake) note(e state.Entry, at time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case e.Action == state.ActionBrakeReleased && e.ModRevision > b.released:
		b.released = e.ModRevision
		return true
	case e.Action == state.ActionRemoved && e.Reason != string(state.OutOfService):
		departure := e.ModRevision // without evidence: newer than any release before it
		if e.Evidence != nil {
			departure = e.Evidence.DepartureRevision
		}
		b.add(e.Node, at, departure)
	}
	return false
}

func (b *brake) add(node string, at time.Time, departure int64) {
	r := b.removed[node]
	if at.After(r.at) {
		r.at = at
	}
	r.departure = max(r.departure, departure)
	b.removed[node] = r
}

// removing counts the node as removed from before the request goes until its
// entry can be seen: between the two it would stand in neither list. The
// returned function is told what came of it.
func (b *brake) removing(node string, d state.Departure) func(ended bool) {
	if d.Reason == state.OutOfService {
		return func(bool) {}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.underWay[node]++
	return func(ended bool) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.underWay[node]--; b.underWay[node] == 0 {
			delete(b.underWay, node)
		}
		if ended {
			b.add(node, time.Now(), d.ModRevision)
		}
	}
}

// verdict counts. What the newest release covers does not count: departures
// that were on record before it.
func (b *brake) verdict(now time.Time, c census) Verdict {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := Verdict{Of: c.withAttachments, Missing: len(c.missing)}
	if b.released > 0 {
		v.Missing = 0
		for _, node := range c.missing {
			if b.counts(c.departure(node)) {
				v.Missing++
			}
		}
	}
	for node, r := range b.removed {
		leaves := r.at.Add(b.cfg.Window)
		if !leaves.After(now) {
			delete(b.removed, node)
			continue
		}
		b.count(&v, c, node, r.departure)
		if v.Until.IsZero() || leaves.Before(v.Until) {
			v.Until = leaves
		}
	}
	for node := range b.underWay {
		if _, known := b.removed[node]; !known {
			b.count(&v, c, node, 0)
		}
	}
	v.Allowed = max(b.cfg.Min, int(b.cfg.Fraction*float64(v.Of)+rounding))
	v.NoNodes = c.nodes == 0 && c.withAttachments > 0
	v.Engaged = v.NoNodes || v.Missing+v.Removed > v.Allowed
	if c.nodes == 0 && failpoint.Planted(failpoint.TrustEmptyNodes) {
		v.NoNodes, v.Engaged = false, false
	}
	return v
}

// rounding makes 0.29 of 100 nodes 29 of them.
const rounding = 1e-9

// counts: a node without a departure yet is newer than any release.
func (b *brake) counts(departure int64) bool { return departure == 0 || departure > b.released }

// count counts a removed node, once, and not beside the missing ones.
func (b *brake) count(v *Verdict, c census, node string, departure int64) {
	if _, missing := slices.BinarySearch(c.missing, node); missing {
		return
	}
	if b.counts(departure) {
		v.Removed++
	}
	if !c.standing(node) {
		v.Of++
	}
}
