package bench

import (
	"context"
	"fmt"
)

// Side is Holdfast, or a peer of it, in a comparison.
type Side struct {
	Name string
	// Round has the side's turn; rounds count from 0.
	Round func(ctx context.Context, round int) (Measured, error)
}

// Compare gives each side its turns, one after the other, as often as the sizes
// say, and puts each into a row. What it returns is each side's rounds, in order.
func (r *Run) Compare(ctx context.Context, workload string, params []Param, sides ...Side) (map[string][]Measured, error) {
	return r.compare(ctx, r.Sizes.Rounds, workload, params, sides...)
}

// CompareBriefly is Compare for what takes long, or what no figure is made of.
func (r *Run) CompareBriefly(ctx context.Context, workload string, params []Param, sides ...Side) (map[string][]Measured, error) {
	return r.compare(ctx, r.briefly(), workload, params, sides...)
}

func (r *Run) briefly() int { return min(r.Sizes.Rounds, 3) }

func (r *Run) compare(ctx context.Context, rounds int, workload string, params []Param, sides ...Side) (map[string][]Measured, error) {
	all := map[string][]Measured{}
	for round := range rounds {
		for i := range sides {
			// Who went first goes last in the next pair.
			s := sides[i]
			if round%2 == 1 {
				s = sides[len(sides)-1-i]
			}
			r.Step("%s %s, %s, round %d of %d", workload, paramText(params), s.Name, round+1, rounds)
			m, err := s.Round(ctx, round)
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", workload, s.Name, err)
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			all[s.Name] = append(all[s.Name], m)
			r.AddMeasured(workload, s.Name, params, round, m)
		}
	}
	return all, nil
}

// Ratios is a's value to b's, pair by pair.
func Ratios(a, b []Measured, of func(Measured) float64) []float64 {
	var ratios []float64
	for i := range min(len(a), len(b)) {
		ratios = append(ratios, of(a[i])/of(b[i]))
	}
	return ratios
}

// ladder is which quantiles a row keeps.
var ladder = []float64{0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999, 1}

// AddMeasured adds a round of calls as a row.
func (r *Run) AddMeasured(workload, side string, params []Param, round int, m Measured) {
	row := Row{Workload: workload, Side: side, Params: params, Round: round, Calls: m.Calls, Errors: m.Errors}
	if m.Calls > 0 {
		row.Metrics = []Metric{
			{Unit: "ns/op", Value: float64(m.Took.Nanoseconds()) / float64(m.Calls)},
			{Unit: "ops/s", Value: m.PerSecond(), More: true},
			{Unit: "p50-ns", Value: float64(m.Quantile(0.5))},
			{Unit: "p99-ns", Value: float64(m.Quantile(0.99))},
			{Unit: "max-ns", Value: float64(m.Latency.Max())},
		}
		for _, q := range ladder {
			row.Latency = append(row.Latency, Quantile{q, int64(m.Quantile(q))})
		}
	}
	row.Metrics = append(row.Metrics, Metric{Unit: "errors", Value: float64(m.Failed())})
	r.Add(row)
}

func paramText(params []Param) string {
	text := ""
	for _, p := range params {
		if text != "" {
			text += " "
		}
		text += fmt.Sprintf("%s=%d", p.Name, p.Value)
	}
	return text
}
