package cluster

import (
	"context"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Compact compacts to the current revision, under every watch and list.
type Compact struct{}

func (Compact) String() string { return "compact to the current revision" }

// Apply compacts.
func (Compact) Apply(ctx context.Context, c *Cluster) error {
	return c.do(ctx, "compact", func(ctx context.Context, client *clientv3.Client) error {
		now, err := client.Get(ctx, "compact", clientv3.WithCountOnly())
		if err != nil {
			return err
		}
		_, err = client.Compact(ctx, now.Header.Revision)
		if errors.Is(err, rpctypes.ErrCompacted) {
			return nil // by an attempt that seemed to fail
		}
		return err
	})
}

// Heal has nothing to take back.
func (Compact) Heal(context.Context, *Cluster) error { return nil }

// Defragment defragments each member in turn; a member answers nothing meanwhile.
type Defragment struct{}

func (Defragment) String() string { return "defragment each member in turn" }

// Apply defragments.
func (Defragment) Apply(ctx context.Context, c *Cluster) error {
	for _, m := range c.members {
		if m.PID() == 0 {
			continue
		}
		err := c.at(ctx, m, func(ctx context.Context, client *clientv3.Client) error {
			_, err := client.Defragment(ctx, m.Endpoint())
			return err
		})
		if err != nil {
			return fmt.Errorf("cluster: defragment %s: %w", m.name, err)
		}
	}
	return nil
}

// Heal has nothing to take back.
func (Defragment) Heal(context.Context, *Cluster) error { return nil }

// NoSpace raises etcd's NOSPACE alarm: puts and grants are refused, deletes
// and keep-alives pass.
type NoSpace struct{}

func (NoSpace) String() string { return "NOSPACE" }

// Apply raises the alarm, for the leader.
func (NoSpace) Apply(ctx context.Context, c *Cluster) error {
	return c.do(ctx, "raise NOSPACE", func(ctx context.Context, client *clientv3.Client) error {
		list, err := client.MemberList(ctx)
		if err != nil {
			return err
		}
		_, err = pb.NewMaintenanceClient(client.ActiveConnection()).Alarm(ctx, &pb.AlarmRequest{
			Action:   pb.AlarmRequest_ACTIVATE,
			MemberID: list.Header.MemberId,
			Alarm:    pb.AlarmType_NOSPACE,
		})
		return err
	})
}

// Heal clears every alarm.
func (NoSpace) Heal(ctx context.Context, c *Cluster) error {
	return c.do(ctx, "clear NOSPACE", func(ctx context.Context, client *clientv3.Client) error {
		list, err := client.AlarmList(ctx)
		if err != nil {
			return err
		}
		for _, alarm := range list.Alarms {
			if _, err := client.AlarmDisarm(ctx, &clientv3.AlarmMember{MemberID: alarm.MemberID, Alarm: alarm.Alarm}); err != nil {
				return err
			}
		}
		return nil
	})
}
