package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

// Each act does one thing, and then reads in etcd whether it is so.

func actAttach(ctx context.Context, d *demo) error {
	hold, err := d.attach(ctx, d.east, "vol-1", "node-1")
	if err != nil {
		return err
	}
	v, err := d.heldBy(ctx, hold)
	if err != nil {
		return err
	}
	left, err := d.ledger.TimeLeft(ctx, v.Attachments[0].Lease)
	if err != nil {
		return err
	}
	d.out.checked("holds/vol-1/x/east/node-1 has no lease: it stays. Its token is %s", hold.Token)
	d.out.checked("attachments/east/node-1/vol-1 has %v left, and the controller keeps it alive", left)
	return nil
}

func actConflict(ctx context.Context, d *demo) error {
	before, err := d.ledger.Volume(ctx, "vol-1")
	if err != nil {
		return err
	}
	for _, c := range []*state.Cluster{d.east, d.west} {
		_, err := c.Attach(ctx, state.AttachRequest{Volume: "vol-1", Node: "node-2"})
		var conflict *state.ConflictError
		if !errors.As(err, &conflict) {
			return fmt.Errorf("an attach of vol-1 to %s/node-2 got %s: expected a conflict", c.Name(), outcome(err))
		}
		d.out.event(conflict.Revision, "%s attaches vol-1 to its node-2", c.Name())
		d.out.refused("%s", conflict)
	}
	_, err = d.heldBy(ctx, before.Holds...)
	if err == nil {
		d.out.checked("the hold is what it was")
	}
	return err
}

func actDetach(ctx context.Context, d *demo) error {
	ended, err := d.detach(ctx, "vol-1", "node-1")
	if err != nil {
		return err
	}
	left, err := d.ledger.TimeLeft(ctx, ended.Lease)
	if err != nil {
		return err
	}
	d.out.checked("detachments/vol-1/x/east/node-1 is under lease %s, %v left", ended.Lease, left)

	_, err = d.west.Attach(ctx, state.AttachRequest{Volume: "vol-1", Node: "node-1"})
	var grace *state.GraceError
	if !errors.As(err, &grace) {
		return fmt.Errorf("an attach by west within the grace got %s: expected to be told of the grace", outcome(err))
	}
	d.out.event(grace.Revision, "west attaches vol-1 to its node-1")
	d.out.refused("%s", grace)
	return nil
}

func actHandOver(ctx context.Context, d *demo) error {
	before, err := d.ledger.Volume(ctx, "vol-1")
	if err != nil {
		return err
	}
	if len(before.Detachments) != 1 {
		return fmt.Errorf("vol-1 has %d detachments: expected to be still in its grace", len(before.Detachments))
	}
	hold, err := d.attach(ctx, d.east, "vol-1", "node-2")
	if err != nil {
		return err
	}
	if _, err := d.heldBy(ctx, hold); err != nil {
		return err
	}
	old := before.Detachments[0]
	if since := hold.Since.Sub(old.At); since >= demoGrace {
		return fmt.Errorf("the hand-over took %v: expected it within the grace of %v", since, demoGrace)
	}
	d.out.checked("holds/vol-1/x/east/node-2, %d ms after the detach; storage that knows token %s turns node-1 away",
		hold.Since.Sub(old.At).Milliseconds(), hold.Token)
	return nil
}

func actMigrate(ctx context.Context, d *demo) error {
	m, err := d.east.Migrate(ctx, state.MigrateRequest{
		Volume: "vol-1", Source: "node-2", Target: state.Place{Node: "node-3"},
	})
	if err != nil {
		return err
	}
	d.out.event(m.Revision, "east migrates vol-1 from node-2 to node-3")
	v, err := d.ledger.Volume(ctx, "vol-1")
	if err != nil {
		return err
	}
	if v.State != state.StateMigrating || len(v.Holds) != 2 || v.Migration == nil {
		return fmt.Errorf("vol-1 is %s with %d holds: expected two, and an open window", v.State, len(v.Holds))
	}
	left, err := d.ledger.TimeLeft(ctx, v.Migration.Lease)
	if err != nil {
		return err
	}
	d.out.checked("two holds, and migrations/vol-1, which has %v left", left)

	_, err = d.east.Attach(ctx, state.AttachRequest{Volume: "vol-1", Node: "node-4"})
	if !errors.Is(err, state.ErrConflict) {
		return fmt.Errorf("a third attach got %s: expected a conflict", outcome(err))
	}
	d.out.refused("a third node gets nothing")

	if err := d.east.Commit(ctx, m); err != nil {
		return err
	}
	target, err := d.oneHold(ctx, "vol-1", "node-3")
	if err != nil {
		return err
	}
	if target.Token != m.TargetToken {
		return fmt.Errorf("node-3 holds vol-1 under token %s: expected the migration's %s", target.Token, m.TargetToken)
	}
	d.out.event(d.at(ctx), "the migration is committed")
	d.out.checked("node-3 alone holds vol-1")
	return nil
}

