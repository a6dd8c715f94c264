package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-storage/holdfast/bench"
)

// Table writes a result for people: medians of the rounds.
func Table(w io.Writer, r *bench.Result) error {
	var b strings.Builder
	for _, l := range onWhat(r.Header) {
		fmt.Fprintln(&b, l)
	}
	if r.Partial != "" {
		fmt.Fprintf(&b, "PARTIAL: %s\n", r.Partial)
	}
	for _, s := range sections(r) {
		fmt.Fprintf(&b, "\n%s\n", s.Workload)
		s.grid().write(&b)
		for _, c := range complaints(s) {
			fmt.Fprintf(&b, "  %s\n", c)
		}
	}
	if len(r.Figures) > 0 {
		fmt.Fprintf(&b, "\nsummary\n")
		summaryGrid(r).write(&b)
	}
	for _, what := range slices.Sorted(maps.Keys(r.Skipped)) {
		fmt.Fprintf(&b, "\nnot measured: %s: %s\n", what, r.Skipped[what])
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// complaints are what calls failed with.
func complaints(s section) []string {
	var all []string
	for _, l := range s.Lines {
		for _, what := range slices.Sorted(maps.Keys(l.Errors)) {
			side := l.Side
			if at := paramText(l.Params); at != "" {
				side += ", " + at
			}
			all = append(all, fmt.Sprintf("%s: %s × %s", side, thousands(float64(l.Errors[what])), what))
		}
	}
	return all
}

// grid is rows of cells below headings; numbers stand to the right.
type grid struct {
	headings []string
	left     int // how many columns stand to the left
	rows     [][]string
}

func (s section) grid() grid {
	params := s.paramNames()
	g := grid{left: 1, headings: append([]string{"side"}, params...)}
	for _, u := range s.Units {
		g.headings = append(g.headings, heading(u))
	}
	g.headings = append(g.headings, "errors", "rounds")
	for _, l := range s.Lines {
		row := []string{l.Side}
		for _, p := range params {
			v, ok := l.param(p)
			row = append(row, cell(ok, func() string { return thousands(float64(v)) }))
		}
		for _, u := range s.Units {
			v, ok := l.Values[u]
			row = append(row, cell(ok, func() string { return show(u, v) }))
		}
		g.rows = append(g.rows, append(row, thousands(float64(l.failed())), strconv.Itoa(l.Rounds)))
	}
	return g
}

func cell(there bool, text func() string) string {
	if !there {
		return "–"
	}
	return text()
}

// figure is a line of the summary.
type figure struct {
	Name, Value, Reach, Least, Verdict, About string
}

// Class is the verdict as one word.
func (f figure) Class() string { return strings.TrimPrefix(f.Verdict, "at ") }

// figures are in the order of their names.
func figures(r *bench.Result) []figure {
	var all []figure
	for _, name := range slices.Sorted(maps.Keys(r.Figures)) {
		f := r.Figures[name]
		sign := "≤ "
		if f.Goal.More {
			sign = "≥ "
		}
		shown := figure{Name: name, Value: figureValue(f.Unit, f.Value), About: f.About}
		// The goals are about the sizes of a full run: on others they say nothing.
		if r.Header.Sizes == bench.Full.Name {
			shown.Reach, shown.Least = sign+number(f.Goal.Reach), sign+number(f.Goal.Least)
			shown.Verdict = f.Goal.Met(f.Value)
		}
		all = append(all, shown)
	}
	return all
}

func figureValue(unit string, v float64) string {
	if unit == "ratio" || unit == "count" {
		return number(v)
	}
	return number(v) + " " + unit
}

func summaryGrid(r *bench.Result) grid {
	judged := r.Header.Sizes == bench.Full.Name
	g := grid{left: 1, headings: []string{"figure", "value"}}
	if judged {
		g.headings = append(g.headings, "goal", "least", "verdict")
	}
	for _, f := range figures(r) {
		row := []string{f.Name, f.Value}
		if judged {
			row = append(row, f.Reach, f.Least, f.Verdict)
		}
		g.rows = append(g.rows, row)
	}
	return g
}

func (g grid) write(w io.Writer) {
	widths := make([]int, len(g.headings))
	for _, row := range append([][]string{g.headings}, g.rows...) {
		for i, c := range row {
			widths[i] = max(widths[i], len([]rune(c)))
		}
	}
	for _, row := range append([][]string{g.headings}, g.rows...) {
		var b strings.Builder
		for i, c := range row {
			space := strings.Repeat(" ", widths[i]-len([]rune(c)))
			if i < g.left {
				c += space
			} else {
				c = space + c
			}
			b.WriteString("  " + c)
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}
