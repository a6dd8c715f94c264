package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/watch"
)

// Overview is what a leader would do in a cluster, and what stands in its way.
type Overview struct {
	Cluster string `json:"cluster"`
	// Obstacles are those of the whole cluster; every orphan has them too.
	Obstacles []Obstacle `json:"obstacles,omitempty"`
	// Pause and Frozen say more about two of them.
	Pause  *state.Pause  `json:"pause,omitempty"`
	Frozen *state.Freeze `json:"frozen,omitempty"`
	// Freezes are those of whoever noticed a restored etcd.
	Freezes []state.RestoreFreeze `json:"freezes,omitempty"`
	Brake   Verdict               `json:"brake"`
	// Nodes are those with orphans or a departure, by name.
	Nodes []NodePlan `json:"nodes,omitempty"`
}

// PlanOnce looks at both sources once and plans, as a leader would that has
// watched throughout. It neither leads nor writes: the ledger may be opened
// read-only. Of the Config it takes Cluster, Nodes, Brake, StaleAfter and Logger.
//
// It fails with watch.ErrNotSynced, saying which source and why, if one has not
// been loaded when ctx ends or if the Node list cannot be read.
func PlanOnce(ctx context.Context, cfg Config) (*Overview, error) {
	cfg.Watcher, cfg.Registerer, cfg.DryRun = nil, nil, true
	r, err := New(cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan error, 1)
	go func() { watched <- r.watcher.Run(ctx) }()
	out, err := r.overview(ctx)
	cancel()
	if ended := <-watched; err != nil && !errors.Is(ended, context.Canceled) && !errors.Is(ended, context.DeadlineExceeded) {
		err = ended // why there was no view
	}
	return out, err
}

func (r *Reconciler) overview(ctx context.Context) (*Overview, error) {
	if err := r.loaded(ctx, nil); err != nil {
		return nil, err
	}
	ledger, cluster := r.cfg.Cluster.Ledger(), r.cfg.Cluster.Name()
	b, now := newBrake(r.cfg.Brake), time.Now()
	for e, err := range ledger.Journal(ctx, cluster, time.Time{}) {
		if err != nil {
			return nil, fmt.Errorf("reading the journal, which the brake counts by: %w", err)
		}
		b.note(e, e.At) // shown, and no more: a leader asks etcd how old it is
	}
	c := r.watcher.Cluster()
	g := Gates{UID: r.cfg.Cluster.UID(), Leading: true, MatchNodeUID: r.ledger.MatchNodeUID}
	var nodes []watch.NodeView
	var replaced []string
	for _, name := range r.watcher.Suspects() {
		n := r.watcher.Node(name)
		n.ContinuousSince = 0 // how long the leader has watched is not known here
		found := orphans(n, g)
		if slices.ContainsFunc(found, func(o Orphan) bool { return o.Reason == state.NodeReplaced }) {
			replaced = append(replaced, name)
		}
		if err := inGrace(ctx, ledger, &n, found); err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	out := &Overview{Cluster: cluster, Obstacles: shutGates(c, g), Pause: c.Pause, Frozen: c.Frozen(), Freezes: c.Freezes}
	out.Brake = b.verdict(now, r.census(c, replaced))
	g.Braked = out.Brake.Engaged
	for _, n := range nodes {
		out.Nodes = append(out.Nodes, Plan(c, n, g))
	}
	return out, nil
}

// inGrace looks for the detachments that hold orphans back.
func inGrace(ctx context.Context, ledger *state.Ledger, n *watch.NodeView, orphans []Orphan) error {
	n.InGrace = make(map[string]bool)
	for _, o := range orphans {
		a := o.Attachment
		for d, err := range ledger.Detachments(ctx, a.Volume) {
			if err != nil {
				return fmt.Errorf("looking for a grace of volume %q: %w", a.Volume, err)
			}
			if d.Cluster == a.Cluster && d.Node == a.Node {
				n.InGrace[a.Volume] = true
			}
		}
	}
	return nil
}
