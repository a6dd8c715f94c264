package state

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Pause stops the removals of a cluster: from its own revision on, every
// removing transaction fails. With a length it ends by itself, not before. A
// pause that is there is replaced. Attach and detach go on.
func (l *Ledger) Pause(ctx context.Context, cluster, by, why string, length time.Duration) error {
	if err := errors.Join(ValidateCluster(cluster), validateText("by", by), validateText("why", why)); err != nil {
		return err
	}
	switch {
	case length < 0 || length > maxLeaseTTL:
		return invalid("length of the pause", length.String(), fmt.Sprintf("a duration of up to %s, or 0 for no end", maxLeaseTTL))
	case length > 0 && length < l.floor:
		return tooShort("length of the pause", length, l.floor)
	}
	_, err := measured(l, "pause", func() (struct{}, error) {
		before, err := l.PauseOf(ctx, cluster)
		if err != nil {
			return struct{}{}, err
		}
		revision := int64(0) // what is replaced is the pause that was read, and no later one
		if before != nil {
			revision = before.ModRevision
		}
		value, id := pauseValue{By: by, Why: why, Since: now()}, newID()
		if length > 0 {
			value.Until = value.Since.Add(length)
		}
		put := waitPut{about: l.keys.pause(cluster), key: l.keys.pause(cluster), value: encode(value), wait: length}
		op := &simple{
			leases: func(ctx context.Context) (leases, error) {
				ids, err := l.journaled(ctx)
				if err == nil && length > 0 {
					ids.main, err = l.waits.take(ctx, length, 0)
				}
				return ids, err
			},
			ifs: []*pb.Compare{unchanged(put.key, revision)},
			thens: func(a attempt) []*pb.RequestOp {
				entry := entryValue{At: value.Since, Action: ActionPaused, By: by, Why: why}
				return []*pb.RequestOp{
					opLeased(put.key, put.value, a.leases.main),
					l.journalPut(cluster, id, entry, a.leases.journal),
				}
			},
			look: put.key,
			put:  put,
		}
		op.found = func(kv *mvccpb.KeyValue) error {
			// Sent again after a lost answer, it finds what it put itself.
			if kv != nil && string(kv.Value) == put.value {
				op.begun = resumed(kv.ModRevision)
				return nil
			}
			return fmt.Errorf("%w: somebody else paused or resumed cluster %s just now", ErrConflict, cluster)
		}
		if length == 0 {
			op.put = waitPut{}
		}
		if _, err := l.do(ctx, guard{}, put.about, op); err != nil {
			return struct{}{}, err
		}
		if length == 0 {
			return struct{}{}, nil
		}
		return struct{}{}, l.wholeWait(ctx, guard{}, op.begun, put)
	})
	return err
}

// Resume ends the pause of a cluster. ErrNotFound if there is none.
func (l *Ledger) Resume(ctx context.Context, cluster, by string) error {
	if err := errors.Join(ValidateCluster(cluster), validateText("by", by)); err != nil {
		return err
	}
	_, err := measured(l, "resume", func() (struct{}, error) {
		p, err := l.PauseOf(ctx, cluster)
		if err != nil {
			return struct{}{}, err
		}
		if p == nil {
			return struct{}{}, fmt.Errorf("%w: removal in cluster %s is not paused", ErrNotFound, cluster)
		}
		k, id, at := l.keys.pause(cluster), newID(), now()
		op := &simple{
			leases: l.journaled,
			ifs:    []*pb.Compare{unchanged(k, p.ModRevision)},
			thens: func(a attempt) []*pb.RequestOp {
				return []*pb.RequestOp{
					opDelete(k),
					l.journalPut(cluster, id, entryValue{At: at, Action: ActionResumed, By: by}, a.leases.journal),
				}
			},
			look: k,
			found: func(kv *mvccpb.KeyValue) error {
				if kv == nil {
					return nil // it has ended meanwhile, by this very request or by itself
				}
				return fmt.Errorf("%w: somebody else paused cluster %s anew just now", ErrConflict, cluster)
			},
		}
		_, err = l.do(ctx, guard{}, k, op)
		return struct{}{}, err
	})
	return err
}

// PauseOf reads the pause of a cluster; nil if there is none.
func (l *Ledger) PauseOf(ctx context.Context, cluster string) (*Pause, error) {
	resp, err := l.read(ctx, clientv3.OpGet(l.keys.pause(cluster)))
	if err != nil {
		return nil, err
	}
	for _, kv := range resp.Responses[0].GetResponseRange().Kvs {
		p := toPause(key{kind: kindPause, cluster: cluster}, kv)
		return &p, nil
	}
	return nil, nil
}

// ReleaseBrake is an operator's word that a braked removal may go on. It is a
// journal entry: the brake counts no departure that was put before its
// ModRevision, and so begins anew.
func (l *Ledger) ReleaseBrake(ctx context.Context, cluster, by, why string) (Entry, error) {
	if err := errors.Join(ValidateCluster(cluster), validateText("by", by), validateText("why", why)); err != nil {
		return Entry{}, err
	}
	return measured(l, "release_brake", func() (Entry, error) {
		id, entry := newID(), entryValue{At: now(), Action: ActionBrakeReleased, By: by, Why: why}
		op := &simple{
			leases: l.journaled,
			thens: func(a attempt) []*pb.RequestOp {
				return []*pb.RequestOp{l.journalPut(cluster, id, entry, a.leases.journal)}
			},
			// Put once: sent again it would release what departs meanwhile too.
			ifs:  []*pb.Compare{absent(l.keys.journal(cluster, id))},
			look: l.keys.journal(cluster, id),
		}
		put := int64(0)
		op.found = func(kv *mvccpb.KeyValue) error {
			put = kv.ModRevision // what an earlier send has put
			return nil
		}
		a, err := l.do(ctx, guard{}, l.keys.journal(cluster, id), op)
		if op.done {
			put = a.revision
		}
		return Entry{
			ID: id, Cluster: cluster, At: entry.At, Action: entry.Action, By: by, Why: why, ModRevision: put,
		}, err
	})
}
