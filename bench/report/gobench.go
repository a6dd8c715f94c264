package report

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/holdfast-storage/holdfast/bench"
)

// Go writes a result in Go's benchmark format, a line a round, as benchstat and
// this package's Compare read it.
func Go(w io.Writer, r *bench.Result) error {
	var b strings.Builder
	for _, c := range goConfig(r.Header) {
		if c[1] != "" {
			fmt.Fprintf(&b, "%s: %s\n", c[0], c[1])
		}
	}
	var units []string
	for _, row := range r.Rows {
		for _, m := range row.Metrics {
			if !slices.Contains(units, m.Unit) {
				units = append(units, m.Unit)
				fmt.Fprintf(&b, "Unit %s better=%s\n", m.Unit, better(m.More))
			}
		}
	}
	for _, row := range r.Rows {
		if len(row.Metrics) == 0 {
			continue
		}
		fmt.Fprintf(&b, "%s\t%d", goName(row, r.Header.Cores), row.Calls)
		for _, m := range row.Metrics {
			fmt.Fprintf(&b, "\t%s %s", strconv.FormatFloat(m.Value, 'f', -1, 64), m.Unit)
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
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
	fmt.Fprintf(&b, "/side=%s", row.Side)
	for _, p := range row.Params {
		fmt.Fprintf(&b, "/%s=%d", p.Name, p.Value)
	}
	return strings.ReplaceAll(b.String(), " ", "-") + "-" + strconv.Itoa(cores)
}
