package reconcile

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-multierror"
	"golang.org/x/time/rate"
	"k8s.io/client-go/util/workqueue"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/watch"
)

// run is one run of a Reconciler, from its start to its stop. Nothing that it
// remembers counts for the next: what counts is in etcd.
type run struct {
	*Reconciler
	stop       context.CancelFunc
	stopping   <-chan struct{}
	ended      chan struct{}
	unregister func()

	limiter *rate.Limiter
	batch   int           // orphans a request
	fencers chan struct{} // a place for each call of the fencer
	tally   *tally
	damper  *damper
	reports *reports
	overdue *overdues

	term     atomic.Pointer[term] // nil while it does not lead
	restored atomic.Bool          // a restore was noticed, and is not accepted yet
}

func newRun(ctx context.Context, r *Reconciler) (context.Context, *run, error) {
	unregister, err := register(r.cfg.Registerer, r.cfg.Cluster.Name(), r.metrics.collectors())
	if err != nil {
		return nil, nil, err
	}
	batch := min(state.MaxBatch, max(1, int(r.cfg.RemovalRate)))
	ctx, stop := context.WithCancel(ctx)
	one := &run{
		Reconciler: r, stop: stop, stopping: ctx.Done(), ended: make(chan struct{}), unregister: unregister,
		limiter: rate.NewLimiter(rate.Limit(r.cfg.RemovalRate), batch), batch: batch,
		fencers: make(chan struct{}, fencersAtOnce), tally: newTally(r.metrics), damper: newDamper(),
	}
	if r.cfg.Reporter != nil && !r.cfg.DryRun {
		one.reports = newReports(r.log)
	}
	one.overdue = newOverdues(one)
	return ctx, one, nil
}

// report has the Reporter told, if there is one.
func (r *run) report(tell func(Reporter)) {
	if r.reports != nil {
		r.reports.add(func() { tell(r.cfg.Reporter) })
	}
}

// all is the whole of it, until ctx ends.
func (r *run) all(ctx context.Context) error { return r.together(ctx, r.work, r.overdue.follow) }

// errPassed ends a run that was for one pass.
var errPassed = errors.New("the pass is done")

// once is one pass, with no workers beside it.
func (r *run) once(ctx context.Context) error {
	var result error
	err := r.together(ctx, func(ctx context.Context) error {
		result = r.pass(ctx)
		return errPassed
	})
	if result != nil || errors.Is(err, errPassed) {
		return result
	}
	return err
}

// together runs the watcher where it is ours, the candidacy and parts, until one
// of them ends. It returns when all have.
func (r *run) together(ctx context.Context, parts ...func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var joined sync.WaitGroup
	start := func(part func(context.Context) error) {
		joined.Go(func() {
			err := part(ctx)
			if err == nil {
				err = errors.New("a part of the reconciler ended by itself")
			}
			cancel(err)
		})
	}
	if r.owned {
		start(r.watcher.Run)
	}
	start(r.candidate)
	for _, part := range parts {
		start(part)
	}
	joined.Wait()
	return context.Cause(ctx)
}

// queueRetry is the pause before a watcher that has ended is asked for another queue.
const queueRetry = time.Second

// work judges the nodes that the watcher puts on its queue, and on the next one
// where whoever runs the watcher runs it again.
func (r *run) work(ctx context.Context) error {
	for {
		r.workOff(ctx, r.watcher.Queue())
		if err := sleep(ctx, queueRetry); err != nil {
			return err
		}
	}
}

// workOff returns when the queue is shut down, which the end of ctx does.
func (r *run) workOff(ctx context.Context, queue workqueue.TypedRateLimitingInterface[string]) {
	defer context.AfterFunc(ctx, queue.ShutDown)()
	var joined sync.WaitGroup
	for range r.cfg.Workers {
		joined.Go(func() {
			for r.next(ctx, queue) {
			}
		})
	}
	joined.Wait()
}

// next judges one node of the queue. It is false when the queue is shut down.
func (r *run) next(ctx context.Context, queue workqueue.TypedRateLimitingInterface[string]) bool {
	name, down := queue.Get()
	if down || ctx.Err() != nil {
		return false
	}
	defer queue.Done(name)
	err := r.judge(ctx, name)
	var later laterError
	switch {
	case ctx.Err() != nil:
	case err == nil:
		queue.Forget(name)
	case errors.As(err, &later):
		queue.AddAfter(name, later.after)
	case errors.Is(err, errMoved):
		r.log.Debug("judged by what has changed meanwhile; looking again", "node", name, "error", err)
		queue.AddRateLimited(name)
	default:
		r.metrics.fails.WithLabelValues(failure(err)).Inc()
		r.log.Warn("reconciling a node failed; trying again", "node", name, "tries", queue.NumRequeues(name)+1, "error", err)
		queue.AddRateLimited(name)
	}
	return true
}

// pass judges all suspects, one after the other.
func (r *run) pass(ctx context.Context) error {
	err := r.passAll(ctx)
	result := resultOK
	if err != nil {
		result = resultError
	}
	r.metrics.passes.WithLabelValues(result).Inc()
	return err
}

func (r *run) passAll(ctx context.Context) error {
	if err := r.ready(ctx); err != nil {
		return err
	}
	var errs *multierror.Error
	if err := r.watcher.Sources().Check(); err != nil {
		errs = multierror.Append(errs, err)
	}
	for _, name := range r.watcher.Suspects() {
		if ctx.Err() != nil {
			return gathered(multierror.Append(errs, ctx.Err()))
		}
		var later laterError
		if err := r.judge(ctx, name); err != nil && !errors.As(err, &later) && !errors.Is(err, errMoved) {
			r.metrics.fails.WithLabelValues(failure(err)).Inc()
			errs = multierror.Append(errs, fmt.Errorf("node %s: %w", name, err))
		}
	}
	return gathered(errs)
}

// ready waits until a pass can begin: both sources are loaded, and it leads.
func (r *run) ready(ctx context.Context) error {
	if err := r.loaded(ctx, r.stopping); err != nil {
		return fmt.Errorf("the pass did not begin: %w", err)
	}
	if !await(ctx, r.stopping, func() bool { return r.term.Load() != nil }) {
		return fmt.Errorf("the pass did not begin: %w of cluster %s", state.ErrNotLeader, r.cfg.Cluster.Name())
	}
	return nil
}

// loaded waits until both sources have given a whole list. A Node list that
// cannot be read is reported at once: it may stay so.
func (r *Reconciler) loaded(ctx context.Context, stopping <-chan struct{}) error {
	var s watch.Sources
	if await(ctx, stopping, func() bool {
		s = r.watcher.Sources()
		return s.Loaded() || s.Nodes.Err != nil
	}) && s.Loaded() {
		return nil
	}
	if err := s.Check(); err != nil {
		return err
	}
	return watch.ErrNotSynced
}

// awaitLook is how often await looks: it is for callers that wait, and nothing
// that is decided waits for it.
const awaitLook = 20 * time.Millisecond

// await looks until is is true. It is false if ctx ends before, or stopping is closed.
func await(ctx context.Context, stopping <-chan struct{}, is func() bool) bool {
	look := time.NewTicker(awaitLook)
	defer look.Stop()
	for !is() {
		select {
		case <-look.C:
		case <-stopping:
			return false
		case <-ctx.Done():
			return false
		}
	}
	return true
}
