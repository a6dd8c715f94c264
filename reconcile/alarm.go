package reconcile

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-storage/holdfast/watch"
)

// What a leader does about its brake. How the brake counts is in brake.go.

// releaseRetry is the pause after a release of the brake that failed.
const releaseRetry = 10 * time.Second

// releasedBy is the By of a release that the brake wrote itself.
const releasedBy = "brake-release"

// braked asks the brake. A view that cannot be relied on is no reason for
// another answer than the last.
func (t *term) braked(c watch.ClusterView) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.Sources.Check() != nil {
		return t.verdict.Engaged
	}
	now, before := time.Now(), t.verdict
	t.verdict = t.brake.verdict(now, t.run.census(c, t.run.tally.replaced()))
	if is := t.verdict.Engaged; is != before.Engaged {
		t.change(now, is)
	}
	if t.verdict != before {
		t.wake() // to reckon anew when to look again
	}
	return t.verdict.Engaged
}

// change raises the alarm, or ends it. The caller has the lock.
func (t *term) change(now time.Time, engaged bool) {
	verdict := t.verdict.String()
	t.run.report(func(to Reporter) { to.Brake(engaged, verdict) })
	if engaged {
		t.engaged = now
		t.run.metrics.brake.Set(1)
		t.run.log.Error("the brake stops removals: too many nodes are missing; they have to come back, or an operator says 'holdfast resume CLUSTER --brake --reason …'", "verdict", verdict)
	} else {
		t.engaged = time.Time{}
		t.run.metrics.brake.Set(0)
		t.run.log.Info("the brake lets removals go on", "verdict", verdict)
		t.run.watcher.Rejoin()
	}
}

// isEngaged is the brake's last verdict.
func (t *term) isEngaged() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.verdict.Engaged
}

// mind looks after the brake for as long as ctx lasts: it asks again when a
// removed node leaves the window, and lets go by itself where that is
// configured. It ends the term of a leader that has long been blind.
func (t *term) mind(ctx context.Context) {
	aside := time.NewTicker(t.run.aside / 6)
	defer aside.Stop()
	blind := time.Time{}
	for {
		timer := time.NewTimer(t.nextLook())
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-t.poke:
		case <-aside.C:
			blind = t.blindSince(blind)
			if !blind.IsZero() && time.Since(blind) >= t.run.aside && t.lead != nil {
				t.run.log.Warn("giving up the lead: the sources cannot be relied on", "error", t.run.watcher.Sources().Check())
				timer.Stop()
				return
			}
		}
		timer.Stop()
		if t.braked(t.run.watcher.Cluster()) {
			t.releaseWhenDue(ctx)
		}
	}
}

func (t *term) blindSince(before time.Time) time.Time {
	switch {
	case t.run.watcher.Sources().Check() == nil:
		return time.Time{}
	case before.IsZero():
		return time.Now()
	}
	return before
}

// nextLook is when an engaged brake may change its mind without an event.
func (t *term) nextLook() time.Duration {
	const never = 24 * time.Hour
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.engaged.IsZero() {
		return never
	}
	next := never
	const soonest = 100 * time.Millisecond // what is due but cannot be judged now must not spin
	if !t.verdict.Until.IsZero() {
		next = max(0, time.Until(t.verdict.Until))
	}
	if release := t.run.cfg.Brake.Release; release > 0 && !t.verdict.NoNodes {
		next = min(next, max(0, time.Until(t.engaged.Add(release))))
	}
	return max(next, soonest)
}

// releaseWhenDue writes the release that --brake-release promises.
func (t *term) releaseWhenDue(ctx context.Context) {
	release := t.run.cfg.Brake.Release
	t.mu.Lock()
	due := release > 0 && !t.engaged.IsZero() && time.Since(t.engaged) >= release && !t.verdict.NoNodes
	if due {
		// Where the release does not let go, the next is as far away again;
		// where it cannot be written, it is tried sooner.
		t.engaged = time.Now()
	}
	t.mu.Unlock()
	if !due || t.lead == nil {
		return
	}
	cluster := t.run.cfg.Cluster
	entry, err := cluster.Ledger().ReleaseBrake(ctx, cluster.Name(), releasedBy, fmt.Sprintf("engaged for %s", release))
	if err != nil {
		t.run.log.Warn("the brake could not be released; trying again", "error", err)
		t.mu.Lock()
		defer t.mu.Unlock()
		if !t.engaged.IsZero() {
			t.engaged = time.Now().Add(min(0, releaseRetry-release))
		}
		return
	}
	t.brake.note(entry, time.Now())
	t.run.log.Warn("the brake was engaged for as long as it may, and is released", "after", release, "revision", entry.ModRevision)
	t.wake()
}

// census counts what the brake asks about. replaced are the nodes whose names
// are other machines' now.
func (r *Reconciler) census(c watch.ClusterView, replaced []string) census {
	return census{
		nodes: c.Nodes, withAttachments: c.WithAttachments, missing: union(c.Missing, replaced),
		departure: func(node string) int64 {
			d, _ := r.watcher.Departure(node)
			return d.ModRevision
		},
		standing: r.watcher.Attached,
	}
}

// union is sorted and has each name once.
func union(sorted, more []string) []string {
	if len(more) == 0 {
		return sorted
	}
	all := slices.Concat(sorted, more)
	slices.Sort(all)
	return slices.Compact(all)
}
