package cluster

import (
	"context"
	"errors"
)

// Kill kills one member with SIGKILL; Heal starts it again.
type Kill struct {
	Who Who
	target
}

func (f *Kill) String() string { return "kill " + f.describe(f.Who) }

// Apply kills the member.
func (f *Kill) Apply(ctx context.Context, c *Cluster) error {
	m, err := f.find(ctx, c, f.Who)
	if err == nil {
		m.Kill()
	}
	return err
}

// Heal starts the member again.
func (f *Kill) Heal(_ context.Context, c *Cluster) error {
	if !f.applied {
		return nil
	}
	return c.members[f.member].Start()
}

// KillAll kills every member with SIGKILL; Heal starts them again.
type KillAll struct{}

func (KillAll) String() string { return "kill all members" }

// Apply kills the members, one right after the other.
func (KillAll) Apply(_ context.Context, c *Cluster) error {
	for _, m := range c.members {
		m.Kill()
	}
	return nil
}

// Heal starts the members again.
func (KillAll) Heal(_ context.Context, c *Cluster) error {
	var errs []error
	for _, m := range c.members {
		errs = append(errs, m.Start())
	}
	return errors.Join(errs...)
}

// Freeze stops one member in its tracks with SIGSTOP: it answers nobody, and
// when it goes on it takes the time for no later than it was.
type Freeze struct {
	Who Who
	target
}

func (f *Freeze) String() string { return "freeze " + f.describe(f.Who) }

// Apply freezes the member.
func (f *Freeze) Apply(ctx context.Context, c *Cluster) error {
	m, err := f.find(ctx, c, f.Who)
	if err != nil {
		return err
	}
	return m.Freeze()
}

// Heal lets the member go on.
func (f *Freeze) Heal(_ context.Context, c *Cluster) error {
	if !f.applied {
		return nil
	}
	return c.members[f.member].Thaw()
}
