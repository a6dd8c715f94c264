package state

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

func validateDeparture(d Departure) error {
	switch d.Reason {
	case NodeGone, NodeReplaced, OutOfService:
	default:
		return invalid("reason", string(d.Reason), "NodeGone, NodeReplaced or OutOfService")
	}
	return errors.Join(ValidateNode(d.Node), validateText("node UID", d.UID))
}

// Depart puts the record that a node has left, and its quarantine, in one
// transaction. With a ModRevision it replaces exactly that departure, which
// begins the quarantine anew; without one there must be none. A quarantine of 0
// is none at all. ErrConflict if the departure is another, ErrNotLeader.
func (ld *Leadership) Depart(ctx context.Context, d Departure, quarantine time.Duration) (Departure, error) {
	c := ld.c
	d.Cluster, d.Since, d.By = c.name, now(), c.ledger.cfg.By
	if err := errors.Join(validateDeparture(d), ld.leads()); err != nil {
		return Departure{}, err
	}
	if quarantine > 0 && quarantine < c.ledger.floor {
		return Departure{}, tooShort("quarantine", quarantine, c.ledger.floor)
	}
	return measured(c.ledger, "depart", func() (Departure, error) {
		for {
			put, stands, err := ld.depart(ctx, d, quarantine)
			if stands || err != nil {
				return put, err
			}
			// The quarantine was over before anybody knew of it. It is no wait that
			// a removal may follow: both are put anew, unless the departure has changed.
			d.ModRevision, d.Since = put.ModRevision, now()
		}
	})
}

// depart puts a departure once. stands: with a whole quarantine before it, or
// none where there is to be none.
func (ld *Leadership) depart(ctx context.Context, d Departure, quarantine time.Duration) (_ Departure, stands bool, err error) {
	c, k := ld.c, ld.c.ledger.keys
	departure, value := k.departure(c.name, d.Node), encode(departureValue{Reason: d.Reason, UID: d.UID, Since: d.Since, By: d.By})
	put := waitPut{
		about: departure, key: k.quarantine(c.name, d.Node), wait: quarantine,
		value: encode(quarantineValue{Until: d.Since.Add(max(quarantine, 0))}),
	}
	g := guard{cluster: c, leader: ld}
	op := &simple{
		leases: func(ctx context.Context) (ids leases, err error) {
			if quarantine > 0 {
				ids.main, err = c.ledger.waits.take(ctx, quarantine, 0)
			}
			return ids, err
		},
		ifs: []*pb.Compare{unchanged(departure, d.ModRevision)},
		thens: func(a attempt) []*pb.RequestOp {
			ops := []*pb.RequestOp{opPut(departure, value)}
			if quarantine > 0 {
				return append(ops, opLeased(put.key, put.value, a.leases.main))
			}
			return append(ops, opDelete(put.key))
		},
		look: departure,
	}
	if quarantine > 0 {
		op.put = put
	}
	op.found = func(kv *mvccpb.KeyValue) error {
		// Sent again after a lost answer, it finds what it put itself.
		if kv != nil && string(kv.Value) == value {
			d.ModRevision, op.begun = kv.ModRevision, resumed(kv.ModRevision)
			return nil
		}
		return fmt.Errorf("%w: the departure of node %s is not at revision %d any more", ErrConflict, d.Node, d.ModRevision)
	}
	a, err := c.ledger.do(ctx, g, departure, op)
	if err != nil {
		return Departure{}, false, err
	}
	if op.done {
		d.ModRevision = a.revision
	}
	if quarantine <= 0 {
		return d, true, nil
	}
	stands, err = c.ledger.mend(ctx, g, op.begun, put)
	return d, stands, err
}

// Return deletes a departure that a Node list contradicts, with its quarantine.
// Any replica may: it needs no lead. It succeeds where the departure is gone;
// ErrConflict if it was put anew, so that it has to be judged again.
func (c *Cluster) Return(ctx context.Context, d Departure) error {
	if err := ValidateNode(d.Node); err != nil {
		return err
	}
	_, err := measured(c.ledger, "return", func() (struct{}, error) {
		departure := c.ledger.keys.departure(c.name, d.Node)
		op := &simple{
			ifs: []*pb.Compare{unchanged(departure, d.ModRevision)},
			thens: func(attempt) []*pb.RequestOp {
				return []*pb.RequestOp{opDelete(departure), opDelete(c.ledger.keys.quarantine(c.name, d.Node))}
			},
			look: departure,
			found: func(kv *mvccpb.KeyValue) error {
				if kv == nil {
					return nil
				}
				return fmt.Errorf("%w: the departure of node %s was put anew at revision %d", ErrConflict, d.Node, kv.ModRevision)
			},
		}
		_, err := c.ledger.do(ctx, c.guard(false), departure, op)
		return struct{}{}, err
	})
	return err
}
