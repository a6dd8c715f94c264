package model

import (
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

// step tries a call, or an arrival, on a volume and returns what may come of
// it. None: it can't have taken place there with that answer.
func (p *partition) step(v *volume, s *step) []trial {
	if !v.known {
		return p.unread(v, s)
	}
	if s.call.Op.Kind == arrival {
		return p.arrive(v, s)
	}
	t := trial{unseen: &p.unseen, v: v.clone(), upto: s.end}
	if !p.take(&t, s.call) {
		return nil
	}
	return []trial{t}
}

// unread is the step of a volume that was not read since a cut: anything may
// happen until it is.
func (p *partition) unread(v *volume, s *step) []trial {
	t := trial{unseen: &p.unseen, v: v.clone(), upto: s.end}
	res := s.call.Result
	if s.call.Op.Kind != Get || res.Outcome != OK {
		return []trial{t}
	}
	t.v.known, t.v.rev = true, res.Revision
	for _, h := range res.Holds {
		t.v.add(hold{place: h.Place, mode: h.Mode, token: h.Token})
	}
	for _, d := range res.Detachments {
		t.v.put(detachment{place: d.Place, mode: d.Mode, token: d.Token, at: d.At, rev: d.Revision})
	}
	if m := res.Migration; m != nil {
		t.v.window = &window{source: m.Source, target: m.Target, sourceToken: m.SourceToken, targetToken: m.TargetToken}
	}
	return []trial{t}
}

func (p *partition) take(t *trial, c *Call) bool {
	switch c.Op.Kind {
	case Attach:
		return p.attach(t, c)
	case Detach:
		return t.detach(c)
	case Migrate:
		return p.migrate(t, c)
	case Commit, Abort:
		return t.finish(c)
	case Clear:
		return t.clear(c)
	case Remove, Evict:
		return t.remove(c)
	case Rearm:
		return t.rearm(c)
	case Get:
		return c.Result.Outcome != OK || t.get(c)
	}
	return true
}

func (p *partition) attach(t *trial, c *Call) bool {
	place, m, res := c.Op.Place, c.Op.mode(), c.Result
	switch res.Outcome {
	case OK:
		h := t.v.hold(place, m)
		if h == nil || h.token != res.Token {
			if p.arrives[res.Token] || !p.create(t, c, res.Token) {
				return false
			}
			h = t.v.hold(place, m)
		}
		h.stands = max(h.stands, c.standing())
		return true
	case Conflict:
		excluding := func(h hold) bool {
			return m == state.Exclusive || h.mode == state.Exclusive || h.place == place
		}
		return len(res.Holds) > 0 && t.reads(res.Revision) && t.only(res.Holds, excluding) &&
			!holdsAs(res.Holds, place, m)
	case InGrace:
		excluding := func(h hold) bool {
			return m == state.Exclusive || h.mode == state.Exclusive || h.place == place
		}
		foreign := func(d detachment) bool { return d.mode == state.Exclusive && d.place.Cluster != place.Cluster }
		return len(res.Detachments) > 0 && t.reads(res.Revision) && t.only(nil, excluding) && t.shows(res.Detachments, foreign)
	}
	return true
}

func (c *Call) standing() time.Duration {
	if c.Op.Session == 0 {
		return 0
	}
	return c.Begin + c.Op.Session
}

func holdsAs(holds []Hold, p state.Place, m state.Mode) bool {
	for _, h := range holds {
		if h.Place == p && h.Mode == m {
			return true
		}
	}
	return false
}

// create makes a hold that a call has asked for.
func (p *partition) create(t *trial, c *Call, token state.Token) bool {
	if token <= t.v.token || !t.writes(token.Revision()) {
		return false
	}
	if c.Op.Kind == Migrate {
		return p.open(t, c, token)
	}
	if !t.free(c.Op.Place, c.Op.mode(), c.Op.IgnoreGrace) {
		return false
	}
	t.v.add(hold{place: c.Op.Place, mode: c.Op.mode(), token: token, after: p.madeAfter(c, token), stands: c.standing()})
	return true
}

// open makes a migration's target hold and its window.
func (p *partition) open(t *trial, c *Call, token state.Token) bool {
	from := c.Op.Token
	if c.Result.Migration != nil {
		from = c.Result.Migration.SourceToken
	}
	if !t.alone(c.Op.Place, from) {
		return false
	}
	t.v.window = &window{
		source: c.Op.Place, target: c.Op.Target, until: c.until(),
		sourceToken: t.v.hold(c.Op.Place, state.Exclusive).token, targetToken: token,
	}
	t.v.add(hold{place: c.Op.Target, mode: state.Exclusive, token: token, after: p.madeAfter(c, token), stands: c.standing()})
	return true
}

// arrive makes a hold that was seen, in each way in which it may have been made.
func (p *partition) arrive(v *volume, s *step) []trial {
	op := s.call.Op
	var out []trial
	for _, c := range s.makers {
		t := trial{unseen: &p.unseen, v: v.clone(), upto: s.end}
		answered := c.Result.Outcome == OK && c.made() == op.Token
		if answered || !t.fenced(c, op.Place, op.mode()) {
			if p.create(&t, c, op.Token) {
				out = append(out, t)
			}
		}
	}
	return out
}

func (t *trial) detach(c *Call) bool {
	res := c.Result
	switch {
	case res.Outcome == OK && res.Existed:
		return t.detached(c)
	case res.Outcome == OK:
		return t.only(nil, func(h hold) bool { return h.place == c.Op.Place })
	case res.Outcome == StaleToken:
		for _, m := range []state.Mode{state.Exclusive, state.Shared} {
			if h := t.v.hold(c.Op.Place, m); h != nil && h.token != c.Op.Token || t.mayHaveMade(c.Op.Place, m, t.upto) {
				return true
			}
		}
		return false
	}
	return true
}

func (t *trial) detached(c *Call) bool {
	if len(c.Result.Detachments) != 1 {
		return false
	}
	d := c.Result.Detachments[0]
	h := t.v.hold(c.Op.Place, d.Mode)
	switch {
	case d.Place != c.Op.Place || d.Token != c.Op.Token:
		return false
	case h != nil && c.Op.Token != 0 && h.token != c.Op.Token:
		return false
	case h == nil && (c.Op.Token != 0 || !t.mayHaveMade(c.Op.Place, d.Mode, t.upto)):
		return false
	case !t.writes(c.Result.Revision):
		return false
	}
	t.v.end(hold{place: d.Place, mode: d.Mode}, detachment{
		place: d.Place, mode: d.Mode, token: d.Token, at: d.At, rev: d.Revision, after: c.Begin, until: c.until(),
	})
	return true
}

// endBy ends a hold for a call that knew its token and was told nothing else.
func (t *trial) endBy(c *Call, p state.Place, m state.Mode, token state.Token) bool {
	h := t.v.hold(p, m)
	if h == nil || h.token != token || !t.writes(c.Result.Revision) {
		return false
	}
	t.v.end(*h, detachment{place: p, mode: m, token: token, after: c.Begin, until: c.until()})
	return true
}
