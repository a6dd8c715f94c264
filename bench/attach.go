package bench

import (
	"context"
	"slices"
	"sync/atomic"

	"github.com/holdfast-storage/holdfast/state"
)

// attach compares an attach with a raw put of a record of a hold's size, which is
// what a plain client can do at most, and with what it could do of an attach: the
// same transaction, one a call. Callers make one call after another, over one
// connection a side.
var attach = Workload{
	Name:  "attach",
	About: "attach beside a raw put, and beside a transaction a call",
	Run: func(ctx context.Context, r *Run) error {
		return r.eachCallers(ctx, "attach", func(callers int, cluster *state.Cluster, plain *plain) (map[string][]Measured, error) {
			compare := r.CompareBriefly
			if callers == 1 || callers == r.mostCallers() {
				compare = r.Compare
			}
			rounds, err := compare(ctx, "attach", []Param{{"callers", callers}},
				r.looping("holdfast", callers, attaching(cluster)),
				r.looping("put", callers, plain.put),
				r.looping("transaction", callers, plain.attach))
			if err != nil {
				return nil, err
			}
			if callers == 1 {
				p50 := func(m Measured) float64 { return float64(m.Quantile(0.5)) }
				ratios := Ratios(rounds["holdfast"], rounds["put"], p50)
				r.Figure("attach_p50_vs_put_p50_one_caller", Median(ratios), ratios)
			}
			if callers == r.mostCallers() {
				ratios := Ratios(rounds["holdfast"], rounds["put"], Measured.PerSecond)
				r.Figure("attach_vs_put", Median(ratios), ratios)
			}
			return rounds, nil
		})
	},
}

// eachCallers compares at each number of callers, with a ledger of its own, and plots
// throughput and latency against it.
func (r *Run) eachCallers(ctx context.Context, workload string, compare func(int, *state.Cluster, *plain) (map[string][]Measured, error)) error {
	var curves curves
	for _, callers := range r.Sizes.Callers {
		err := r.beside(ctx, workload, func(cluster *state.Cluster, plain *plain) error {
			rounds, err := compare(callers, cluster, plain)
			curves.add(callers, rounds)
			return err
		})
		if err != nil {
			return err
		}
	}
	curves.plot(r, workload)
	return nil
}

// attaching attaches a volume of its own with each call.
func attaching(cluster *state.Cluster) Call {
	var volumes atomic.Int64
	return func(ctx context.Context, caller, _ int) error {
		_, err := cluster.Attach(ctx, state.AttachRequest{Volume: volumeName(int(volumes.Add(1))), Node: nodeName(caller)})
		return err
	}
}

// looping is a side whose callers make one call after another for a round.
func (r *Run) looping(name string, callers int, call Call) Side {
	return Side{Name: name, Round: func(ctx context.Context, _ int) (Measured, error) {
		return Loop(ctx, callers, r.Sizes.Round, 0, call), nil
	}}
}

// mostCallers is how many callers summaries are about.
func (r *Run) mostCallers() int { return r.Sizes.Callers[len(r.Sizes.Callers)-1] }

// curves are throughput and latency against callers, by side.
type curves struct {
	sides             []string
	callers           []float64
	perSecond, median map[string][]float64
}

func (c *curves) add(callers int, rounds map[string][]Measured) {
	if c.perSecond == nil {
		c.perSecond, c.median = map[string][]float64{}, map[string][]float64{}
	}
	c.callers = append(c.callers, float64(callers))
	for side, measured := range rounds {
		var rates, medians []float64
		for _, m := range measured {
			rates = append(rates, m.PerSecond())
			medians = append(medians, m.Quantile(0.5).Seconds()*1000)
		}
		if c.perSecond[side] == nil {
			c.sides = append(c.sides, side)
		}
		c.perSecond[side] = append(c.perSecond[side], Median(rates))
		c.median[side] = append(c.median[side], Median(medians))
	}
}

func (c *curves) plot(r *Run, workload string) {
	slices.Sort(c.sides)
	for _, side := range c.sides {
		r.Curve(Curve{Plot: workload + ": throughput against callers", Series: side, XLabel: "callers", YLabel: "calls/s",
			LogX: true, X: c.callers, Y: c.perSecond[side]})
		r.Curve(Curve{Plot: workload + ": median latency against callers", Series: side, XLabel: "callers", YLabel: "ms",
			LogX: true, LogY: true, X: c.callers, Y: c.median[side]})
	}
}
