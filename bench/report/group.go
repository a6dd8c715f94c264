package report

import (
	"slices"

	"github.com/holdfast-storage/holdfast/bench"
)

// section is what a report has of one workload.
type section struct {
	Workload string
	Units    []string // of its metrics, as they first come
	Lines    []line
}

// line is all rounds of one side at the same params.
type line struct {
	Side   string
	Params []bench.Param
	Rounds int
	Calls  int
	// Values are the medians of the rounds' metrics by unit.
	Values map[string]float64
	Errors map[string]int
	rows   []bench.Row
}

// failed is how many calls failed, over all rounds.
func (l line) failed() int {
	n := 0
	for _, k := range l.Errors {
		n += k
	}
	return n
}

// redundant are units that a table leaves out: 1/x of another, or a column of
// its own.
var redundant = []string{"ns/op", "errors"}

// sections puts the rounds of each side together, in the order in which they came.
func sections(r *bench.Result) []section {
	var all []section
	for _, row := range r.Rows {
		i := slices.IndexFunc(all, func(s section) bool { return s.Workload == row.Workload })
		if i < 0 {
			all, i = append(all, section{Workload: row.Workload}), len(all)
		}
		all[i].add(row)
	}
	for i := range all {
		for j := range all[i].Lines {
			all[i].Lines[j].medians()
		}
	}
	return all
}

func (s *section) add(row bench.Row) {
	i := slices.IndexFunc(s.Lines, func(l line) bool { return l.Side == row.Side && slices.Equal(l.Params, row.Params) })
	if i < 0 {
		s.Lines, i = append(s.Lines, line{Side: row.Side, Params: row.Params, Errors: map[string]int{}}), len(s.Lines)
	}
	l := &s.Lines[i]
	l.Rounds++
	l.Calls += row.Calls
	l.rows = append(l.rows, row)
	for what, n := range row.Errors {
		l.Errors[what] += n
	}
	for _, m := range row.Metrics {
		if !slices.Contains(redundant, m.Unit) && !slices.Contains(s.Units, m.Unit) {
			s.Units = append(s.Units, m.Unit)
		}
	}
}

func (l *line) medians() {
	of := map[string][]float64{}
	for _, row := range l.rows {
		for _, m := range row.Metrics {
			of[m.Unit] = append(of[m.Unit], m.Value)
		}
	}
	l.Values = map[string]float64{}
	for unit, values := range of {
		l.Values[unit] = bench.Median(values)
	}
}

// paramNames are those of the section's params, as they first come.
func (s section) paramNames() []string {
	var names []string
	for _, l := range s.Lines {
		for _, p := range l.Params {
			if !slices.Contains(names, p.Name) {
				names = append(names, p.Name)
			}
		}
	}
	return names
}

// param is the line's of that name.
func (l line) param(name string) (int, bool) {
	for _, p := range l.Params {
		if p.Name == name {
			return p.Value, true
		}
	}
	return 0, false
}

// median is the line as one row: the medians of its rounds.
func (l line) median() bench.Row {
	row := bench.Row{Workload: l.rows[0].Workload, Side: l.Side, Params: l.Params, Calls: l.Calls, Errors: l.Errors}
	for _, r := range l.rows {
		for _, m := range r.Metrics {
			if !slices.ContainsFunc(row.Metrics, func(o bench.Metric) bool { return o.Unit == m.Unit }) {
				row.Metrics = append(row.Metrics, bench.Metric{Unit: m.Unit, Value: l.Values[m.Unit], More: m.More})
			}
		}
	}
	return row
}
