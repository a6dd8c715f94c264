package model

import "github.com/holdfast-storage/holdfast/state"

func (p *partition) migrate(t *trial, c *Call) bool {
	res, place := c.Result, c.Op.Place
	switch res.Outcome {
	case OK:
		m := res.Migration
		if m == nil || m.Source != place || m.Target != c.Op.Target || c.Op.Token != 0 && m.SourceToken != c.Op.Token {
			return false
		}
		if h := t.v.hold(m.Target, state.Exclusive); h != nil && h.token == m.TargetToken {
			w := t.v.window
			return w != nil && w.targetToken == m.TargetToken && w.sourceToken == m.SourceToken
		}
		return !p.arrives[m.TargetToken] && p.create(t, c, m.TargetToken)
	case Conflict:
		if len(res.Holds) == 0 || !t.reads(res.Revision) || !t.only(res.Holds, func(hold) bool { return true }) {
			return false
		}
		// The source's hold alone, with its token, is no conflict.
		alone := len(res.Holds) == 1 && holdsAs(res.Holds, place, state.Exclusive)
		return !alone || t.v.window != nil
	case StaleToken:
		h := t.v.hold(place, state.Exclusive)
		return h != nil && (c.Op.Token == 0 || h.token != c.Op.Token) || t.mayHaveMade(place, state.Exclusive, t.upto)
	case NotFound:
		return t.only(nil, func(hold) bool { return true })
	}
	return true
}

func (t *trial) finish(c *Call) bool {
	w := t.v.window
	open := w != nil && w.targetToken == c.Op.TargetToken && w.sourceToken == c.Op.Token
	switch c.Result.Outcome {
	case OK:
		p, token := c.Op.loser()
		return open && t.endBy(c, p, state.Exclusive, token)
	case NotFound:
		if !open {
			return true
		}
		for _, h := range t.v.holds {
			if _, ok := t.mayHaveEnded(h, t.upto); ok {
				return true
			}
		}
		return t.closed()
	}
	return true
}

// closed ends the window, if it may have ended by itself.
func (t *trial) closed() bool {
	if t.v.window.until > t.upto {
		return false
	}
	t.v.window = nil
	t.expiries++
	return true
}

func (t *trial) clear(c *Call) bool {
	p, m, rev := c.Op.Place, c.Op.mode(), c.Op.Revision
	d := t.v.detachment(p, m)
	other := t.leftBy(p, m)
	switch c.Result.Outcome {
	case OK:
		if d != nil && (d.rev == 0 || rev == 0 || d.rev <= rev) {
			t.v.dropDetachment(p, m)
			return t.writes(0)
		}
		if !other {
			return false
		}
		// The end of a hold that nobody was told of, but who cleared it.
		if h := t.v.hold(p, m); h != nil && h.token.Revision() < rev {
			t.vanish(*h)
		}
		return t.writes(0)
	case NotFound:
		return d == nil || other || t.drop(*d)
	case Conflict:
		return d != nil || other
	}
	return true
}

// leftBy says whether any detachment of a place may be there unseen.
func (t *trial) leftBy(p state.Place, m state.Mode) bool {
	for _, c := range t.ends {
		place := c.Op.Place
		if c.Op.Kind == Commit || c.Op.Kind == Abort {
			place, _ = c.Op.loser()
		}
		if c.Begin <= t.upto && place == p && (c.Op.Kind == Detach || c.Op.mode() == m) {
			return true
		}
	}
	for _, a := range t.aways {
		if a.Place == p && a.From <= t.upto {
			return true
		}
	}
	return false
}

// remove is Remove and Evict.
func (t *trial) remove(c *Call) bool {
	p, m, token := c.Op.Place, c.Op.mode(), c.Op.Token
	h := t.v.hold(p, m)
	held := h != nil && h.token == token
	switch {
	case c.Result.Outcome == OK:
		if !held || c.Op.Kind == Evict && t.stands(*h, t.upto) {
			return false
		}
		return (c.Op.Kind == Evict || t.noGrace(p)) && t.endBy(c, p, m, token)
	case c.Result.Outcome != Refused:
		return true
	case c.Result.Refused == state.RefusedHold && held:
		_, ok := t.vanish(*h)
		return ok
	case c.Result.Refused == state.RefusedGrace:
		other := t.leftBy(p, m)
		return other || t.v.detachment(p, state.Exclusive) != nil || t.v.detachment(p, state.Shared) != nil
	}
	return true
}

// noGrace: a removal waits for the end of its node's own grace.
func (t *trial) noGrace(p state.Place) bool {
	for _, m := range []state.Mode{state.Exclusive, state.Shared} {
		if d := t.v.detachment(p, m); d != nil && !t.drop(*d) {
			return false
		}
	}
	return true
}

func (t *trial) rearm(c *Call) bool {
	if c.Result.Outcome != OK {
		return true
	}
	h := t.v.hold(c.Op.Place, c.Op.mode())
	if h == nil {
		return t.mayHaveMade(c.Op.Place, c.Op.mode(), t.upto)
	}
	h.stands = max(h.stands, c.standing())
	return true
}

func (t *trial) get(c *Call) bool {
	res := c.Result
	all := func(hold) bool { return true }
	if !t.reads(res.Revision) || !t.only(res.Holds, all) || !t.shows(res.Detachments, func(detachment) bool { return true }) {
		return false
	}
	for _, h := range res.Holds {
		if known := t.v.hold(h.Place, h.Mode); h.Lapsed && t.unseen.stands(*known, t.upto) {
			return false
		}
	}
	switch w, m := t.v.window, res.Migration; {
	case w == nil:
		return m == nil
	case m == nil:
		return t.closed()
	default:
		return w.targetToken == m.TargetToken && w.sourceToken == m.SourceToken && w.source == m.Source && w.target == m.Target
	}
}
