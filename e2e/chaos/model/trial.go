package model

import (
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

// trial is one step on its way: the volume as it would be, and what the step
// had to assume.
type trial struct {
	*unseen
	v *volume
	// upto is the end of the call: the latest moment at which it took place.
	upto time.Duration
	// expiries counts what must have expired for the step to be possible.
	expiries int
}

// reads: the answer was true at a revision. 0 if it did not say.
func (t *trial) reads(rev int64) bool {
	if rev != 0 && rev < t.v.rev {
		return false
	}
	t.v.rev = max(t.v.rev, rev)
	return true
}

// writes: the step wrote at a revision of its own. 0 if the answer did not say.
func (t *trial) writes(rev int64) bool {
	if rev == 0 {
		rev = t.v.rev + 1
	}
	if rev <= t.v.rev {
		return false
	}
	t.v.rev = rev
	return true
}

// vanish ends a hold that an answer says is gone, if anyone may have ended it
// unseen. What detachment that left, nobody saw; the one before it, it replaced.
func (t *trial) vanish(h hold) (graceUntil time.Duration, ok bool) {
	until, ok := t.mayHaveEnded(h, t.upto)
	if ok {
		t.v.dropHold(h.place, h.mode)
		t.v.dropDetachment(h.place, h.mode)
		t.v.window = nil
	}
	return until, ok
}

// only ends all holds but the wanted ones, and says whether those are there and
// the others may be gone.
func (t *trial) only(wanted []Hold, among func(hold) bool) bool {
	found := 0
	for _, h := range append([]hold(nil), t.v.holds...) {
		if !among(h) {
			continue
		}
		if holdIn(wanted, h) {
			found++
			continue
		}
		if _, ok := t.vanish(h); !ok {
			return false
		}
	}
	return found == len(wanted)
}

func holdIn(holds []Hold, h hold) bool {
	for _, w := range holds {
		if w.Place == h.place && w.Mode == h.mode && w.Token == h.token {
			return true
		}
	}
	return false
}

// shows reconciles the detachments with those that an answer showed: all there
// are of a kind.
func (t *trial) shows(seen []Detachment, among func(detachment) bool) bool {
	for _, d := range append([]detachment(nil), t.v.detachments...) {
		if !among(d) || detachmentIn(seen, d) {
			continue
		}
		if !t.drop(d) {
			return false
		}
	}
	for _, s := range seen {
		if d := t.v.detachment(s.Place, s.Mode); d != nil && same(*d, s) {
			d.at, d.rev = s.At, max(d.rev, s.Revision)
			continue
		}
		after, until, ok := t.left(s, t.upto)
		if !ok {
			return false
		}
		t.v.put(detachment{place: s.Place, mode: s.Mode, token: s.Token, at: s.At, rev: s.Revision, after: after, until: until})
	}
	return true
}

func detachmentIn(seen []Detachment, d detachment) bool {
	for _, s := range seen {
		// Another end's record in the same place has replaced this one.
		if s.Place == d.place && s.Mode == d.mode {
			return true
		}
	}
	return false
}

// same says whether a record is the one that is known, perhaps put again.
func same(d detachment, s Detachment) bool {
	return d.token == s.Token && (d.at == 0 || s.At == 0 || d.at == s.At) &&
		(d.rev == 0 || s.Revision == 0 || s.Revision >= d.rev)
}

// drop takes a detachment away, if it may be gone.
func (t *trial) drop(d detachment) bool {
	gone, expired := t.mayBeGone(d, t.upto)
	if !gone {
		return false
	}
	if expired {
		t.expiries++
	}
	t.v.dropDetachment(d.place, d.mode)
	return true
}

// free makes way for a new hold: nothing that excludes it, and no other
// cluster's grace, unless that is ignored.
func (t *trial) free(p state.Place, m state.Mode, ignoreGrace bool) bool {
	for _, h := range append([]hold(nil), t.v.holds...) {
		own := h.place == p && h.mode == m
		if !own && m == state.Shared && h.mode == state.Shared {
			continue
		}
		until, ok := t.vanish(h)
		foreign := h.mode == state.Exclusive && h.place.Cluster != p.Cluster
		if !ok || foreign && !ignoreGrace && until > t.upto && !t.mayIgnoreGrace() {
			return false
		}
	}
	for _, d := range append([]detachment(nil), t.v.detachments...) {
		if d.mode != state.Exclusive || d.place.Cluster == p.Cluster {
			continue
		}
		if ignoreGrace {
			t.v.dropDetachment(d.place, d.mode)
		} else if !t.drop(d) {
			return false
		}
	}
	return true
}

// mayIgnoreGrace says whether an unseen call may have deleted a grace.
func (t *trial) mayIgnoreGrace() bool {
	for _, c := range t.clears {
		if c.Begin <= t.upto {
			return true
		}
	}
	for _, c := range t.attaches {
		if c.Op.IgnoreGrace && c.Begin <= t.upto {
			return true
		}
	}
	return false
}

// alone makes way for a migration: the source's hold, and no other.
func (t *trial) alone(p state.Place, token state.Token) bool {
	source := t.v.hold(p, state.Exclusive)
	if source == nil || token != 0 && source.token != token {
		return false
	}
	for _, h := range append([]hold(nil), t.v.holds...) {
		if h.place == p && h.mode == state.Exclusive {
			continue
		}
		if _, ok := t.vanish(h); !ok {
			return false
		}
	}
	return t.v.window == nil
}

// fenced says whether a late send of a call would have met the detachment of
// its own node, put after the call's answer and still there: docs/adr/0006.
func (t *trial) fenced(c *Call, p state.Place, m state.Mode) bool {
	d := t.v.detachment(p, m)
	if d == nil || d.after <= c.End {
		return false
	}
	gone, _ := t.mayBeGone(*d, t.upto)
	return !gone
}
