package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	// attempt bounds one request of the cluster's own.
	attempt = 5 * time.Second
	// pause lies between two attempts.
	pause = 50 * time.Millisecond
)

// Client returns a new client of root's, past every proxy, to all members. The
// caller closes it.
func (c *Cluster) Client() (*clientv3.Client, error) { return c.client(c.DirectEndpoints()...) }

func (c *Cluster) client(endpoints ...string) (*clientv3.Client, error) {
	// An etcd without authentication says so to a login, and clientv3 goes on.
	return clientv3.New(clientv3.Config{
		Endpoints: endpoints, Username: Root.Name, Password: Root.Password,
		DialTimeout: attempt, Logger: zap.NewNop(),
	})
}

// do calls with a client of the leader's, or of each member's in turn, until
// one call succeeds or the context ends. It must be safe to repeat.
func (c *Cluster) do(ctx context.Context, what string, call func(context.Context, *clientv3.Client) error) error {
	for i := 0; ; i++ {
		m := c.members[i%Size]
		if leader, err := c.agreedLeader(ctx); err == nil && i < Size {
			m = c.members[leader]
		}
		err := c.at(ctx, m, call)
		if err == nil {
			return nil
		}
		if wait(ctx) != nil {
			return fmt.Errorf("cluster: %s: %w: %w", what, ctx.Err(), err)
		}
	}
}

// at calls with a client of one member's, once.
func (c *Cluster) at(ctx context.Context, m *Member, call func(context.Context, *clientv3.Client) error) error {
	client, err := c.client(m.Endpoint())
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	return call(ctx, client)
}

// wait lets a loop look again; an error: the context has ended.
func wait(ctx context.Context) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Leader waits until every member that answers names the same one, which
// answers too, and returns its index. It does not say for how long.
func (c *Cluster) Leader(ctx context.Context) (int, error) {
	for {
		leader, err := c.agreedLeader(ctx)
		if err == nil {
			return leader, nil
		}
		if wait(ctx) != nil {
			return -1, fmt.Errorf("cluster: no leader: %w: %w", ctx.Err(), err)
		}
	}
}

// Healthy waits until all members agree on one leader and each serves a
// linearizable read. The wait is bounded by the context only.
func (c *Cluster) Healthy(ctx context.Context) error {
	for {
		err := c.health(ctx)
		if err == nil {
			return nil
		}
		if wait(ctx) != nil {
			return fmt.Errorf("cluster: not healthy: %w: %w", ctx.Err(), err)
		}
	}
}

func (c *Cluster) health(ctx context.Context) error {
	seen, err := c.statuses(ctx)
	if err != nil {
		return err
	}
	for i, s := range seen {
		if s.Leader == 0 || s.Leader != seen[0].Leader {
			return fmt.Errorf("%s names %x its leader, %s %x", c.members[i].name, s.Leader, c.members[0].name, seen[0].Leader)
		}
		err := c.at(ctx, c.members[i], func(ctx context.Context, client *clientv3.Client) error {
			_, err := client.Get(ctx, "health", clientv3.WithCountOnly())
			return err
		})
		if err != nil {
			return fmt.Errorf("%s does not serve: %w", c.members[i].name, err)
		}
	}
	return nil
}

// statuses asks all members, and all of them must answer.
func (c *Cluster) statuses(ctx context.Context) ([]*clientv3.StatusResponse, error) {
	var all []*clientv3.StatusResponse
	var errs []error
	for _, m := range c.members {
		s, err := c.Status(ctx, m.index)
		errs = append(errs, err)
		all = append(all, s)
	}
	return all, errors.Join(errs...)
}

// Status is what a member says of itself: its ID, the cluster's, its leader,
// its revision. It gives up after a second. It needs no quorum, unless
// authentication is on: etcd 3.7 wants a login for it.
func (c *Cluster) Status(ctx context.Context, member int) (*clientv3.StatusResponse, error) {
	m := c.members[member]
	if m.PID() == 0 {
		return nil, fmt.Errorf("%s does not run", m.name)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	s, err := m.status(ctx, clientv3.Config{})
	if errors.Is(err, rpctypes.ErrUserEmpty) {
		s, err = m.status(ctx, clientv3.Config{Username: Root.Name, Password: Root.Password})
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m.name, err)
	}
	return s, nil
}

func (m *Member) status(ctx context.Context, cfg clientv3.Config) (*clientv3.StatusResponse, error) {
	cfg.Endpoints, cfg.Logger, cfg.DialTimeout = []string{m.Endpoint()}, zap.NewNop(), time.Second
	client, err := clientv3.New(cfg)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	return client.Status(ctx, m.Endpoint())
}

// agreedLeader asks once.
func (c *Cluster) agreedLeader(ctx context.Context) (int, error) {
	leader, named := -1, make(map[uint64]bool)
	for i := range c.members {
		s, err := c.Status(ctx, i)
		if err != nil {
			continue // gone, frozen or starting: the others may have a leader
		}
		named[s.Leader] = true
		if s.Leader == s.Header.MemberId {
			leader = i
		}
	}
	if len(named) != 1 || leader < 0 {
		return -1, fmt.Errorf("the members that answer name %d leaders; %d leads", len(named), leader)
	}
	return leader, nil
}
