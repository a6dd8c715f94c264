package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/holdfast-storage/holdfast/bench"
)

// Go writes a result in Go's benchmark format, a line for each side at each size:
// the medians of its rounds. So a run is one sample, as with go test -count: rounds
// share what the run was made on, and would have benchstat take a difference
// between runs for one between versions.
func Go(w io.Writer, r *bench.Result) error {
	var b strings.Builder
	var rows []bench.Row
	for _, s := range sections(r) {
		for _, l := range s.Lines {
			rows = append(rows, l.median())
		}
	}
	writeGo(&b, r.Header, append(rows, figureRows(r, false)...))
	_, err := io.WriteString(w, b.String())
	return err
}

// goRounds is Go, but with a line a round, and one for each pair that a figure is
// the median of.
func goRounds(r *bench.Result) string {
	var b strings.Builder
	writeGo(&b, r.Header, append(slices.Clone(r.Rows), figureRows(r, true)...))
	return b.String()
}

func writeGo(b *strings.Builder, h bench.Header, rows []bench.Row) {
	for _, c := range goConfig(h) {
		if c[1] != "" {
			fmt.Fprintf(b, "%s: %s\n", c[0], c[1])
		}
	}
	var units []string
	for _, row := range rows {
		for _, m := range row.Metrics {
			if !slices.Contains(units, m.Unit) {
				units = append(units, m.Unit)
				fmt.Fprintf(b, "Unit %s better=%s\n", m.Unit, better(m.More))
			}
		}
	}
	for _, row := range rows {
		if len(row.Metrics) == 0 {
			continue
		}
		fmt.Fprintf(b, "%s\t%d", goName(row, h.Cores), row.Calls)
		for _, m := range row.Metrics {
			fmt.Fprintf(b, "\t%s %s", sixDigits(m.Value), m.Unit)
		}
		b.WriteByte('\n')
	}
}

// figureRows are the figures of the summary as benchmarks. A ratio of which less
// is better has a unit of its own, for it is the unit that says what is better.
func figureRows(r *bench.Result, samples bool) []bench.Row {
	var rows []bench.Row
	for _, name := range slices.Sorted(maps.Keys(r.Figures)) {
		f := r.Figures[name]
		unit := f.Unit
		if unit == "ratio" && !f.Goal.More {
			unit = "cost-ratio"
		}
		values := []float64{f.Value}
		if samples && bench.Median(f.Samples) == f.Value {
			values = f.Samples
		}
		for _, v := range values {
			rows = append(rows, bench.Row{
				Workload: "summary", Side: name, Calls: 1, Metrics: []bench.Metric{{Unit: unit, Value: v, More: f.Goal.More}},
			})
		}
	}
	return rows
}

// sixDigits is more than a measurement has.
func sixDigits(v float64) string {
	short, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 6, 64), 64) // it is a number just written
	return strconv.FormatFloat(short, 'f', -1, 64)
}

func better(more bool) string {
	if more {
		return "higher"
	}
	return "lower"
}

// goConfig is what benchstat keeps results of different machines apart by. What
// differs from run to run on the same one, such as the seed, is no part of it.
func goConfig(h bench.Header) [][2]string {
	goos, goarch, _ := strings.Cut(h.OS, "/")
	return [][2]string{
		{"goos", goos}, {"goarch", goarch}, {"pkg", "github.com/holdfast-storage/holdfast/bench"}, {"cpu", h.CPU},
		{"etcd", h.Etcd}, {"members", strconv.Itoa(h.Members)}, {"fsync", h.Fsync}, {"auth", strconv.FormatBool(h.Auth)},
		{"size", h.Sizes},
	}
}

// goName is a row's benchmark, such as BenchmarkAttach/side=put/callers=256-2.
func goName(row bench.Row, cores int) string {
	var b strings.Builder
	b.WriteString("Benchmark")
	for i, r := range row.Workload {
		if i == 0 {
			r = unicode.ToUpper(r)
		}
		b.WriteRune(r)
	}
	part := "side"
	if row.Workload == "summary" {
		part = "figure"
	}
	fmt.Fprintf(&b, "/%s=%s", part, row.Side)
	for _, p := range row.Params {
		fmt.Fprintf(&b, "/%s=%d", p.Name, p.Value)
	}
	return strings.ReplaceAll(b.String(), " ", "-") + "-" + strconv.Itoa(cores)
}
