package bench

import (
	"context"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-storage/holdfast/state"
)

// detach compares a detach with a raw put, and with the same transaction where each
// grants a lease of its own for its grace. What is detached is attached before its
// round, which is not measured.
var detach = Workload{
	Name:  "detach",
	About: "detach beside a raw put, and beside a lease for each detach",
	Run: func(ctx context.Context, r *Run) error {
		return r.eachCallers(ctx, "detach", func(callers int, cluster *state.Cluster, plain *plain) (map[string][]Measured, error) {
			params, holdfast, put := []Param{{"callers", callers}}, r.detaching(callers, cluster), r.looping("put", callers, plain.put)
			if callers < r.mostCallers() {
				return r.CompareBriefly(ctx, "detach", params, holdfast, put)
			}
			rounds, err := r.Compare(ctx, "detach", params, holdfast, put, r.leasing(callers, plain))
			if err != nil {
				return nil, err
			}
			ratios := Ratios(rounds["holdfast"], rounds["put"], Measured.PerSecond)
			r.Figure("detach_vs_put", Median(ratios), ratios)
			ratios = Ratios(rounds["holdfast"], rounds["lease-each"], Measured.PerSecond)
			r.Figure("detach_vs_lease_each", Median(ratios), ratios)
			return rounds, nil
		})
	},
}

// detaching detaches what it has attached before, for as long as there is some.
func (r *Run) detaching(callers int, cluster *state.Cluster) Side {
	return Side{Name: "holdfast", Round: func(ctx context.Context, round int) (Measured, error) {
		volume := func(i int) string { return fmt.Sprintf("volume-%03d-%03d-%025d", callers, round, i) }
		node := func(i int) string { return nodeName(i % populating) }
		attached := Loop(ctx, populating, r.stocking(callers), 0, func(ctx context.Context, _, i int) error {
			_, err := cluster.Attach(ctx, state.AttachRequest{Volume: volume(i), Node: node(i)})
			return err
		})
		if err := failures(attached); err != nil {
			return Measured{}, err
		}
		return Loop(ctx, callers, r.Sizes.Round, attached.Calls, func(ctx context.Context, _, i int) error {
			ended, err := cluster.Detach(ctx, state.DetachRequest{Volume: volume(i), Node: node(i)})
			if err == nil && !ended.Existed {
				err = errFree
			}
			return err
		}), nil
	}}
}

// stocking is how long to attach for what is then detached in a round.
func (r *Run) stocking(callers int) time.Duration {
	if callers == 1 {
		return r.Sizes.Round / 4 // many attach for one who detaches
	}
	return r.Sizes.Round
}

// leaseEach detaches as somebody does who grants a lease for each record.
type leaseEach struct {
	*plain
	mu     sync.Mutex
	leases []clientv3.LeaseID
}

// leaseEachGrace is the grace of the ledger, and what a pooled lease has beyond it.
const leaseEachGrace = state.DefaultGracePeriod + 2*time.Second

func (l *leaseEach) detach(ctx context.Context, volume, node string) error {
	granted, err := l.client.Grant(ctx, int64(leaseEachGrace/time.Second))
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.leases = append(l.leases, granted.ID)
	l.mu.Unlock()
	return l.end(ctx, volume, node, granted.ID)
}

// revoke ends all leases that were granted, so that their end, at a thousand a
// second, is not in the next one's turn.
func (l *leaseEach) revoke(ctx context.Context) error {
	defer func() { l.leases = nil }()
	return failures(Loop(ctx, populating, time.Hour, len(l.leases), func(ctx context.Context, _, i int) error {
		_, err := l.client.Revoke(ctx, l.leases[i])
		return err
	}))
}

func (r *Run) leasing(callers int, peer *plain) Side {
	return Side{Name: "lease-each", Round: func(ctx context.Context, round int) (Measured, error) {
		each := &leaseEach{plain: peer.under(fmt.Sprintf("%d-%d", callers, round))}
		node := func(i int) string { return nodeName(i % populating) }
		// It is the slower side by far, and needs no more.
		attached := Loop(ctx, populating, r.Sizes.Round/2, 0, func(ctx context.Context, _, i int) error {
			return each.take(ctx, volumeName(i), node(i))
		})
		if err := failures(attached); err != nil {
			return Measured{}, err
		}
		m := Loop(ctx, callers, r.Sizes.Round, attached.Calls, func(ctx context.Context, _, i int) error {
			return each.detach(ctx, volumeName(i), node(i))
		})
		return m, each.revoke(ctx)
	}}
}
