package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// RevokeLeases revokes, by hand, the leases of keys below Prefix: at most Max
// of them (0: 1), the first by key after Skip others.
type RevokeLeases struct {
	Prefix    string
	Max, Skip int
}

// Revocation is a lease that RevokeLeases revoked, at some time from Since to
// Until of the run, and the keys below the prefix that it had just before.
// Lost: no answer came, so that it may not have been revoked.
type Revocation struct {
	Lease        clientv3.LeaseID
	Keys         []string
	Since, Until time.Duration
	Lost         bool
}

func (f *RevokeLeases) String() string {
	return fmt.Sprintf("revoke %d leases below %s", max(f.Max, 1), f.Prefix)
}

// Apply revokes the leases; there may be fewer, or none.
func (f *RevokeLeases) Apply(ctx context.Context, c *Cluster) error {
	var leases []clientv3.LeaseID
	keys := make(map[clientv3.LeaseID][]string)
	err := c.do(ctx, "find leases", func(ctx context.Context, client *clientv3.Client) error {
		found, err := client.Get(ctx, f.Prefix, clientv3.WithPrefix())
		if err != nil {
			return err
		}
		leases = nil
		clear(keys)
		for _, kv := range found.Kvs {
			id := clientv3.LeaseID(kv.Lease)
			if id == 0 {
				continue
			}
			if keys[id] == nil {
				leases = append(leases, id)
			}
			keys[id] = append(keys[id], string(kv.Key))
		}
		return nil
	})
	if err != nil || len(leases) == 0 {
		return err
	}
	first := f.Skip % len(leases)
	for _, id := range leases[first:min(first+max(f.Max, 1), len(leases))] {
		if err := c.revoke(ctx, id, keys[id]); err != nil {
			return err
		}
	}
	return nil
}

// Heal has nothing to take back.
func (f *RevokeLeases) Heal(context.Context, *Cluster) error { return nil }

func (c *Cluster) revoke(ctx context.Context, id clientv3.LeaseID, keys []string) error {
	r := Revocation{Lease: id, Keys: keys, Since: c.opts.Now()}
	err := c.do(ctx, "revoke a lease", func(ctx context.Context, client *clientv3.Client) error {
		_, err := client.Revoke(ctx, id)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return nil // by itself meanwhile, or by an attempt that seemed to fail
		}
		return err
	})
	r.Until, r.Lost = c.opts.Now(), err != nil
	c.mu.Lock()
	defer c.mu.Unlock()
	c.revoked = append(c.revoked, r)
	return err
}

// Revoked lists what RevokeLeases has revoked so far, in order.
func (c *Cluster) Revoked() []Revocation {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.revoked)
}
