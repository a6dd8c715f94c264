package report

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/holdfast-storage/holdfast/bench"
)

// rewrite puts what the tests find in the place of what they expect. Read the diff.
var rewrite = flag.Bool("rewrite", false, "rewrite expected output")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s (-want +got); after a change run the test with -rewrite and read the diff:\n%s", path, diff)
	}
}

// sample is a result of every kind of row, whose values are made up. Each value of
// Holdfast's attaches is times as high as that of a plain put, and all of them
// differ a little from round to round, each time alike.
func sample(times float64) *bench.Result {
	r := &bench.Result{
		Header: bench.Header{
			Version: "v0.1.0", Began: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC), Took: 312.4, Sizes: "full", Seed: 7,
			Etcd: "3.7.3", Members: 1, Embedded: true, Fsync: "on", Go: "go1.26.8", OS: "linux/amd64", CPU: "Some CPU @ 2 GHz", Cores: 2, MemoryGB: 25.3,
		},
		Summary: map[string]float64{}, Figures: map[string]bench.Figure{},
		Skipped: map[string]string{"volumeattachment": "there is no API server; --kubeconfig names one"},
	}
	for _, callers := range []int{1, 16, 256} {
		for round := range 5 {
			for _, side := range []string{"holdfast", "put"} {
				r.Rows = append(r.Rows, calls(side, callers, round, times))
			}
		}
	}
	for round := range 5 {
		r.Rows = append(r.Rows, bench.Row{
			Workload: "coldstart", Side: "holdfast", Params: []bench.Param{{Name: "records", Value: 100_000}}, Round: round, Calls: 100_000,
			Metrics: []bench.Metric{{Unit: "ready-ns", Value: 1.5e9 + float64(round)*1e6}, {Unit: "B/attachment", Value: 388 + float64(round)}},
		})
	}
	r.Rows[3].Errors = map[string]int{"etcd is full": 2}
	for name, values := range map[string][]float64{
		"attach_vs_put": {1.1 * times, 1.2 * times, 1.3 * times}, "coldstart_vs_range": {1.9}, "expiry_early": {0}, "resync_ms": {700},
	} {
		g := bench.Goals[name]
		r.Summary[name] = bench.Median(values)
		r.Figures[name] = bench.Figure{Value: bench.Median(values), Unit: g.Unit, Samples: values, About: g.About, Goal: g.Goal}
	}
	r.Curves = []bench.Curve{{
		Plot: "Lateness of graces that end together", Series: "holdfast", XLabel: "share of the graces", YLabel: "seconds late",
		X: []float64{0, 0.5, 0.99, 1}, Y: []float64{0.2, 0.9, 1.8, 2.1},
	}}
	return r
}

func calls(side string, callers, round int, times float64) bench.Row {
	perSecond := 1000 * float64(callers) / (1 + float64(callers)/20) * (1 + 0.01*float64(round))
	if side == "holdfast" {
		perSecond *= times
	}
	latency := 1e9 * float64(callers) / perSecond
	row := bench.Row{
		Workload: "attach", Side: side, Params: []bench.Param{{Name: "callers", Value: callers}}, Round: round, Calls: int(3 * perSecond),
		Metrics: []bench.Metric{
			{Unit: "ns/op", Value: 1e9 / perSecond}, {Unit: "ops/s", Value: perSecond, More: true},
			{Unit: "p50-ns", Value: latency}, {Unit: "p99-ns", Value: 3 * latency}, {Unit: "max-ns", Value: 10 * latency}, {Unit: "errors"},
		},
	}
	for _, q := range []float64{0, 0.5, 0.9, 0.99, 0.999, 1} {
		row.Latency = append(row.Latency, bench.Quantile{Q: q, NS: int64(latency * (1 + 3*q*q*q))})
	}
	return row
}
