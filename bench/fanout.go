package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-storage/holdfast/state"
)

// fanout commits at a fixed rate, with many that watch, each over a connection of
// its own, and measures how long a commit takes to be in each one's view, from when
// it was begun. The peer puts bare keys that plain clients watch.
var fanout = Workload{
	Name:  "fanout",
	About: "an attach until it is in the view of each of many watchers, beside bare puts and watches",
	Run: func(ctx context.Context, r *Run) error {
		p99 := map[string][]float64{}
		for _, watchers := range r.Sizes.Watchers {
			if err := r.fansOut(ctx, watchers, p99); err != nil {
				return err
			}
		}
		for _, side := range []string{"holdfast", "watch"} {
			r.Curve(Curve{
				Plot: "Fan-out", Series: side, XLabel: "watchers", YLabel: "begun to in view, p99 (ms)", LogX: true,
				X: floats(r.Sizes.Watchers), Y: p99[side],
			})
		}
		return nil
	},
}

func floats(of []int) []float64 {
	var out []float64
	for _, n := range of {
		out = append(out, float64(n))
	}
	return out
}

const (
	// fanoutRate is how many commits a second all watchers see.
	fanoutRate    = 100
	fanoutCallers = 64
	// seenWithin is what a commit gets to be in every view, at the end of a round.
	seenWithin = 10 * time.Second
)

func (r *Run) fansOut(ctx context.Context, watchers int, p99 map[string][]float64) error {
	ledger, cluster, err := r.Ledger(ctx, "fanout", nil)
	if err != nil {
		return err
	}
	defer func() { _ = ledger.Close() }()
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()

	ours, bare := newViews(watchers), newViews(watchers)
	bareKeys := r.Etcd.Prefix + "fanout/"
	for range watchers {
		if err := errors.Join(r.ourView(ctx, ledger, ours, &watching), r.bareView(ctx, bareKeys, bare, &watching)); err != nil {
			return err
		}
	}
	if err := ours.allBegun(ctx); err != nil {
		return err
	}
	params := []Param{{"watchers", watchers}}
	rounds, err := r.CompareBriefly(ctx, "fanout", params,
		Side{Name: "holdfast", Round: func(ctx context.Context, _ int) (Measured, error) {
			return ours.round(ctx, r.Sizes.Round, func(ctx context.Context, i int) error {
				_, err := cluster.Attach(ctx, state.AttachRequest{Volume: volumeName(i), Node: "node"})
				return err
			})
		}},
		Side{Name: "watch", Round: func(ctx context.Context, _ int) (Measured, error) {
			return bare.round(ctx, r.Sizes.Round, func(ctx context.Context, i int) error {
				_, err := r.client.Put(ctx, bareKeys+volumeName(i), "")
				return err
			})
		}})
	for side, of := range rounds {
		var all []float64
		for _, m := range of {
			all = append(all, float64(m.Quantile(0.99))/float64(time.Millisecond))
		}
		p99[side] = append(p99[side], Median(all))
	}
	return err
}

// ourView watches as a controller does: with a ledger of its own.
func (r *Run) ourView(ctx context.Context, of *state.Ledger, v *views, watching *sync.WaitGroup) error {
	cfg := r.Etcd
	cfg.Prefix, cfg.ReadOnly, cfg.Logger = of.Config().Prefix, true, r.Log
	ledger, err := state.Open(ctx, cfg)
	if err != nil {
		return err
	}
	watching.Go(func() {
		defer func() { _ = ledger.Close() }()
		_ = ledger.Watch(ctx, state.ScopeAttachments(ClusterName), func(b state.Batch) error {
			if b.Synced {
				v.begun <- struct{}{}
			}
			for _, e := range b.Events {
				if a, ok := e.Record.(state.Attachment); ok {
					v.saw(a.Volume)
				}
			}
			return nil
		})
	})
	return nil
}

func (r *Run) bareView(ctx context.Context, prefix string, v *views, watching *sync.WaitGroup) error {
	client, err := r.NewClient(ctx)
	if err != nil {
		return err
	}
	changes := client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	if _, open := <-changes; !open {
		return errors.Join(errors.New("a bare watch does not begin"), client.Close())
	}
	watching.Go(func() {
		defer client.Close()
		for c := range changes {
			for _, e := range c.Events {
				v.saw(strings.TrimPrefix(string(e.Kv.Key), prefix))
			}
		}
	})
	return nil
}

// views are all that see the commits of one side.
type views struct {
	watchers int
	begun    chan struct{}

	mu      sync.Mutex
	starts  []time.Time // by the commit's number, over all rounds
	missing int         // how often one of this round's is still to be seen
	all     chan struct{}
	m       *Measured // nil between rounds
}

func newViews(watchers int) *views {
	return &views{watchers: watchers, begun: make(chan struct{}, watchers), all: make(chan struct{}, 1)}
}

func (v *views) allBegun(ctx context.Context) error {
	for range v.watchers {
		select {
		case <-v.begun:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// saw takes in that one watcher has a volume in its view.
func (v *views) saw(volume string) {
	now := time.Now()
	i, err := strconv.Atoi(strings.TrimLeft(strings.TrimPrefix(volume, "volume-"), "0"))
	if volume == volumeName(0) {
		i, err = 0, nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if err != nil || i >= len(v.starts) || v.m == nil {
		return
	}
	_ = v.m.Latency.RecordValue(int64(max(now.Sub(v.starts[i]), time.Microsecond))) // beyond ten minutes nobody waits
	v.m.Calls++
	v.note(-1)
}

// note counts what is still to be seen. The caller has the lock.
func (v *views) note(more int) {
	if v.missing += more; v.missing == 0 {
		select {
		case v.all <- struct{}{}:
		default:
		}
	}
}

// start gives a commit its number.
func (v *views) start() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.starts = append(v.starts, time.Now())
	v.note(v.watchers)
	return len(v.starts) - 1
}

// round commits for a time, and waits until every view has it all.
func (v *views) round(ctx context.Context, length time.Duration, commit func(ctx context.Context, i int) error) (Measured, error) {
	v.mu.Lock()
	v.m, v.missing = &Measured{Latency: NewLatency(), Errors: map[string]int{}}, 0
	v.mu.Unlock()
	begun := time.Now()
	made := Offer(ctx, fanoutCallers, length, fanoutRate, func(ctx context.Context, _, _ int) error { return commit(ctx, v.start()) })
	if made.Failed() > 0 {
		return Measured{}, failures(made)
	}
	enough := time.NewTimer(seenWithin)
	defer enough.Stop()
	for {
		v.mu.Lock()
		left := v.missing
		v.mu.Unlock()
		if left == 0 {
			break
		}
		select {
		case <-v.all:
		case <-enough.C:
			return Measured{}, fmt.Errorf("%d of %d commits are in no view of %d after %s", left, made.Calls, v.watchers, seenWithin)
		case <-ctx.Done():
			return Measured{}, ctx.Err()
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	m := *v.m
	m.Took, v.m = time.Since(begun), nil
	return m, nil
}
