package model

import (
	"fmt"
	"time"
)

// span is a time in which the ledger was frozen, or may have been.
type span struct{ from, to time.Duration }

// frozenBreaches are the calls that a freeze should have stopped, and those
// that it stopped when there was none.
func frozenBreaches(h History) []Violation {
	var certain, possible []span
	for _, c := range h.Calls {
		if c.Op.Kind != Freeze {
			continue
		}
		// What is on record already is frozen too, but by whom and until when?
		if c.Result.Outcome == OK {
			if s := (span{c.End, firstUnfreeze(h, c)}); s.from <= s.to {
				certain = append(certain, s)
			}
		}
		if c.Result.Outcome == OK || c.Result.Outcome == Unknown {
			possible = append(possible, span{c.Begin, surelyUnfrozen(h, c)})
		}
	}
	var out []Violation
	for _, c := range h.Calls {
		call := span{c.Begin, c.End}
		switch {
		case cutWithin(h, call):
		case c.Result.Outcome == OK && stops(c.Op.Kind):
			for _, s := range certain {
				if call.from > s.from && call.to < s.to && !cutWithin(h, span{s.from, call.to}) {
					out = append(out, Violation{Volume: c.Op.Volume, Reason: fmt.Sprintf("carried out while the ledger was frozen: %s", c.String())})
				}
			}
		case c.Result.Outcome == Frozen && len(h.Cuts) == 0 && !touches(possible, call):
			out = append(out, Violation{Volume: c.Op.Volume, Reason: fmt.Sprintf("refused for a freeze that was not: %s", c.String())})
		}
	}
	return out
}

func stops(k Kind) bool { return k == Attach || k == Migrate || k == Remove || k == Evict }

// firstUnfreeze is when the first unfreeze that may have ended a freeze began.
func firstUnfreeze(h History, freeze Call) time.Duration {
	first := Never
	for _, c := range h.Calls {
		if c.Op.Kind == Unfreeze && (c.Result.Outcome == OK || c.Result.Outcome == Unknown) && c.End >= freeze.Begin {
			first = min(first, c.Begin)
		}
	}
	return first
}

// surelyUnfrozen is when a freeze was certainly over. One of unknown outcome may
// still come.
func surelyUnfrozen(h History, freeze Call) time.Duration {
	end := Never
	if freeze.Result.Outcome == Unknown {
		return end
	}
	for _, c := range h.Calls {
		if c.Op.Kind == Unfreeze && c.Result.Outcome == OK && c.Begin >= freeze.End {
			end = min(end, c.End)
		}
	}
	return end
}

func touches(spans []span, s span) bool {
	for _, o := range spans {
		if s.from <= o.to && o.from <= s.to {
			return true
		}
	}
	return false
}

func cutWithin(h History, s span) bool {
	for _, c := range h.Cuts {
		if s.from <= c.To && c.From <= s.to {
			return true
		}
	}
	return false
}
