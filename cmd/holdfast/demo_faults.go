package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

// brakeMetric is what the controller raises the alarm with.
const brakeMetric = `holdfast_brake_engaged{cluster="east"}`

func actKill(ctx context.Context, d *demo) error {
	if _, err := d.attach(ctx, d.east, "vol-2", "node-1"); err != nil {
		return err
	}
	began := time.Now()
	ended, err := d.detach(ctx, "vol-2", "node-1")
	if err != nil {
		return err
	}
	middle := func(ctx context.Context) (bool, error) {
		left, err := d.ledger.TimeLeft(ctx, ended.Lease)
		return left < demoGrace-time.Second, err
	}
	if err := d.countdown(ctx, "the grace of vol-2", ended.Lease, middle); err != nil {
		return err
	}
	pid := d.controller.pid()
	d.controller.kill()
	d.out.event(0, "kill -9 %d: the controller is gone", pid)
	if err := d.startController(ctx); err != nil {
		return err
	}
	v, err := d.ledger.Volume(ctx, "vol-2")
	if err != nil {
		return err
	}
	if v.InGrace() && v.Detachments[0].ModRevision == ended.ModRevision {
		d.out.checked("the grace is the one it was, of revision %d", ended.ModRevision)
	}
	err = d.countdown(ctx, "the grace of vol-2", ended.Lease, func(ctx context.Context) (bool, error) {
		v, err := d.ledger.Volume(ctx, "vol-2")
		if err != nil || !v.InGrace() {
			return err == nil, err
		}
		if v.Detachments[0].ModRevision != ended.ModRevision {
			return false, fmt.Errorf("the detachment was put again at revision %d: expected it to be left alone", v.Detachments[0].ModRevision)
		}
		return false, nil
	})
	if err != nil {
		return err
	}
	if waited := time.Since(began); waited < demoGrace {
		return fmt.Errorf("the grace ended after %v: expected %v at least", waited, demoGrace)
	}
	d.out.event(d.at(ctx), "etcd has deleted it, %.1f s after the detach: %v and never less", time.Since(began).Seconds(), demoGrace)
	hold, err := d.attach(ctx, d.west, "vol-2", "node-9")
	if err != nil {
		return err
	}
	if _, err = d.heldBy(ctx, hold); err == nil {
		d.out.checked("now the other cluster may have it")
	}
	return err
}

func actLoseNode(ctx context.Context, d *demo) error {
	lost, err := d.oneHold(ctx, "vol-1", "node-3")
	if err != nil {
		return err
	}
	if err := d.nodes.write("node-1", "node-2", "node-4"); err != nil {
		return err
	}
	d.out.event(0, "the node file says %s: node-3, which holds vol-1, is gone", d.nodes)
	departed := time.Now()
	departure, err := d.departure(ctx, "node-3")
	if err != nil {
		return err
	}
	d.out.event(departure.ModRevision, "the controller puts departures/east/node-3 (%s) and its quarantine", departure.Reason)
	quarantine, err := d.quarantine(ctx, "node-3")
	if err != nil {
		return err
	}
	if quarantine == nil {
		return errors.New("there is no quarantine beside the departure")
	}
	if _, err := d.heldBy(ctx, lost); err != nil {
		return err
	}
	d.out.checked("quarantines/east/node-3 is there, and vol-1 is still held")

	err = d.countdown(ctx, "the quarantine", quarantine.Lease, func(ctx context.Context) (bool, error) {
		q, err := d.quarantine(ctx, "node-3")
		return err == nil && q == nil, err
	})
	if err != nil {
		return err
	}
	return d.removed(ctx, lost, departed)
}

// removed waits until a lost node's hold is removed, and reads what is left of it.
func (d *demo) removed(ctx context.Context, lost state.Hold, departed time.Time) error {
	var v *state.Volume
	err := until(ctx, demoPatience, "vol-1 is removed from the node that is gone", func(ctx context.Context) (bool, error) {
		var err error
		v, err = d.ledger.Volume(ctx, lost.Volume)
		return err == nil && len(v.Holds) == 0, err
	})
	if err != nil {
		return err
	}
	if waited := time.Since(departed); waited < demoQuarantine {
		return fmt.Errorf("the removal came after %v: expected a quarantine of %v before it", waited, demoQuarantine)
	}
	entries, err := d.removals(ctx)
	if err != nil {
		return err
	}
	if len(entries) != 1 || entries[0].Volume != lost.Volume || entries[0].Node != lost.Node || entries[0].Token != lost.Token {
		return fmt.Errorf("the journal has %d removals: expected one, of vol-1 from node-3", len(entries))
	}
	d.out.event(entries[0].ModRevision, "the controller removes vol-1 from node-3, %.1f s after the node left", time.Since(departed).Seconds())
	d.out.checked("no hold is left, and the journal says why:")
	text, err := json.MarshalIndent(entries[0], "  ", "  ")
	if err != nil {
		return fmt.Errorf("printing the journal's entry: %w", err)
	}
	d.out.detail("  " + string(text))
	return nil
}

