package main

import (
	"context"
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

// Three controllers of one cluster. The leader is killed in a quarantine: the
// next one finishes it and does not begin it again. That one is killed in the
// middle of the removals: the last one finishes them, and none is done twice.
func TestProcess_KillTheLeader(t *testing.T) {
	t.Parallel()
	const volumes = 150 // more than two requests hold
	w := newWorld(t, state.Config{Quarantine: 6 * time.Second}, "node-1", "node-2")
	clock := w.clock()
	first := w.controller("--removal-rate", "50")
	w.leads(first)
	second, third := w.controller("--removal-rate", "50"), w.controller("--removal-rate", "50")

	ledger := w.open()
	east := w.as(ledger, "east", "")
	for i := range volumes {
		if _, err := east.Attach(t.Context(), state.AttachRequest{Volume: name("vol", i), Node: "node-2"}); err != nil {
			t.Fatal(err)
		}
	}
	w.gone(clock, "node-2")
	// A replica that is behind takes the departure back, and the quarantine
	// begins anew: no harm, and no part of this.
	for _, c := range []*child{first, second, third} {
		w.eventually("every replica misses the node", func(ctx context.Context) (bool, error) {
			value, _, err := c.metric(ctx, `holdfast_index_nodes{cluster="east",state="missing"}`)
			return value == "1", err
		})
	}
	var begun state.Quarantine
	w.eventually("quarantine begins", func(ctx context.Context) (bool, error) {
		all, err := collect(ledger.Quarantines(ctx, "east"))
		if len(all) == 1 {
			begun = all[0]
		}
		return len(all) == 1, err
	})
	first.kill()
	t.Logf("the leader is killed in the quarantine of revision %d", begun.ModRevision)

	remaining := func(ctx context.Context) (int, error) {
		holds, err := collect(ledger.Holds(ctx, state.HoldFilter{Cluster: "east"}))
		return len(holds), err
	}
	w.eventually("removals begin", func(ctx context.Context) (bool, error) {
		n, err := remaining(ctx)
		return n < volumes, err
	})
	leader, last := second, third
	if value, _, err := third.metric(t.Context(), `holdfast_leader{cluster="east"}`); err != nil {
		t.Fatal(err)
	} else if value == "1" {
		leader, last = third, second
	}
	leader.kill()
	left, err := remaining(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("its successor is killed with %d of %d removals to do", left, volumes)
	w.eventually("last one finishes", func(ctx context.Context) (bool, error) {
		n, err := remaining(ctx)
		return n == 0, err
	})
	w.leads(last)

	r := w.replay()
	if len(r.journaled) != volumes {
		t.Errorf("the journal has %d removals, want %d, one an orphan", len(r.journaled), volumes)
	}
	if left == 0 {
		t.Error("the successor had nothing left to remove when it was killed: expected it in the middle")
	}
	for _, e := range w.etcd.History(t, ledgerRoot+kindWaits+"/", 1) {
		if !e.Deleted && e.ModRevision > begun.ModRevision {
			t.Errorf("the quarantine was begun again at revision %d, after %d", e.ModRevision, begun.ModRevision)
		}
	}
	if r.ended[kindWaits] != 1 {
		t.Errorf("%d quarantines ended by themselves, want one", r.ended[kindWaits])
	}
}
