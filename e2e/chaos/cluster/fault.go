package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Fault is one thing that goes wrong. Apply makes it and Heal takes it back,
// once each, in this order, also where Apply has failed half way; a fault that
// leaves nothing standing heals to nothing. Neither waits for the cluster to be
// healthy, but for Replace and Restore: other faults may stand. String says what
// the fault is, and once it is applied to which member.
type Fault interface {
	fmt.Stringer
	Apply(ctx context.Context, c *Cluster) error
	Heal(ctx context.Context, c *Cluster) error
}

// Who is the member that a fault is for: its index, or one of the names below,
// which are resolved when the fault is applied.
type Who int

// The members by what they do.
const (
	Leader   Who = -1
	Follower Who = -2 // the one after the leader
)

// target is whom a fault is for, and whom it has been applied to.
type target struct {
	member  int
	applied bool
}

func (t *target) find(ctx context.Context, c *Cluster, who Who) (*Member, error) {
	switch who {
	case Leader, Follower:
		leader, err := c.Leader(ctx)
		if err != nil {
			return nil, err
		}
		t.member = leader
		if who == Follower {
			t.member = (leader + 1) % Size
		}
	default:
		t.member = int(who) % Size
	}
	t.applied = true
	return c.members[t.member], nil
}

func (t *target) describe(who Who) string {
	name := "member " + fmt.Sprint(int(who))
	switch who {
	case Leader:
		name = "the leader"
	case Follower:
		name = "a follower"
	}
	if t.applied && who < 0 {
		name += fmt.Sprintf(" (member %d)", t.member)
	}
	return name
}

// patience bounds what it takes to apply a fault, and to heal it: a leader
// that is looked for, a restore of three members.
const patience = time.Minute

// During applies a fault, lets it stand for d, or until the context ends, and
// heals it, whatever the context says. Applying and healing take a minute each
// at most.
func During(ctx context.Context, c *Cluster, f Fault, d time.Duration) error {
	applying, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	begin := c.opts.Now()
	err := f.Apply(applying, c)
	c.log.Info("fault", "fault", f.String(), "from", begin, "to", c.opts.Now(), "error", err)
	if err == nil {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	healing, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	begin = c.opts.Now()
	err = errors.Join(err, f.Heal(healing, c))
	c.log.Info("healed", "fault", f.String(), "from", begin, "to", c.opts.Now(), "error", err)
	return err
}

// HealAll takes back whatever stands, applied by a fault or by hand, starts
// every member that does not run, and returns once the cluster is healthy.
// What is lost stays lost: compacted revisions, revoked leases, all that a
// restore took.
func (c *Cluster) HealAll(ctx context.Context) error {
	c.net.heal()
	for _, side := range c.front {
		for _, proxy := range side {
			proxy.Delay(0)
			proxy.LoseResponses(0)
			proxy.Resume()
		}
	}
	for _, m := range c.members {
		err := m.Thaw()
		if c.failpoints && m.PID() != 0 && m.SetFailpoint(ctx, slowPoint, "") != nil {
			m.Kill() // and its failpoints with it
		}
		if err := errors.Join(err, m.Start()); err != nil {
			return err
		}
	}
	if err := c.Healthy(ctx); err != nil {
		return err
	}
	return errors.Join((Auth{}).Heal(ctx, c), (NoSpace{}).Heal(ctx, c))
}
