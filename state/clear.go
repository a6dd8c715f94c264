package state

import (
	"context"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// Clear ends a grace before its time, because the handoff is complete: it
// deletes the detachment, if nobody has put it again since it was read.
// ErrNotFound if it is gone, ErrConflict if it is another.
//
// A detachment also keeps a late or resent attach of its own node from
// bringing the hold back. Clear gives that up; docs/adr tells what remains.
func (c *Cluster) Clear(ctx context.Context, d Detachment) error {
	if d.Cluster != c.name {
		return invalid("cluster", d.Cluster, fmt.Sprintf("%q, whose process this is", c.name))
	}
	_, err := measured(c.ledger, "clear", func() (struct{}, error) {
		k := c.ledger.keys.detachment(d.Volume, d.Mode, d.Cluster, d.Node)
		op := &simple{
			ifs:   []*pb.Compare{unchanged(k, d.ModRevision)},
			thens: func(attempt) []*pb.RequestOp { return []*pb.RequestOp{opDelete(k)} },
			look:  k,
			found: func(kv *mvccpb.KeyValue) error {
				if kv == nil {
					return fmt.Errorf("%w: volume %q has no detachment of %s", ErrNotFound, d.Volume, Place{d.Cluster, d.Node})
				}
				return fmt.Errorf("%w: volume %q was detached from %s again, at revision %d", ErrConflict, d.Volume, Place{d.Cluster, d.Node}, kv.ModRevision)
			},
		}
		_, err := c.ledger.do(ctx, c.guard(false), d.Volume, op)
		return struct{}{}, err
	})
	return err
}

// ClearVolume clears every detachment that this cluster has of a volume, and
// returns how many. ErrNotFound if there is none.
func (c *Cluster) ClearVolume(ctx context.Context, volume string) (int, error) {
	v, err := c.ledger.Volume(ctx, volume)
	if err != nil {
		return 0, err
	}
	cleared := 0
	for _, d := range v.Detachments {
		if d.Cluster != c.name {
			continue
		}
		if err := c.Clear(ctx, d); err != nil {
			return cleared, err
		}
		cleared++
	}
	if cleared == 0 {
		return 0, fmt.Errorf("%w: volume %q has no detachment of cluster %s", ErrNotFound, volume, c.name)
	}
	return cleared, nil
}
