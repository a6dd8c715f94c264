package state

import (
	"context"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"time"
)

// errMoved: the hold or its attachment is not what it was when it was read.
var errMoved = fmt.Errorf("%w: the hold or its attachment has changed meanwhile", ErrConflict)

// Rearm puts the attachment of a lapsed hold of this cluster again: we are back
// and stand by it. The hold is read anew; only its names count.
//
// ErrNotFound: the hold is gone, or somebody stands by it already.
func (c *Cluster) Rearm(ctx context.Context, h Hold) error {
	if h.Cluster != c.name {
		return invalid("cluster", h.Cluster, fmt.Sprintf("%q, whose process this is", c.name))
	}
	_, err := measured(c.ledger, "rearm", func() (struct{}, error) {
		k := c.ledger.keys
		resp, err := c.ledger.read(ctx,
			clientv3.OpGet(k.hold(h.Volume, h.Mode, c.name, h.Node)),
			clientv3.OpGet(k.attachment(c.name, h.Node, h.Volume), clientv3.WithCountOnly()))
		if err != nil {
			return struct{}{}, err
		}
		kvs := resp.Responses[0].GetResponseRange().Kvs
		if len(kvs) == 0 || resp.Responses[1].GetResponseRange().Count > 0 {
			return struct{}{}, fmt.Errorf("%w: no lapsed hold of volume %q by node %s", ErrNotFound, h.Volume, h.Node)
		}
		found := toHold(key{kind: kindHold, volume: h.Volume, mode: h.Mode, cluster: h.Cluster, node: h.Node}, kvs[0])
		if found.Broken != nil {
			return struct{}{}, found.Broken
		}
		err = c.stand(ctx, found, 0)
		if errors.Is(err, errMoved) {
			err = fmt.Errorf("%w: no lapsed hold of volume %q by node %s any more", ErrNotFound, h.Volume, h.Node)
		}
		return struct{}{}, err
	})
	return err
}

// stand puts the attachment of a hold whose record was read, if both are still
// as they were: attachment is its ModRevision, 0 for none. errMoved if not.
func (c *Cluster) stand(ctx context.Context, h Hold, attachment int64) error {
	_, err := c.ledger.do(ctx, c.guard(false), h.Volume, &rearm{c: c, hold: h, attachment: attachment})
	return err
}

type rearm struct {
	c          *Cluster
	hold       Hold
	attachment int64
}

func (o *rearm) take(ctx context.Context) (leases, error) {
	session, err := o.c.sessions.take(ctx)
	return leases{session: session}, err
}

func (o *rearm) branch(a attempt) *pb.TxnRequest {
	k, h := o.c.ledger.keys, o.hold
	attachment := k.attachment(h.Cluster, h.Node, h.Volume)
	value := attachmentValue{Mode: h.Mode, NodeUID: h.NodeUID, Epoch: h.Token.Epoch(), Since: h.Since, Token: h.Token}
	return &pb.TxnRequest{
		Compare: []*pb.Compare{created(k.hold(h.Volume, h.Mode, h.Cluster, h.Node), h.Revision), unchanged(attachment, o.attachment)},
		Success: []*pb.RequestOp{opLeased(attachment, encode(value), a.leases.session)},
		Failure: []*pb.RequestOp{opGet(attachment)},
	}
}

func (o *rearm) settle(a attempt, answer *pb.TxnResponse) error {
	if answer.Succeeded {
		return nil
	}
	// Sent again after a lost answer, it finds what it put itself.
	for _, kv := range answer.Responses[0].GetResponseRange().Kvs {
		at := toAttachment(key{kind: kindAttachment, volume: o.hold.Volume, cluster: o.hold.Cluster, node: o.hold.Node}, kv)
		if at.Token == o.hold.Token && at.Lease == a.leases.session.id {
			return nil
		}
	}
	return errMoved
}

// KeepAlive renews a lease that was seen on an attachment of this cluster, once,
// and returns its TTL. ErrNotFound if etcd does not know the lease. Ask
// CheckIdentity before: no transaction guards a keep-alive.
func (c *Cluster) KeepAlive(ctx context.Context, id LeaseID) (time.Duration, error) {
	if err := errors.Join(c.ledger.writable(), c.mismatch()); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.ledger.cfg.RequestTimeout)
	defer cancel()
	resp, err := c.ledger.client.KeepAliveOnce(ctx, clientv3.LeaseID(id))
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		c.ledger.metrics.keepAlive("not_found")
		return 0, fmt.Errorf("%w: lease %s", ErrNotFound, id)
	case err != nil:
		c.ledger.metrics.keepAlive("error")
		_, err = c.ledger.classify(err)
		return 0, fmt.Errorf("keeping lease %s alive: %w", id, err)
	}
	c.ledger.metrics.keepAlive("ok")
	return time.Duration(resp.TTL) * time.Second, nil
}

// Gather moves attachments onto leases that are filled, each only if it is
// still as it was read, and returns how many it moved. What an etcd or a
// command that runs once left one a lease then costs one keep-alive for many.
func (c *Cluster) Gather(ctx context.Context, attachments []Attachment) (int, error) {
	moved := 0
	for _, at := range attachments {
		op := &gather{c: c, at: at}
		if _, err := c.ledger.do(ctx, c.guard(false), at.Volume, op); err != nil {
			return moved, err
		}
		if op.moved {
			moved++
		}
	}
	return moved, nil
}

type gather struct {
	c     *Cluster
	at    Attachment
	moved bool
}

func (o *gather) take(ctx context.Context) (leases, error) {
	session, err := o.c.sessions.take(ctx)
	return leases{session: session}, err
}

func (o *gather) branch(a attempt) *pb.TxnRequest {
	attachment := o.c.ledger.keys.attachment(o.at.Cluster, o.at.Node, o.at.Volume)
	return &pb.TxnRequest{
		Compare: []*pb.Compare{unchanged(attachment, o.at.ModRevision)},
		Success: []*pb.RequestOp{opRelease(attachment, a.leases.session)},
	}
}

func (o *gather) settle(_ attempt, answer *pb.TxnResponse) error {
	o.moved = answer.Succeeded
	return nil
}