func actBrake(ctx context.Context, d *demo) error {
	nodes := []string{"node-1", "node-2"}
	var holds []state.Hold
	for i, node := range nodes {
		hold, err := d.attach(ctx, d.east, fmt.Sprintf("vol-%d", i+3), node)
		if err != nil {
			return err
		}
		holds = append(holds, hold)
	}
	if err := d.nodes.write(); err != nil {
		return err
	}
	d.out.event(0, "the node file says: no nodes at all")
	for _, node := range nodes {
		if _, err := d.departure(ctx, node); err != nil {
			return err
		}
	}
	d.out.event(d.at(ctx), "the controller puts a departure and a quarantine for node-1 and node-2")
	err := until(ctx, demoPatience, "both quarantines end", func(ctx context.Context) (bool, error) {
		for _, node := range nodes {
			if q, err := d.quarantine(ctx, node); q != nil || err != nil {
				return false, err
			}
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	d.out.event(d.at(ctx), "etcd has deleted the quarantines: nothing else stands in the way, but the brake")
	if err := d.braked(ctx, true); err != nil {
		return err
	}
	d.out.checked("the controller's alarm: %s 1", brakeMetric)
	if err := d.nothingRemoved(ctx, holds); err != nil {
		return err
	}
	if err := d.nodes.write("node-1", "node-2", "node-3", "node-4"); err != nil {
		return err
	}
	d.out.event(0, "the node file says %s again", d.nodes)
	err = until(ctx, demoPatience, "the departures are withdrawn", func(ctx context.Context) (bool, error) {
		left, err := collect(d.ledger.Departures(ctx, "east"))
		return err == nil && len(left) == 0, err
	})
	if err != nil {
		return err
	}
	if err := d.braked(ctx, false); err != nil {
		return err
	}
	d.out.event(d.at(ctx), "the controller withdraws the departures, and lets go of the brake")
	return d.nothingRemoved(ctx, holds)
}

// braked waits until the controller says that its brake is on, or off.
func (d *demo) braked(ctx context.Context, want bool) error {
	value := map[bool]string{true: "1", false: "0"}[want]
	return until(ctx, demoPatience, brakeMetric+" is "+value, func(ctx context.Context) (bool, error) {
		got, _, err := d.controller.metric(ctx, brakeMetric)
		return got == value, err
	})
}

// nothingRemoved finds the holds as they were, and no new removal in the journal.
func (d *demo) nothingRemoved(ctx context.Context, holds []state.Hold) error {
	for _, h := range holds {
		if _, err := d.heldBy(ctx, h); err != nil {
			return err
		}
	}
	entries, err := d.removals(ctx)
	if err != nil {
		return err
	}
	if len(entries) != 1 {
		return fmt.Errorf("the journal has %d removals: expected no more than the one of before", len(entries))
	}
	d.out.checked("vol-3 and vol-4 are held as before, and the journal has nothing new")
	return nil
}

// departure waits for a node's departure.
func (d *demo) departure(ctx context.Context, node string) (state.Departure, error) {
	var found state.Departure
	err := until(ctx, demoPatience, "the controller puts the departure of "+node, func(ctx context.Context) (bool, error) {
		all, err := collect(d.ledger.Departures(ctx, "east"))
		for _, departure := range all {
			if departure.Node == node {
				found = departure
				return true, nil
			}
		}
		return false, err
	})
	return found, err
}

// quarantine reads a node's quarantine, nil if there is none.
func (d *demo) quarantine(ctx context.Context, node string) (*state.Quarantine, error) {
	all, err := collect(d.ledger.Quarantines(ctx, "east"))
	for _, q := range all {
		if q.Node == node {
			return &q, nil
		}
	}
	return nil, err
}

// removals reads the removals in east's journal.
func (d *demo) removals(ctx context.Context) ([]state.Entry, error) {
	all, err := collect(d.ledger.Journal(ctx, "east", time.Time{}))
	var removed []state.Entry
	for _, e := range all {
		if e.Action == state.ActionRemoved {
			removed = append(removed, e)
		}
	}
	return removed, err
}

// collect reads a list to its end.
func collect[T any](list iter.Seq2[T, error]) ([]T, error) {
	var all []T
	for one, err := range list {
		if err != nil {
			return all, err
		}
		all = append(all, one)
	}
	return all, nil
}
