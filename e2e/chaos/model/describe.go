package model

import (
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

// String is a call in one line: what was asked, and what was answered.
func (c *Call) String() string {
	end := "never"
	if c.End != Never {
		end = c.End.Round(time.Millisecond).String()
	}
	return fmt.Sprintf("%s -> %s [client %d, %s to %s]", c.Op, c.Result, c.Client, c.Begin.Round(time.Millisecond), end)
}

func (s *step) String() string {
	if s.call.Op.Kind == arrival {
		return fmt.Sprintf("%s comes into being, by one of %d calls [%s to %s]", s.call.Op, len(s.makers),
			s.begin.Round(time.Millisecond), s.end.Round(time.Millisecond))
	}
	return s.call.String()
}

// String is what was asked.
func (o Op) String() string {
	parts := []string{string(o.Kind)}
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if o.Place != (state.Place{}) {
		add("%s", o.Place)
	}
	if o.Target != (state.Place{}) {
		add("to %s", o.Target)
	}
	if o.Mode == state.Shared {
		add("shared")
	}
	if o.Token != 0 {
		add("%s", short(o.Token))
	}
	if o.TargetToken != 0 {
		add("target %s", short(o.TargetToken))
	}
	if o.Revision != 0 {
		add("detachment @%d", o.Revision)
	}
	if o.IgnoreGrace {
		add("ignoring the grace")
	}
	return strings.Join(parts, " ")
}

// String is what was answered.
func (r Result) String() string {
	parts := []string{string(r.Outcome)}
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if r.Refused != "" {
		add("%s", r.Refused)
	}
	if r.Token != 0 {
		add("%s", short(r.Token))
	}
	for _, h := range r.Holds {
		add("%s %s %s", h.Mode.Letter(), h.Place, short(h.Token))
	}
	for _, d := range r.Detachments {
		add("(%s %s %s detached @%d)", d.Mode.Letter(), d.Place, short(d.Token), d.Revision)
	}
	if m := r.Migration; m != nil {
		add("window %s %s to %s %s", m.Source, short(m.SourceToken), m.Target, short(m.TargetToken))
	}
	if r.Revision != 0 {
		add("@%d", r.Revision)
	}
	return strings.Join(parts, " ")
}
