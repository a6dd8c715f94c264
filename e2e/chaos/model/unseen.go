package model

import (
	"math"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

// unseen are the calls about one volume whose effect may have come without
// their caller being told: an unknown outcome, or a send whose answer was lost
// before a later send of the same call was answered.
type unseen struct {
	attaches []*Call // Attach, Migrate
	ends     []*Call // Detach, Commit, Abort, Remove, Evict
	clears   []*Call
	aways    []Away
}

// resendAfter is the shortest time that package state waits before it sends a
// call again (its first backoff). A call that took less was sent once.
const resendAfter = 10 * time.Millisecond

func (c *Call) resent() bool { return c.End-c.Begin >= resendAfter }

// sends bounds how often a call was sent. Between a send that got no answer and
// the next it waited for at least resendAfter; a migration whose caller is gone
// goes on for a while.
func (c *Call) sends() int {
	if c.End == Never || c.Op.Kind == Migrate && c.Result.Outcome == Unknown {
		return math.MaxInt32
	}
	return 1 + int((c.End-c.Begin)/resendAfter)
}

func (u *unseen) learn(c *Call) {
	unknown := c.Result.Outcome == Unknown
	switch c.Op.Kind {
	case Attach, Migrate:
		// A late send of an attach that was answered, whatever the answer, may
		// still bring a hold back: docs/adr/0006.
		if unknown || c.resent() {
			u.attaches = append(u.attaches, c)
		}
	case Detach, Evict:
		// What a first send has ended, a later one may find gone.
		blind := c.Result.Outcome == Refused || c.Result.Outcome == OK && c.Op.Kind == Detach && !c.Result.Existed
		if unknown || blind && c.resent() {
			u.ends = append(u.ends, c)
		}
	case Commit, Abort, Remove:
		if unknown {
			u.ends = append(u.ends, c)
		}
	case Clear:
		if unknown {
			u.clears = append(u.clears, c)
		}
	}
}

// mayHaveMade says whether an attach that was not answered may have given a
// place a hold, at or before upto.
func (u *unseen) mayHaveMade(p state.Place, m state.Mode, upto time.Duration) bool {
	for _, c := range u.attaches {
		if c.Begin <= upto && makes(c, p, m) {
			return true
		}
	}
	return false
}

func makes(c *Call, p state.Place, m state.Mode) bool {
	if c.Op.Kind == Migrate {
		return c.Op.Target == p && m == state.Exclusive
	}
	return c.Op.Place == p && c.Op.mode() == m
}

// mayHaveEnded says whether a hold may have ended at or before upto without
// anyone having been told, and the earliest end of the grace that this left.
func (u *unseen) mayHaveEnded(h hold, upto time.Duration) (until time.Duration, ok bool) {
	until = Never
	for _, c := range u.ends {
		if c.Begin <= upto && ends(c, h) {
			until, ok = min(until, c.until()), true
		}
	}
	for _, a := range u.aways {
		if a.Place == h.place && a.From <= upto && h.after <= a.To {
			until, ok = min(until, a.until()), true
		}
	}
	return until, ok
}

func (a Away) until() time.Duration {
	if a.Wait == 0 {
		return 0
	}
	return a.From + a.Wait
}

// ends says whether a call may have ended a hold. One that names no token ends
// what was there when it came in, or at the latest when its caller was answered:
// docs/adr/0004.
func ends(c *Call, h hold) bool {
	switch c.Op.Kind {
	case Detach:
		return c.Op.Place == h.place && (c.Op.Token == h.token || c.Op.Token == 0 && h.after <= c.End)
	case Commit, Abort:
		p, t := c.Op.loser()
		return p == h.place && t == h.token && h.mode == state.Exclusive
	default:
		return c.Op.Place == h.place && c.Op.Token == h.token && c.Op.mode() == h.mode
	}
}

// left finds who may have left a detachment that no answered call explains.
func (u *unseen) left(d Detachment, upto time.Duration) (after, until time.Duration, ok bool) {
	after, until = Never, Never
	for _, c := range u.ends {
		place, token := c.Op.Place, c.Op.Token
		if c.Op.Kind == Commit || c.Op.Kind == Abort {
			place, token = c.Op.loser()
		}
		// A detach without a token leaves a detachment without one.
		if c.Begin <= upto && place == d.Place && token == d.Token && (c.Op.Kind == Detach || c.Op.mode() == d.Mode) {
			after, until, ok = min(after, c.Begin), min(until, c.until()), true
		}
	}
	for _, a := range u.aways {
		if a.Place == d.Place && a.From <= upto {
			after, until, ok = min(after, a.From), min(until, a.until()), true
		}
	}
	return after, until, ok
}

// mayBeGone says whether a detachment may be gone at upto: expired (then it
// needed an expiry), cleared, deleted by an attach within the grace, or put
// again by an unseen end with a shorter grace.
func (u *unseen) mayBeGone(d detachment, upto time.Duration) (gone, expired bool) {
	if d.until <= upto {
		return true, true
	}
	for _, c := range u.clears {
		if c.Begin <= upto && c.Op.Place == d.place && c.Op.mode() == d.mode && (d.rev == 0 || c.Op.Revision == 0 || c.Op.Revision >= d.rev) {
			return true, false
		}
	}
	again := false
	for _, c := range u.attaches {
		if c.Begin > upto {
			continue
		}
		if c.Op.IgnoreGrace && c.Op.Place.Cluster != d.place.Cluster && d.mode == state.Exclusive {
			return true, false
		}
		again = again || makes(c, d.place, d.mode)
	}
	if again {
		until, ok := u.mayHaveEnded(hold{place: d.place, mode: d.mode, after: d.after}, upto)
		return ok && until <= upto, false
	}
	return false, false
}

// stands says whether a hold's attachment is there for certain at upto. An
// attach that arrives late moves it to a lease of its own, which may be older.
func (u *unseen) stands(h hold, upto time.Duration) bool {
	if h.stands <= upto {
		return false
	}
	for _, c := range u.attaches {
		if c.Begin <= upto && makes(c, h.place, h.mode) && c.Begin+c.Op.Session <= upto {
			return false
		}
	}
	return true
}
