package reconcile

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-multierror"

	"github.com/holdfast-storage/holdfast/failpoint"
	"github.com/holdfast-storage/holdfast/state"
)

var (
	// errFence: the fencer did not succeed.
	errFence = errors.New("fencing failed")
	// errLive: the live check gave no definite answer, so the node counts as present.
	errLive = errors.New("the live check gave no answer")
)

// fencersAtOnce bounds the fencer's calls, of all nodes.
const fencersAtOnce = 32

// nodeRemoval is the removal of one node's orphans, from the judgement on.
type nodeRemoval struct {
	*run
	term *term
	node string
	put  *state.Departure // see look
	live proof
	// tried are the volumes that had their turn: what was removed may stand in
	// the index for a moment yet.
	tried map[string]bool
	// more: there were more orphans than a batch takes.
	more  bool
	ended int
	moved bool
}

// remove removes what nothing stands in the way of, a batch at a time: it
// fences, looks again, checks live, and sends. It goes on past orphans that
// fail, and returns their errors, gathered.
func (r *run) remove(ctx context.Context, t *term, node string, put *state.Departure) error {
	n := &nodeRemoval{run: r, term: t, node: node, put: put, tried: map[string]bool{}}
	defer func() {
		// What was found out on the way, a grace above all, shows in the gauges. Where
		// all were removed the node is judged again as soon as that is in view.
		if n.ended < len(n.tried) {
			r.tally.note(r.look(t, node, put))
		}
	}()
	var errs *multierror.Error
	for n.more = true; n.more; {
		picked := time.Now()
		p, batch := n.pick()
		if len(batch) == 0 {
			break
		}
		if r.cfg.DryRun {
			r.log.Info("dry run: would remove orphans", "node", node, "reason", p.Departure.Reason, "orphans", len(batch), "first", batch[0].Attachment.Volume)
			continue
		}
		if err := r.limiter.WaitN(ctx, len(batch)); err != nil {
			return err
		}
		failpoint.Reach(ctx, failpoint.Judged)
		ready, err := n.fence(ctx, batch, *p.Departure)
		if err != nil {
			errs = multierror.Append(errs, err)
		}
		if n.cfg.Fencer != nil || time.Since(picked) > momentary {
			ready = n.still(ready, *p.Departure)
		}
		if len(ready) == 0 {
			continue
		}
		failpoint.Reach(ctx, failpoint.BeforeLiveCheck)
		if ready, err = n.check(ctx, ready); err != nil {
			return gathered(multierror.Append(errs, err))
		}
		failpoint.Reach(ctx, failpoint.BeforeRemove)
		if err := n.send(ctx, ready, *p.Departure); err != nil {
			return gathered(multierror.Append(errs, err))
		}
	}
	if errs == nil && n.moved {
		return errMoved
	}
	return gathered(errs)
}

// pick takes the next batch.
func (n *nodeRemoval) pick() (NodePlan, []Orphan) {
	p := n.look(n.term, n.node, n.put)
	var batch []Orphan
	n.more = false
	for _, o := range p.Removable() {
		switch {
		case n.tried[o.Attachment.Volume]:
		case len(batch) == n.batch:
			n.more = true
			return p, batch
		default:
			n.tried[o.Attachment.Volume] = true
			batch = append(batch, o)
		}
	}
	return p, batch
}

// momentary is how old a look may be that needs no other: far less than the live
// check that follows it takes, or may.
const momentary = 5 * time.Millisecond

// still looks again, for limiter and fencer may have taken their time, and
// keeps the orphans that may be removed all the same.
func (n *nodeRemoval) still(batch []Orphan, d state.Departure) []Orphan {
	p := n.look(n.term, n.node, n.put)
	now := make(map[string]Orphan)
	if p.Departure != nil && p.Departure.ModRevision == d.ModRevision {
		for _, o := range p.Removable() {
			now[o.Attachment.Volume] = o
		}
	}
	kept := batch[:0:0]
	for _, o := range batch {
		if same, ok := now[o.Attachment.Volume]; ok && same.Attachment.ModRevision == o.Attachment.ModRevision {
			kept = append(kept, o)
		}
	}
	return kept
}

// fence cuts the node off from the volumes of a batch, and returns those where
// that succeeded. A volume in its grace is left for when that is over.
func (n *nodeRemoval) fence(ctx context.Context, batch []Orphan, d state.Departure) ([]Orphan, error) {
	if n.cfg.Fencer == nil {
		return batch, nil
	}
	var (
		mu     sync.Mutex
		errs   *multierror.Error
		joined sync.WaitGroup
		done   = make([]bool, len(batch))
	)
	for i, o := range batch {
		n.fencers <- struct{}{}
		joined.Go(func() {
			defer func() { <-n.fencers }()
			ok, err := n.fenceOne(ctx, o, d)
			mu.Lock()
			defer mu.Unlock()
			if done[i] = ok; err != nil {
				errs = multierror.Append(errs, err)
			}
		})
	}
	joined.Wait()
	var fenced []Orphan
	for i, o := range batch {
		if done[i] {
			fenced = append(fenced, o)
		}
	}
	return fenced, gathered(errs)
}

