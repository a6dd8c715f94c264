package state

import (
	"context"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// CheckRole asks etcd whether this process may do all that a cluster's role
// allows, and does none of it. It returns nil, or ErrBeyondRole with a part for
// each permission that is lacking; any other error says that etcd could not be
// asked. Under an etcd without authentication everything is allowed.
func (c *Cluster) CheckRole(ctx context.Context) error {
	l := c.ledger
	list, err := ClusterPermissions(l.cfg.Prefix, c.name)
	if err != nil {
		return err
	}
	var lacking []error
	for _, p := range list {
		for _, a := range []Access{Read, Write} {
			if p.Access != a && p.Access != ReadWrite {
				continue
			}
			switch err := l.mayDo(ctx, p, a); {
			case errors.Is(err, ErrBeyondRole):
				lacking = append(lacking, fmt.Errorf("user %q may not %s %s: %w", user(l.cfg), a, p.Key, ErrBeyondRole))
			case err != nil && !errors.Is(err, ErrNoSpace): // which is said before it comes to the role, and elsewhere
				return fmt.Errorf("asking etcd what cluster %q may do: %w", c.name, err)
			}
		}
	}
	return errors.Join(lacking...)
}

// mayDo sends a transaction whose compare cannot hold: etcd looks at what its
// branch would take before it compares, and then does nothing.
func (l *Ledger) mayDo(ctx context.Context, p Permission, a Access) error {
	var options []clientv3.OpOption
	if p.RangeEnd != "" {
		options = append(options, clientv3.WithRange(p.RangeEnd))
	}
	op := clientv3.OpDelete(p.Key, options...)
	if a == Read {
		op = clientv3.OpGet(p.Key, append(options, clientv3.WithCountOnly())...)
	}
	never := clientv3.Compare(clientv3.CreateRevision(l.keys.ledger()), "=", -1)
	return l.again(ctx, func(ctx context.Context) (*pb.ResponseHeader, error) {
		r, err := l.client.Txn(ctx).If(never).Then(op).Commit()
		if err != nil {
			return nil, err
		}
		if r.Succeeded {
			return nil, fmt.Errorf("%w compare: etcd says that no revision is -1", ErrInvalid)
		}
		return r.Header, nil
	})
}
