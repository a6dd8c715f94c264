package cluster

import (
	"context"
	"time"
)

// Isolate cuts one member off from the other members, in both directions. Its
// clients reach it.
type Isolate struct {
	Who Who
	target
}

func (f *Isolate) String() string { return "isolate " + f.describe(f.Who) + " from the members" }

// Apply cuts the member off.
func (f *Isolate) Apply(ctx context.Context, c *Cluster) error {
	m, err := f.find(ctx, c, f.Who)
	if err == nil {
		c.partition(m.index, true, true, true)
	}
	return err
}

// Heal joins the member to the others again.
func (f *Isolate) Heal(_ context.Context, c *Cluster) error { return f.rejoin(c) }

// Deafen has one member hear nothing of the other members, which hear it.
type Deafen struct {
	Who Who
	target
}

func (f *Deafen) String() string { return f.describe(f.Who) + " hears no member" }

// Apply makes the member deaf.
func (f *Deafen) Apply(ctx context.Context, c *Cluster) error {
	m, err := f.find(ctx, c, f.Who)
	if err == nil {
		c.partition(m.index, true, false, true)
	}
	return err
}

// Heal lets the member hear again.
func (f *Deafen) Heal(_ context.Context, c *Cluster) error { return f.rejoin(c) }

// Mute has the other members hear nothing of one member, which hears them.
type Mute struct {
	Who Who
	target
}

func (f *Mute) String() string { return f.describe(f.Who) + " is heard by no member" }

// Apply makes the member mute.
func (f *Mute) Apply(ctx context.Context, c *Cluster) error {
	m, err := f.find(ctx, c, f.Who)
	if err == nil {
		c.partition(m.index, false, true, true)
	}
	return err
}

// Heal lets the member be heard again.
func (f *Mute) Heal(_ context.Context, c *Cluster) error { return f.rejoin(c) }

// SlowMember makes whatever one member says to the others, and they to it,
// arrive Delay later.
type SlowMember struct {
	Who   Who
	Delay time.Duration
	target
}

func (f *SlowMember) String() string {
	return "messages of " + f.describe(f.Who) + " take " + f.Delay.String()
}

// Apply slows the member's messages down.
func (f *SlowMember) Apply(ctx context.Context, c *Cluster) error {
	m, err := f.find(ctx, c, f.Who)
	if err != nil {
		return err
	}
	for i := range Size {
		c.net.slow(m.index, i, f.Delay)
		c.net.slow(i, m.index, f.Delay)
	}
	return nil
}

// Heal ends the delay.
func (f *SlowMember) Heal(_ context.Context, c *Cluster) error { return f.rejoin(c) }

// ResetMember resets every connection between one member and the others, once.
type ResetMember struct {
	Who Who
	target
	ended int
}

func (f *ResetMember) String() string {
	return "reset connections between members at " + f.describe(f.Who)
}

// Apply resets the connections.
func (f *ResetMember) Apply(ctx context.Context, c *Cluster) error {
	m, err := f.find(ctx, c, f.Who)
	if err == nil {
		f.ended = c.net.reset(m.index)
	}
	return err
}

// Ended is how many exchanges Apply has reset.
func (f *ResetMember) Ended() int { return f.ended }

// Heal has nothing to take back.
func (f *ResetMember) Heal(context.Context, *Cluster) error { return nil }

// rejoin takes back what a fault did between its member and the others.
func (t *target) rejoin(c *Cluster) error {
	if !t.applied {
		return nil
	}
	c.partition(t.member, true, true, false)
	for i := range Size {
		c.net.slow(t.member, i, 0)
		c.net.slow(i, t.member, 0)
	}
	return nil
}

// partition blocks, or lets pass again, what a member hears of the others and
// what they hear of it.
func (c *Cluster) partition(member int, hears, heard, blocked bool) {
	for i := range Size {
		if i == member {
			continue
		}
		if hears {
			c.net.block(i, member, blocked)
		}
		if heard {
			c.net.block(member, i, blocked)
		}
	}
}
