package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// measured is a round of so many calls in a second, each a millisecond.
func measured(calls int) Measured {
	m := Measured{Calls: calls, Took: time.Second, Latency: NewLatency(), Errors: map[string]int{}}
	_ = m.Latency.RecordValues(int64(time.Millisecond), int64(calls))
	return m
}

func newRun() *Run {
	return &Run{
		Config: Config{Sizes: quick, Step: func(string) {}},
		result: &Result{Summary: map[string]float64{}, Figures: map[string]Figure{}, Skipped: map[string]string{}},
	}
}

// What the machine does meanwhile falls on the sides alike: who had the first turn
// of a pair has the second one of the next.
func TestCompare_TakesTurns(t *testing.T) {
	var turns, steps []string
	side := func(name string, calls int) Side {
		return Side{Name: name, Round: func(_ context.Context, round int) (Measured, error) {
			turns = append(turns, fmt.Sprintf("%s%d", name, round))
			return measured(calls + round), nil
		}}
	}
	r := newRun()
	r.Config.Step = func(what string) { steps = append(steps, what) }
	rounds, err := r.Compare(t.Context(), "w", []Param{{"callers", 2}, {"size", 3}}, side("a", 100), side("b", 50))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Fields("a0 b0 b1 a1 a2 b2 b3 a3"), turns); diff != "" {
		t.Errorf("turns (-want +got):\n%s", diff)
	}
	if want := "w callers=2 size=3, b, round 2 of 4"; steps[2] != want {
		t.Errorf("step %q, want %q", steps[2], want)
	}
	// Pair by pair, whoever was first.
	ratios := Ratios(rounds["a"], rounds["b"], Measured.PerSecond)
	if diff := cmp.Diff([]float64{100. / 50, 101. / 51, 102. / 52, 103. / 53}, ratios); diff != "" {
		t.Errorf("ratios (-want +got):\n%s", diff)
	}
	if n := len(r.result.Rows); n != 8 {
		t.Fatalf("%d rows, want 8", n)
	}
	row := r.result.Rows[2]
	if row.Side != "b" || row.Round != 1 || row.Calls != 51 || len(row.Latency) != len(ladder) {
		t.Errorf("row %+v", row)
	}
	want := []Metric{
		{Unit: "ns/op", Value: 1e9 / 51.}, {Unit: "ops/s", Value: 51, More: true},
		{Unit: "p50-ns", Value: 1e6}, {Unit: "p99-ns", Value: 1e6}, {Unit: "max-ns", Value: 1e6}, {Unit: "errors"},
	}
	if diff := cmp.Diff(want, row.Metrics, cmp.Comparer(alike)); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}

// alike allows what a histogram of three digits leaves out.
func alike(a, b float64) bool { return a == b || a/b > 0.998 && a/b < 1.002 }

func TestCompare_EndsWithWhatFails(t *testing.T) {
	boom := errors.New("boom")
	r := newRun()
	_, err := r.Compare(t.Context(), "w", nil, Side{Name: "a", Round: func(_ context.Context, round int) (Measured, error) {
		if round == 1 {
			return Measured{}, boom
		}
		return measured(1), nil
	}})
	if !errors.Is(err, boom) || !strings.Contains(err.Error(), "w, a") || len(r.result.Rows) != 1 {
		t.Errorf("error %v after %d rows; want boom, where, after 1", err, len(r.result.Rows))
	}
}

// A round that was cut short is none.
func TestCompare_LeavesOutTheRoundThatWasStopped(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	r := newRun()
	_, err := r.Compare(ctx, "w", nil, Side{Name: "a", Round: func(_ context.Context, round int) (Measured, error) {
		if round == 2 {
			stop()
		}
		return measured(1), nil
	}})
	if !errors.Is(err, context.Canceled) || len(r.result.Rows) != 2 {
		t.Errorf("error %v after %d rows; want that it was stopped, after 2", err, len(r.result.Rows))
	}
}

func TestAddMeasured_OfNothing(t *testing.T) {
	r := newRun()
	m := measured(0)
	m.Errors["etcd is away"] = 3
	r.AddMeasured("w", "a", nil, 0, m)
	row := r.result.Rows[0]
	if len(row.Metrics) != 1 || row.Metrics[0] != (Metric{Unit: "errors", Value: 3}) {
		t.Errorf("row %+v; want its errors and nothing else", row)
	}
}

func TestMedian(t *testing.T) {
	if got := Median([]float64{3, 1, 2}); got != 2 {
		t.Errorf("of three: %v", got)
	}
	of := []float64{4, 1, 3, 2}
	if got := Median(of); got != 2.5 || of[0] != 4 {
		t.Errorf("of four: %v, and left %v", got, of)
	}
	if got := Median(nil); got == got {
		t.Errorf("of nothing: %v, want no number", got)
	}
}
