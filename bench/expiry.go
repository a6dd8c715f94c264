package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-storage/holdfast/state"
)

// expiry has many graces end together: it detaches as fast as it can, and takes
// from a watch when each grace's record was put and when etcd deleted it. How late
// that is counts beyond the grace that was asked for; early is what ended sooner
// after the detach was answered. The peer does the same with a lease a record, and
// with a tenth of the records, for it would take minutes.
var expiry = Workload{
	Name:  "expiry",
	About: "many graces that end together: how late, how early, beside a lease a record",
	Run:   func(ctx context.Context, r *Run) error { return r.expiries(ctx) },
}

const (
	expiryGrace = 10 * time.Second
	// leaseEachShare is the part of the graces that the peer has.
	leaseEachShare = 10
)

func (r *Run) expiries(ctx context.Context) error {
	callers := r.Sizes.Callers[len(r.Sizes.Callers)-1]
	var late []float64
	early := 0
	for round := range r.briefly() {
		r.Step("expiry graces=%d, holdfast, round %d", r.Sizes.Graces, round+1)
		e, err := r.detached(ctx, r.Sizes.Graces, callers)
		if err != nil {
			return err
		}
		r.addExpiry("holdfast", round, r.Sizes.Graces, e)
		late = append(late, e.late(0.99))
		early += e.early
	}
	r.Figure("expiry_late_p99_s", Median(late), late)
	r.Figure("expiry_early", float64(early), nil)
	few := max(r.Sizes.Graces/leaseEachShare, 1)
	r.Step("expiry graces=%d, lease-each", few)
	e, err := r.leaseEach(ctx, few, callers)
	if err != nil {
		return err
	}
	r.addExpiry("lease-each", 0, few, e)
	return nil
}

func (r *Run) addExpiry(side string, round, graces int, e *expired) {
	r.Add(Row{
		Workload: "expiry", Side: side, Params: []Param{{"graces", graces}}, Round: round, Calls: graces, Errors: map[string]int{},
		Metrics: []Metric{
			{Unit: "late-p50-s", Value: e.late(0.5)}, {Unit: "late-p99-s", Value: e.late(0.99)}, {Unit: "late-max-s", Value: e.late(1)},
			{Unit: "early", Value: float64(e.early)}, {Unit: "detaches/s", Value: e.rate, More: true},
		},
	})
	if round > 0 {
		return // the rounds' lines would lie on each other
	}
	c := Curve{Plot: "expiry: how late graces end that end together", Series: side, XLabel: "share of the graces, %", YLabel: "seconds late"}
	for q := 0; q <= 100; q += 2 {
		c.X, c.Y = append(c.X, float64(q)), append(c.Y, e.late(float64(q)/100))
	}
	r.Curve(c)
}

// expired is what came of a round.
type expired struct {
	hist  *hdrhistogram.Histogram // how late, in nanoseconds
	early int
	rate  float64 // detaches a second
}

func (e *expired) late(q float64) float64 {
	return time.Duration(e.hist.ValueAtQuantile(100 * q)).Seconds()
}

// detached is Holdfast's side.
func (r *Run) detached(ctx context.Context, graces, callers int) (_ *expired, err error) {
	ledger, cluster, err := r.Ledger(ctx, "expiry", func(c *state.Config) { c.GracePeriod = expiryGrace })
	if err != nil {
		return nil, err
	}
	prefix := ledger.Config().Prefix
	defer func() { err = errors.Join(err, ledger.Close(), Wipe(context.WithoutCancel(ctx), r.Client(), prefix)) }()
	nodes := nodeNames(max(1, graces/max(r.Sizes.OnNode, 1)))
	if err := populate(ctx, cluster, nodes, graces/len(nodes)); err != nil {
		return nil, err
	}
	graces = graces / len(nodes) * len(nodes)
	return r.ends(ctx, prefix+"v1/detachments/volume-", graces, callers, func(ctx context.Context, i int) error {
		_, err := cluster.Detach(ctx, state.DetachRequest{Volume: volumeName(i), Node: nodes[i%len(nodes)]})
		return err
	})
}

// leaseEach is the peer: a record under a lease of its own.
func (r *Run) leaseEach(ctx context.Context, graces, callers int) (*expired, error) {
	client, err := r.NewClient(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = client.Close() }()
	prefix := r.Etcd.Prefix + "lease-each/volume-"
	return r.ends(ctx, prefix, graces, callers, func(ctx context.Context, i int) error {
		lease, err := client.Grant(ctx, int64(expiryGrace.Seconds()))
		if err != nil {
			return err
		}
		_, err = client.Put(ctx, fmt.Sprintf("%s%033d/", prefix, i), "detached", clientv3.WithLease(lease.ID))
		return err
	})
}

// ends begins the waits and looks until the last is over. A record's number stands
// behind the prefix, and before a slash.
func (r *Run) ends(ctx context.Context, prefix string, graces, callers int, begin func(ctx context.Context, i int) error) (*expired, error) {
	now, err := r.Client().Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		return nil, err
	}
	watching, end := context.WithCancel(ctx)
	defer end()
	changes := r.Client().Watch(watching, prefix, clientv3.WithPrefix(), clientv3.WithRev(now.Header.Revision+1), clientv3.WithFragment())
	e := &expired{hist: NewLatency()}
	answered := make([]atomic.Int64, graces)
	done := make(chan error, 1)
	begun := time.Now()
	go func() { done <- e.follow(changes, prefix, begun, answered) }()

	m := Loop(ctx, callers, time.Hour, graces, func(ctx context.Context, _, i int) error {
		err := begin(ctx, i)
		answered[i].Store(int64(time.Since(begun)))
		return err
	})
	if err := errors.Join(failures(m), ctx.Err()); err != nil {
		return nil, err
	}
	e.rate = m.PerSecond()
	return e, <-done
}

// follow returns when all waits are over.
func (e *expired) follow(changes clientv3.WatchChan, prefix string, begun time.Time, answered []atomic.Int64) error {
	put := make([]time.Duration, len(answered))
	left := len(answered)
	for c := range changes {
		at := time.Since(begun)
		for _, ev := range c.Events {
			number, _, _ := strings.Cut(strings.TrimPrefix(string(ev.Kv.Key), prefix), "/")
			i, err := strconv.Atoi(number)
			if err != nil || i >= len(put) {
				return fmt.Errorf("key %q is none of this workload's", ev.Kv.Key)
			}
			if ev.Type == clientv3.EventTypePut {
				if put[i] == 0 { // not where a wait that would have been short is put again
					put[i] = at
				}
				continue
			}
			if since := answered[i].Load(); since == 0 || at-time.Duration(since) < expiryGrace {
				e.early++
			}
			_ = e.hist.RecordValue(int64(max(at-put[i]-expiryGrace, time.Microsecond)))
			if left--; left == 0 {
				return nil
			}
		}
	}
	return errors.New("the watch ended before the waits did")
}