// outcome names what came of a call that should have been refused otherwise.
func outcome(err error) string {
	if err == nil {
		return "what it asked for"
	}
	return "another error, " + err.Error()
}

// attach is one that should succeed.
func (d *demo) attach(ctx context.Context, c *state.Cluster, volume, node string) (state.Hold, error) {
	hold, err := c.Attach(ctx, state.AttachRequest{Volume: volume, Node: node})
	if err != nil {
		return hold, err
	}
	d.out.event(hold.Revision, "%s attaches %s to its %s", c.Name(), volume, node)
	return hold, nil
}

// detach ends a hold of east, and finds the detachment that is left in etcd.
func (d *demo) detach(ctx context.Context, volume, node string) (state.Detachment, error) {
	ended, err := d.east.Detach(ctx, state.DetachRequest{Volume: volume, Node: node})
	if err != nil {
		return state.Detachment{}, err
	}
	d.out.event(ended.Detachment.ModRevision, "east detaches %s from its %s", volume, node)
	v, err := d.ledger.Volume(ctx, volume)
	if err != nil {
		return state.Detachment{}, err
	}
	for _, found := range v.Detachments {
		if found.Node == node && found.ModRevision == ended.Detachment.ModRevision && len(v.Holds) == 0 {
			return found, nil
		}
	}
	return state.Detachment{}, fmt.Errorf("%s is %s with %d holds and %d detachments: expected no hold, and a detachment of %s",
		volume, v.State, len(v.Holds), len(v.Detachments), node)
}

// heldBy reads a volume and finds exactly these holds, stood by.
func (d *demo) heldBy(ctx context.Context, holds ...state.Hold) (*state.Volume, error) {
	if len(holds) == 0 {
		return nil, errors.New("no hold to look for")
	}
	v, err := d.ledger.Volume(ctx, holds[0].Volume)
	if err != nil {
		return nil, err
	}
	if len(v.Holds) != len(holds) || len(v.Attachments) != len(holds) {
		return nil, fmt.Errorf("%s is %s with %d holds and %d attachments: expected %d of each",
			v.Name, v.State, len(v.Holds), len(v.Attachments), len(holds))
	}
	for i, h := range v.Holds {
		if h.Place() != holds[i].Place() || h.Token != holds[i].Token {
			return nil, fmt.Errorf("%s is held by %s under token %s: expected %s under %s",
				v.Name, h.Place(), h.Token, holds[i].Place(), holds[i].Token)
		}
	}
	return v, nil
}

// oneHold reads a volume and finds that a node of east alone holds it.
func (d *demo) oneHold(ctx context.Context, volume, node string) (state.Hold, error) {
	v, err := d.ledger.Volume(ctx, volume)
	if err != nil {
		return state.Hold{}, err
	}
	if len(v.Holds) != 1 || v.Holds[0].Place() != (state.Place{Cluster: "east", Node: node}) {
		return state.Hold{}, fmt.Errorf("%s is %s with %d holds: expected node %s alone", volume, v.State, len(v.Holds), node)
	}
	return v.Holds[0], nil
}

// at is etcd's revision, 0 where it cannot be read: the next check will say why.
func (d *demo) at(ctx context.Context) int64 {
	revision, err := d.ledger.Revision(ctx)
	if err != nil {
		return 0
	}
	return revision
}

// countdown prints what is left of a lease, each time that etcd names another
// number, until gone says that what was under it is no longer there.
func (d *demo) countdown(ctx context.Context, what string, lease state.LeaseID, gone func(context.Context) (bool, error)) error {
	shown := time.Duration(-1)
	return until(ctx, demoPatience, what+" ends", func(ctx context.Context) (bool, error) {
		over, err := gone(ctx)
		if over || err != nil {
			return over, err
		}
		left, err := d.ledger.TimeLeft(ctx, lease)
		if err != nil || left == shown {
			return false, err
		}
		shown = left
		if left > 0 {
			d.out.event(0, "%s: %v left", what, left)
		}
		return false, nil
	})
}
