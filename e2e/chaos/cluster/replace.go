package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Replace loses one member with its data and puts a new one, with a new ID, in
// its place, at its addresses: Apply kills it and removes it from the list of
// members, Heal adds it again and starts it with no data.
type Replace struct {
	Who Who
	target
}

func (f *Replace) String() string { return "replace " + f.describe(f.Who) }

// Apply takes the member away.
func (f *Replace) Apply(ctx context.Context, c *Cluster) error {
	m, err := f.find(ctx, c, f.Who)
	if err != nil {
		return err
	}
	m.Kill()
	return c.do(ctx, "remove "+m.name, func(ctx context.Context, client *clientv3.Client) error {
		listed, err := c.listed(ctx, client, m)
		if err != nil || listed == nil {
			return err
		}
		_, err = client.MemberRemove(ctx, listed.ID)
		return err
	})
}

// Heal brings the new member. Where Apply has not got so far as to remove the
// old one, that starts again, with its data: without them it would have
// forgotten what it has voted for.
func (f *Replace) Heal(ctx context.Context, c *Cluster) error {
	if !f.applied {
		return nil
	}
	m := c.members[f.member]
	if m.PID() != 0 {
		return errors.New("cluster: a member that runs is not to be replaced: " + m.name)
	}
	anew := true
	err := c.do(ctx, "add "+m.name, func(ctx context.Context, client *clientv3.Client) error {
		listed, err := c.listed(ctx, client, m)
		if err != nil {
			return err
		}
		if listed != nil {
			anew = listed.Name == "" // it has not started yet
			return nil
		}
		_, err = client.MemberAdd(ctx, []string{m.proxy.url()})
		return err
	})
	if err != nil {
		return err
	}
	if anew {
		if err := m.rejoin(); err != nil {
			return fmt.Errorf("cluster: %s: %w", m.name, err)
		}
	}
	return c.startAll(ctx)
}

// listed is the member as etcd lists it, nil where it does not.
func (c *Cluster) listed(ctx context.Context, client *clientv3.Client, m *Member) (*pb.Member, error) {
	list, err := client.MemberList(ctx)
	if err != nil {
		return nil, err
	}
	for _, member := range list.Members {
		if slices.Contains(member.PeerURLs, m.proxy.url()) {
			return member, nil
		}
	}
	return nil, nil
}
