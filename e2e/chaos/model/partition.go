package model

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

// partition is what happened to one volume between two cuts.
type partition struct {
	unseen
	volume string
	// known is false after a cut: what was there is read, not known.
	known bool
	calls []*Call
	steps []*step
	// arrives are the tokens whose hold comes into being by a step of its own.
	arrives map[state.Token]bool
	// after is when the hold of a token was made at the earliest.
	after map[state.Token]time.Duration
	// impossible says why no order of the steps needs to be looked for.
	impossible string
}

// step is what porcupine orders: an answered call, or an arrival.
type step struct {
	call       *Call
	begin, end time.Duration
	// makers are the calls that may have made the hold that arrives.
	makers []*Call
}

// sighting is a hold that some answer has shown.
type sighting struct {
	token    state.Token
	place    state.Place
	mode     state.Mode
	first    time.Duration // the end of the first call that shows it
	answered []*Call       // the calls that were told that it is theirs
	unseen   []*Call       // the calls that may have made it all the same
}

func newPartition(volume string, known bool, calls []*Call, before []*Call, aways []Away) *partition {
	p := &partition{volume: volume, known: known, calls: calls, arrives: map[state.Token]bool{}, after: map[state.Token]time.Duration{}}
	p.aways = aways
	for _, c := range before {
		p.learn(c)
	}
	for _, c := range calls {
		p.learn(c)
		if c.tells() {
			p.steps = append(p.steps, &step{call: c, begin: c.Begin, end: c.End})
		}
	}
	bounds := newBounds(calls)
	var orphans []*sighting
	for _, s := range p.sightings() {
		if len(s.answered) > 0 && len(s.unseen) == 0 {
			continue
		}
		if len(s.answered) == 0 {
			orphans = append(orphans, s)
		}
		p.arrives[s.token] = true
		p.steps = append(p.steps, p.arrival(s, bounds))
	}
	p.impossible = unmatched(orphans)
	return p
}

// tells says whether an answer says anything about the volume.
func (c *Call) tells() bool {
	switch c.Result.Outcome {
	case Unknown, Unavailable, Frozen:
		return false
	case Refused:
		return c.Result.Refused == state.RefusedHold || c.Result.Refused == state.RefusedGrace
	}
	return c.Op.Kind != Rearm || c.Result.Outcome == OK
}

// made is the token of the hold that a call was told is its own.
func (c *Call) made() state.Token {
	switch {
	case c.Result.Outcome != OK:
	case c.Op.Kind == Attach:
		return c.Result.Token
	case c.Op.Kind == Migrate && c.Result.Migration != nil:
		return c.Result.Migration.TargetToken
	}
	return 0
}

func (p *partition) madeAfter(c *Call, token state.Token) time.Duration {
	if after, ok := p.after[token]; ok {
		return after
	}
	return c.Begin
}

// sightings are the holds that any answer showed, by token, with who may have
// made them. What the first read after a cut showed was there before.
func (p *partition) sightings() []*sighting {
	seen := map[state.Token]*sighting{}
	old := p.old()
	see := func(c *Call, token state.Token, place state.Place, m state.Mode) {
		if token == 0 || token.Revision() <= old {
			return
		}
		if seen[token] == nil {
			seen[token] = &sighting{token: token, place: place, mode: m, first: c.End}
		}
		s := seen[token]
		s.first = min(s.first, c.End)
		if c.made() == token {
			s.answered = append(s.answered, c)
			p.after[token] = min(c.Begin, p.madeAfter(c, token))
		}
	}
	for _, c := range p.calls {
		c.shows(func(t state.Token, at state.Place, m state.Mode) { see(c, t, at, m) })
	}
	out := make([]*sighting, 0, len(seen))
	for _, s := range seen {
		for _, c := range p.attaches {
			if c.Begin <= s.first && makes(c, s.place, s.mode) && !slices.Contains(s.answered, c) {
				s.unseen = append(s.unseen, c)
			}
		}
		s.answered = slices.DeleteFunc(s.answered, func(c *Call) bool { return c.Begin > s.first })
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b *sighting) int { return cmp.Compare(a.token, b.token) })
	return out
}

// old is the revision of the first read after a cut, or all there are.
func (p *partition) old() int64 {
	if p.known {
		return -1
	}
	first := Never
	rev := int64(math.MaxInt64)
	for _, c := range p.calls {
		if c.Op.Kind == Get && c.Result.Outcome == OK && c.End < first && c.Result.Revision > 0 {
			first, rev = c.End, c.Result.Revision
		}
	}
	return rev
}

// shows calls see for each hold that an answer proves to have been.
func (c *Call) shows(see func(state.Token, state.Place, state.Mode)) {
	if !c.tells() {
		return
	}
	res, op := c.Result, c.Op
	for _, h := range res.Holds {
		see(h.Token, h.Place, h.Mode)
	}
	for _, d := range res.Detachments {
		see(d.Token, d.Place, d.Mode)
	}
	if m := res.Migration; m != nil {
		see(m.SourceToken, m.Source, state.Exclusive)
		see(m.TargetToken, m.Target, state.Exclusive)
	}
	if res.Outcome != OK {
		return
	}
	switch op.Kind {
	case Attach:
		see(res.Token, op.Place, op.mode())
	case Remove, Evict:
		see(op.Token, op.Place, op.mode())
	case Commit, Abort:
		see(op.Token, op.Place, state.Exclusive)
		see(op.TargetToken, op.Target, state.Exclusive)
	}
}

// arrival is the step in which a hold comes into being that an unanswered call
// may have made. Its token is its revision: it lies between the answers before
// and after.
func (p *partition) arrival(s *sighting, b *bounds) *step {
	makers := append(slices.Clone(s.answered), s.unseen...)
	begin := s.first
	for _, c := range makers {
		begin = min(begin, c.Begin)
	}
	end := s.first
	if low, high := max(begin, b.after(s.token.Revision())), min(end, b.before(s.token.Revision())); low <= high {
		begin, end = low, high
	}
	p.after[s.token] = begin
	return &step{
		call:  &Call{Client: -1, Begin: begin, End: end, Op: Op{Kind: arrival, Volume: p.volume, Place: s.place, Mode: s.mode, Token: s.token}},
		begin: begin, end: end, makers: makers,
	}
}

// unmatched says for which of the holds that nobody was told of there is no
// call that may have made it, when no call makes more than it was sent.
func unmatched(orphans []*sighting) string {
	made := map[*Call][]*sighting{}
	var assign func(s *sighting, tried map[*Call]bool) bool
	assign = func(s *sighting, tried map[*Call]bool) bool {
		for _, c := range s.unseen {
			if tried[c] {
				continue
			}
			tried[c] = true
			room := c.sends()
			if c.Result.Outcome != Unknown {
				room-- // the one that was answered
			}
			if len(made[c]) < room {
				made[c] = append(made[c], s)
				return true
			}
			for i, other := range made[c] {
				if assign(other, tried) {
					made[c][i] = s
					return true
				}
			}
		}
		return false
	}
	for _, s := range orphans {
		if !assign(s, map[*Call]bool{}) {
			return fmt.Sprintf("%s was seen to hold it (%s) under token %s (%s), and no call can have made that hold",
				s.place, s.mode, s.token, short(s.token))
		}
	}
	return ""
}
