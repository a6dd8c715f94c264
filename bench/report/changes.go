package report

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"
)

// Write writes a comparison for people: a row for each benchmark and unit.
func (c *Comparison) Write(w io.Writer) error {
	var b strings.Builder
	for _, line := range c.Apart {
		fmt.Fprintf(&b, "not the same: %s\n", line)
	}
	g := grid{left: 2, headings: []string{"benchmark", "unit", "old", "new", "delta", "p", "n", ""}}
	for _, ch := range c.Changes {
		g.rows = append(g.rows, ch.cells())
	}
	g.write(&b)
	if c.Few {
		fmt.Fprintf(&b, "\nToo few samples to tell anything: expected %d rounds or more of each, or as many runs.\n", fewest)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (c Change) cells() []string {
	row := []string{c.Name, strings.TrimSuffix(c.Unit, "-sec"), value(c.Unit, c.Old), value(c.Unit, c.New)}
	switch {
	case c.N[0] == 0:
		return append(row, "new", "", fmt.Sprintf("0+%d", c.N[1]), "")
	case c.N[1] == 0:
		return append(row, "gone", "", fmt.Sprintf("%d+0", c.N[0]), "")
	}
	delta, verdict := "~", ""
	if c.Significant {
		if delta = fmt.Sprintf("%+.1f%%", 100*c.Delta()); c.Old == 0 {
			delta = "?"
		}
		switch {
		case c.Worse() > 0:
			verdict = "worse"
		case c.Better != 0:
			verdict = "better"
		}
	}
	return append(row, delta, fmt.Sprintf("%.3f", c.P), fmt.Sprintf("%d+%d", c.N[0], c.N[1]), verdict)
}

// value is one of a unit that benchfmt has made tidy: its times are in seconds.
func value(unit string, v float64) string {
	if !math.IsNaN(v) && (strings.HasSuffix(unit, "-sec") || unit == "sec/op") {
		return showDuration(time.Duration(math.Round(v * 1e9)))
	}
	return show(unit, v)
}
