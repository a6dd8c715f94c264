package report

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/holdfast-storage/holdfast/bench"
)

// chart is a plot: lines over an axis each way.
type chart struct {
	Title  string
	X, Y   axis
	Series []series
}

// axis is one of a chart's.
type axis struct {
	Label string
	Log   bool
	Unit  string    // as a metric's: what its ticks are shown in
	Ticks []float64 // where they are; empty: wherever they are round
	Names []string  // of Ticks; empty: their values
}

// series is a line of a chart.
type series struct {
	Name  string
	X, Y  []float64
	Color int
}

// charts are what the workloads have drawn, and what their rows come to.
func charts(r *bench.Result) []chart {
	var all []chart
	for _, s := range sections(r) {
		for _, c := range []chart{s.throughput(), s.quantiles(), s.cost()} {
			if len(c.Series) > 0 {
				all = append(all, c)
			}
		}
	}
	for _, c := range drawn(r.Curves) {
		// A workload may have drawn itself what its rows come to.
		if !slices.ContainsFunc(all, func(have chart) bool { return have.Title == c.Title }) {
			all = append(all, c)
		}
	}
	all = slices.DeleteFunc(all, func(c chart) bool { return !c.drawable() })
	paint(all)
	return all
}

// ours is the side that has the first colour.
const ours = "holdfast"

// paint gives a side the same colour in each chart.
func paint(all []chart) {
	names := []string{ours}
	for _, c := range all {
		for i, s := range c.Series {
			at := slices.Index(names, s.Name)
			if at < 0 {
				names, at = append(names, s.Name), len(names)
			}
			c.Series[i].Color = at % seriesColors
		}
	}
}

// drawable tells whether there is anything to see.
func (c chart) drawable() bool {
	for _, s := range c.Series {
		if len(c.points(s)) > 0 {
			return true
		}
	}
	return false
}

// drawn puts the curves of one plot together.
func drawn(curves []bench.Curve) []chart {
	var all []chart
	for _, c := range curves {
		i := slices.IndexFunc(all, func(ch chart) bool { return ch.Title == c.Plot })
		if i < 0 {
			all = append(all, chart{Title: c.Plot, X: axis{Label: c.XLabel, Log: c.LogX}, Y: axis{Label: c.YLabel, Log: c.LogY}})
			i = len(all) - 1
		}
		all[i].Series = append(all[i].Series, series{Name: c.Series, X: c.X, Y: c.Y})
	}
	return all
}

// throughput is calls a second against callers.
func (s section) throughput() chart {
	c := s.against("callers", "ops/s", true)
	c.Title, c.Y.Label = s.Workload+": throughput against callers", "calls a second"
	return c
}

// cost is how long a workload took, or else its first figure, against the size of
// what it is about, where it was measured at several.
func (s section) cost() chart {
	if len(s.Units) == 0 {
		return chart{}
	}
	unit := s.Units[max(0, slices.IndexFunc(s.Units, func(u string) bool { return strings.HasSuffix(u, "-ns") }))]
	for _, name := range s.paramNames() {
		if name == "callers" {
			continue
		}
		if c := s.against(name, unit, true); len(c.Series) > 0 {
			c.Title, c.Y.Label = fmt.Sprintf("%s: %s against %s", s.Workload, heading(unit), name), heading(unit)
			c.Y.Log = c.positive()
			return c
		}
	}
	return chart{}
}

// against draws a unit over a param, a line for each side that has several of it.
func (s section) against(param, unit string, logX bool) chart {
	c := chart{X: axis{Label: param, Log: logX}, Y: axis{Unit: unit}}
	for _, l := range s.Lines {
		x, ok := l.param(param)
		y, measured := l.Values[unit]
		if !ok || !measured {
			continue
		}
		if x <= 0 {
			c.X.Log = false
		}
		name := l.Side
		for _, p := range l.Params {
			if p.Name != param {
				name += fmt.Sprintf(", %s=%d", p.Name, p.Value)
			}
		}
		i := slices.IndexFunc(c.Series, func(s series) bool { return s.Name == name })
		if i < 0 {
			c.Series, i = append(c.Series, series{Name: name}), len(c.Series)
		}
		c.Series[i].X = append(c.Series[i].X, float64(x))
		c.Series[i].Y = append(c.Series[i].Y, y)
		if !slices.Contains(c.X.Ticks, float64(x)) {
			c.X.Ticks = append(c.X.Ticks, float64(x))
		}
	}
	c.Series = slices.DeleteFunc(c.Series, func(s series) bool { return len(s.X) < 2 })
	return c
}

func (c chart) positive() bool {
	for _, s := range c.Series {
		if slices.Min(s.Y) <= 0 {
			return false
		}
	}
	return true
}

// quantiles is how many calls took longer than what, at the last size of each side.
func (s section) quantiles() chart {
	c := chart{
		X: axis{Label: "share of the calls", Log: true, Ticks: []float64{1, 2, 10, 100, 1000, 10_000}, Names: []string{"0", "50 %", "90 %", "99 %", "99.9 %", "99.99 %"}},
		Y: axis{Label: "within", Log: true, Unit: "ns"},
	}
	last := map[string]line{}
	var sides []string
	for _, l := range s.Lines {
		if len(l.rows[len(l.rows)-1].Latency) == 0 {
			continue
		}
		if !slices.Contains(sides, l.Side) {
			sides = append(sides, l.Side)
		}
		last[l.Side] = l
	}
	at := ""
	for _, side := range sides {
		l := last[side]
		if line := l.latency(); line.bends() {
			c.Series = append(c.Series, line)
		}
		at = paramText(l.Params)
	}
	c.Title = s.Workload + ": latency quantiles"
	if at != "" {
		c.Title += ", " + at
	}
	return c
}

// bends tells whether a line of quantiles says more than the table: one of a single
// call, or of two, does not.
func (s series) bends() bool {
	return len(slices.Compact(slices.Clone(s.Y))) > 3
}

// latency is the medians, over the rounds, of each quantile, as far as a round has
// calls for it.
func (l line) latency() series {
	line := series{Name: l.Side}
	for i, q := range l.rows[0].Latency {
		if q.Q >= 1 || 1/(1-q.Q) > float64(l.Calls)/float64(l.Rounds) {
			continue
		}
		var ns []float64
		for _, row := range l.rows {
			if i < len(row.Latency) {
				ns = append(ns, float64(row.Latency[i].NS))
			}
		}
		if m := bench.Median(ns); m > 0 {
			line.X, line.Y = append(line.X, math.Round(1e6/(1-q.Q))/1e6), append(line.Y, m)
		}
	}
	return line
}

func paramText(params []bench.Param) string {
	text := ""
	for i, p := range params {
		if i > 0 {
			text += ", "
		}
		text += p.Name + "=" + thousands(float64(p.Value))
	}
	return text
}