func (n *nodeRemoval) fenceOne(ctx context.Context, o Orphan, d state.Departure) (bool, error) {
	a := o.Attachment
	for g, err := range n.cfg.Cluster.Ledger().Detachments(ctx, a.Volume) {
		if err != nil {
			return false, fmt.Errorf("looking for a grace of volume %q: %w", a.Volume, err)
		}
		if g.Cluster == a.Cluster && g.Node == a.Node {
			n.watcher.WatchGrace(a.Node, a.Volume)
			return false, nil
		}
	}
	if err := n.cfg.Fencer.Fence(ctx, fencing(o, d)); err != nil {
		n.metrics.fences.WithLabelValues(resultError).Inc()
		return false, fmt.Errorf("%w: %w", errFence, err)
	}
	n.metrics.fences.WithLabelValues(resultOK).Inc()
	return true, nil
}

// check keeps the orphans whose reason a live check confirms. One that has most
// of its time before it serves again.
func (n *nodeRemoval) check(ctx context.Context, batch []Orphan) ([]Orphan, error) {
	if n.live.began.IsZero() || time.Since(n.live.began) > n.good/2 {
		found, err := prove(ctx, n.cfg.Nodes, n.node, n.good)
		if err != nil {
			n.metrics.live.WithLabelValues(resultError).Inc()
			return nil, fmt.Errorf("%w: %w", errLive, err)
		}
		n.live = found
		result := liveConfirmed
		if !found.confirms(batch[0], n.ledger.MatchNodeUID) {
			result = liveContradicted
		}
		n.metrics.live.WithLabelValues(result).Inc()
	}
	kept := batch[:0:0]
	for _, o := range batch {
		if n.live.confirms(o, n.ledger.MatchNodeUID) {
			kept = append(kept, o)
		}
	}
	if len(kept) < len(batch) {
		n.moved = true
		n.log.Info("live check contradicts the Node list; nothing is removed", "node", n.node, "reason", batch[0].Reason, "found", n.live.String())
	}
	return kept, nil
}

// send removes a batch, for as long as the live check is good.
func (n *nodeRemoval) send(ctx context.Context, batch []Orphan, d state.Departure) error {
	if len(batch) == 0 {
		return nil
	}
	ctx, cancel := context.WithDeadline(ctx, n.live.deadline(n.good))
	defer cancel()
	orphans := make([]state.Orphan, len(batch))
	for i, o := range batch {
		orphans[i] = state.Orphan{Attachment: o.Attachment, Departure: d, Evidence: state.Evidence{
			NodeUID: o.Attachment.NodeUID, LiveCheckedAt: n.live.began.UTC(), Fenced: n.cfg.Fencer != nil,
		}}
	}
	sent := n.term.brake.removing(n.node, d)
	results, err := n.term.lead.Remove(ctx, orphans)
	ended, failed := 0, len(batch)
	if results != nil {
		failpoint.Reach(ctx, failpoint.Removed)
		ended, failed = n.take(results, batch, d)
		n.ended += ended
	}
	unknown := errors.Is(err, state.ErrUnknownOutcome)
	sent(ended > 0 || unknown)
	if err == nil {
		return nil
	}
	result := resultError
	if unknown {
		result = resultUnknown
	}
	if errors.Is(err, state.ErrRestored) && n.term.witness != nil {
		n.term.witness.look()
	}
	n.metrics.removals.WithLabelValues(string(d.Reason), result).Add(float64(failed))
	return fmt.Errorf("removing %d orphans: %w", failed, err)
}

// take counts what came of a batch, and says how many ended, and of how many that
// could not be told.
func (n *nodeRemoval) take(results []state.EndResult, batch []Orphan, d state.Departure) (ended, failed int) {
	refused := map[string]int{}
	for i, res := range results {
		switch {
		case res.Ended:
			ended++
			gone := batch[i].Attachment
			n.report(func(to Reporter) { to.OrphanRemoved(gone, d) })
			continue
		case res.Err != nil:
			failed++
			continue
		}
		refused[res.Refused]++
		if res.Refused == state.RefusedGrace {
			n.watcher.WatchGrace(n.node, res.Volume) // its end asks again
		} else {
			n.moved = true
		}
	}
	n.metrics.removals.WithLabelValues(string(d.Reason), resultOK).Add(float64(ended))
	n.metrics.removals.WithLabelValues(string(d.Reason), resultRefused).Add(float64(len(results) - ended - failed))
	if ended > 0 {
		latency := n.metrics.latency.WithLabelValues(string(d.Reason))
		for range ended {
			latency.Observe(max(0, time.Since(d.Since).Seconds()))
		}
	}
	n.log.Info("removal answered", "node", n.node, "reason", d.Reason, "removed", ended, "refused", refused, "first", results[0].Volume)
	return ended, failed
}
