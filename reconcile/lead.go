package reconcile

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

const (
	// fitLook is how often one that does not stand for the lead, because it
	// cannot see, looks whether it can.
	fitLook = time.Second
	// standAside is how long a leader may be without a view of the sources
	// before another gets a chance that may see more.
	standAside = 30 * time.Second
	// candidacyRetry is the least time from one candidacy to the next.
	candidacyRetry = 2 * time.Second
)

// term is one time of leading, or all the time of a dry run. The brake is the
// leader's: its window is read off the journal when the term begins.
type term struct {
	run    *run
	lead   *state.Leadership // nil in a dry run
	cancel context.CancelFunc
	brake  *brake
	// witness is nil where none is kept, and in a dry run.
	witness *witness
	poke    chan struct{} // the brake may say something else now

	mu      sync.Mutex
	verdict Verdict
	engaged time.Time // since when, on the monotonic clock; zero: it is not
}

// candidate stands for the lead, again and again, until ctx ends or the cluster
// is found to be another's.
func (r *run) candidate(ctx context.Context) error {
	for {
		if err := r.fit(ctx); err != nil {
			return err
		}
		began := time.Now()
		var lead *state.Leadership
		if !r.cfg.DryRun {
			var err error
			lead, err = r.cfg.Cluster.Campaign(ctx, r.cfg.ID)
			if forGood(err) {
				return err
			}
			if err != nil && ctx.Err() == nil {
				r.log.Warn("standing for the lead failed; trying again", "error", err)
			}
		}
		if lead != nil || r.cfg.DryRun {
			r.serve(ctx, lead)
		}
		if err := sleep(ctx, candidacyRetry-time.Since(began)); err != nil {
			return err
		}
	}
}

func forGood(err error) bool {
	for _, e := range []error{state.ErrClusterMismatch, state.ErrReadOnly, state.ErrInvalid, state.ErrRestored} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fit waits until both sources can be relied on: a leader that sees nothing
// would only keep others from leading.
func (r *run) fit(ctx context.Context) error {
	if err := r.watcher.WaitSynced(ctx); err != nil {
		return err
	}
	for r.watcher.Sources().Check() != nil {
		if err := sleep(ctx, fitLook); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// serve leads until the lead is lost, given up, or ctx ends.
func (r *run) serve(ctx context.Context, lead *state.Leadership) {
	ctx, cancel := context.WithCancel(ctx)
	var joined sync.WaitGroup
	t := &term{run: r, lead: lead, cancel: cancel, brake: newBrake(r.cfg.Brake), poke: make(chan struct{}, 1)}
	if lead != nil {
		defer lead.Resign()
		joined.Go(func() {
			select {
			case <-lead.Done():
				cancel()
			case <-ctx.Done():
			}
		})
	}
	defer joined.Wait()
	defer cancel()

	loaded := make(chan struct{})
	joined.Go(func() {
		if err := newJournalReader(t).follow(ctx, loaded); err != nil && ctx.Err() == nil {
			r.log.Warn("the journal cannot be followed, which the brake counts by; giving up the lead", "error", err)
		}
		cancel()
	})
	select {
	case <-loaded:
	case <-ctx.Done():
		return
	}
	if t.witness = r.witnessing(lead); t.witness != nil {
		joined.Go(func() { t.witness.run(ctx) })
	}
	r.term.Store(t)
	defer r.term.Store(nil)
	defer r.metrics.brake.Set(0)
	r.overdue.lead(true)
	defer r.overdue.lead(false)
	if lead != nil {
		r.log.Info("leading", "revision", lead.Revision())
		defer r.log.Info("leading no more", "revision", lead.Revision())
	}
	r.watcher.Rejoin()
	t.mind(ctx)
}

func (t *term) wake() {
	select {
	case t.poke <- struct{}{}:
	default: // it will look anyway
	}
}
