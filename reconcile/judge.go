package reconcile

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/holdfast-storage/holdfast/failpoint"
	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/watch"
)

// errMoved: what a judgement relied on has changed. It is no failure; the node
// is judged anew.
var errMoved = errors.New("what it was judged by has changed")

// laterError: a step is put off.
type laterError struct {
	after time.Duration
	why   string
}

func (e laterError) Error() string { return fmt.Sprintf("put off for %s: %s", e.after, e.why) }

// judge decides about one node and takes the next step. Every replica returns
// nodes; only the leader does anything more.
func (r *run) judge(ctx context.Context, name string) error {
	t := r.term.Load()
	p := r.look(t, name, nil)
	r.tally.note(p)
	r.metrics.judgements.WithLabelValues(string(p.Next)).Inc()
	if len(p.Orphans) == 0 {
		r.damper.forget(name)
	}
	switch p.Next {
	case StepReturn:
		return r.giveBack(ctx, p)
	case StepDepart:
		d, waits, err := r.depart(ctx, t, p)
		if err != nil || waits {
			return err
		}
		return r.stepDown(t, r.remove(ctx, t, name, d))
	case StepRemove:
		return r.stepDown(t, r.remove(ctx, t, name, nil))
	case StepWait:
		return r.waitOn(t, name)
	}
	return nil
}

// waitOn has a node looked at again whose quarantine has ended too early: etcd
// has nothing more to say about it.
func (r *run) waitOn(t *term, name string) error {
	n := r.watcher.Node(name)
	left := unwaited(n, r.ledger.Quarantine, time.Now())
	if t == nil || n.Quarantined || left <= 0 {
		return nil
	}
	r.log.Info("the quarantine ended before its time; waiting on", "node", name, "departure", n.Departure.ModRevision, "left", left)
	return laterError{after: left, why: "its quarantine ended before its time"}
}

// unwaited is how much of a departure's quarantine has not passed on this
// process's own clock since it saw the departure. One that etcd ends earlier is no
// wait: an etcd that stood still takes the put on a lease that is over already, and
// whoever would have noticed may have been killed before the answer.
func unwaited(n watch.NodeView, quarantine time.Duration, now time.Time) time.Duration {
	if n.Departure == nil || n.Departure.Reason == state.OutOfService || quarantine <= 0 {
		return 0
	}
	return max(0, quarantine-now.Sub(n.DepartureSeen))
}

// look plans for one node by what is known just now. put is a departure without
// a quarantine that this process has put itself and need not wait to see.
func (r *run) look(t *term, name string, put *state.Departure) NodePlan {
	c, n := r.watcher.Cluster(), r.watcher.Node(name)
	if put != nil && (n.Departure == nil || n.Departure.ModRevision < put.ModRevision) {
		n.Departure, n.Quarantined = put, false
	} else if unwaited(n, r.ledger.Quarantine, time.Now()) > 0 {
		n.Quarantined = true
	}
	g := Gates{UID: r.cfg.Cluster.UID(), Leading: t != nil && t == r.term.Load(), MatchNodeUID: r.ledger.MatchNodeUID}
	g.Unwitnessed = t != nil && t.witness != nil && !t.witness.proven.Load()
	if t != nil && (len(n.Attachments) > 0 || t.isEngaged()) {
		g.Braked = t.braked(c)
	}
	return Plan(c, n, g)
}

// giveBack deletes a departure that the Node list contradicts, or that nothing
// needs any more.
func (r *run) giveBack(ctx context.Context, p NodePlan) error {
	why, action := "nothing is attached to it any more", departureWithdrawn
	if p.Returned {
		why, action = "the Node list contradicts it", departureReturned
	}
	log := r.log.With("node", p.Node, "reason", p.Departure.Reason, "why", why)
	if r.cfg.DryRun {
		log.Info("dry run: would delete the departure")
		return nil
	}
	err := r.cfg.Cluster.Return(ctx, *p.Departure)
	if errors.Is(err, state.ErrConflict) {
		return fmt.Errorf("%w: %w", errMoved, err)
	}
	if err != nil {
		return fmt.Errorf("deleting the departure of node %s: %w", p.Node, err)
	}
	r.metrics.departures.WithLabelValues(action).Inc()
	log.Info("departure deleted", "revision", p.Departure.ModRevision)
	return nil
}

// depart puts the departure of a node with its quarantine. waits: there is one,
// or nothing was put.
func (r *run) depart(ctx context.Context, t *term, p NodePlan) (put *state.Departure, waits bool, err error) {
	quarantine := max(r.ledger.Quarantine, 0) // NoQuarantine is below 0
	if p.Departure.Reason == state.OutOfService {
		quarantine = 0
	}
	log := r.log.With("node", p.Node, "reason", p.Departure.Reason, "quarantine", quarantine, "orphans", len(p.Orphans))
	if r.cfg.DryRun {
		log.Info("dry run: would put a departure, and remove the orphans when its quarantine is over")
		return nil, true, nil
	}
	if after := r.damper.next(p.Node, time.Now()); after > 0 {
		return nil, true, laterError{after: after, why: "it was put just now"}
	}
	failpoint.Reach(ctx, failpoint.BeforeDepart)
	d, err := t.lead.Depart(ctx, *p.Departure, quarantine)
	if errors.Is(err, state.ErrConflict) {
		return nil, true, fmt.Errorf("%w: %w", errMoved, err)
	}
	if err != nil {
		return nil, true, r.stepDown(t, fmt.Errorf("putting the departure of node %s: %w", p.Node, err))
	}
	action := departurePut
	if p.Departure.ModRevision != 0 {
		action = departureReplaced
	}
	r.metrics.departures.WithLabelValues(action).Inc()
	log.Info("node has departed", "revision", d.ModRevision, "replaced", p.Departure.ModRevision)
	return &d, quarantine > 0, nil
}

// stepDown ends a term that etcd says is over, whatever the election's session
// says, and passes the error on.
func (r *run) stepDown(t *term, err error) error {
	if errors.Is(err, state.ErrNotLeader) {
		t.cancel()
	}
	return err
}

const (
	damperFirst = 100 * time.Millisecond
	damperMost  = 30 * time.Second
)

// damper keeps a node's departure from being put again at once: the first is
// not in view yet, or another replica, whose Node list lags, has deleted it. Two
// that disagree for long come to disagree slowly. It is safe for concurrent use.
type damper struct {
	mu    sync.Mutex
	nodes map[string]damped
}

type damped struct {
	not   time.Time // no earlier than this
	pause time.Duration
}

func newDamper() *damper { return &damper{nodes: map[string]damped{}} }

// next is how long to wait before the node's departure is put. With 0 it is
// taken as put now, and the next one waits for longer.
func (d *damper) next(node string, now time.Time) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	was := d.nodes[node]
	if wait := was.not.Sub(now); wait > 0 {
		return wait
	}
	pause := min(max(2*was.pause, damperFirst), damperMost)
	d.nodes[node] = damped{not: now.Add(pause), pause: pause}
	return 0
}

// forget is for a node that is back, or has no attachments any more.
func (d *damper) forget(node string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.nodes, node)
}
