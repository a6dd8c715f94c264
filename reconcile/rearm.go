package reconcile

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/watch"
)

const (
	// rearmersAtOnce bounds the re-arms under way: as many as fill one of the
	// ledger's requests.
	rearmersAtOnce = 64
	// lapsesAtOnce are taken from the watcher at a time.
	lapsesAtOnce = 1024
	// fewLapses are looked at one by one. Of more, those whose lease lives are
	// left out first: plain detaches by the thousand are no news.
	fewLapses = 32
	// rearmRetry is the pause after a re-arm that failed.
	rearmRetry = 2 * time.Second
)

// rearm puts the attachments of lapsed holds again: at the start those that
// lapsed while no keeper ran, and then those that go while it looks on.
func (k *Keeper) rearm(ctx context.Context) error {
	if err := k.cfg.Watcher.WaitSynced(ctx); err != nil {
		return err
	}
	if err := k.until(ctx, "walking the holds for lapsed ones", k.walk); err != nil {
		return err
	}
	for {
		lapses, overflowed := k.cfg.Watcher.TakeLapses(lapsesAtOnce)
		if overflowed {
			if err := k.until(ctx, "walking the holds for lapsed ones", k.walk); err != nil {
				return err
			}
		}
		if len(lapses) > 0 {
			again := func(ctx context.Context) (err error) { lapses, err = k.lapsed(ctx, lapses); return err }
			if err := k.until(ctx, "re-arming holds", again); err != nil {
				return err
			}
			continue
		}
		select {
		case <-k.cfg.Watcher.Lapses():
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// until calls do until it succeeds, ctx ends, or it fails for good.
func (k *Keeper) until(ctx context.Context, what string, do func(context.Context) error) error {
	for {
		err := do(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil || forGood(err):
			return err
		}
		k.log.Warn(what+" failed; trying again", "error", err)
		if err := sleep(ctx, rearmRetry); err != nil {
			return err
		}
	}
}

// walk re-arms the holds of the cluster that the watcher has no attachment of. It
// reads the keys of all holds, of every cluster, and keeps none. What changes
// meanwhile is no harm: a re-arm compares the hold and that its attachment is gone,
// and an attachment that goes later is told of as a lapse.
func (k *Keeper) walk(ctx context.Context) error {
	r := k.rearming()
	for h, err := range k.cfg.Cluster.Ledger().HoldKeys(ctx, k.cfg.Cluster.Name()) {
		if err != nil {
			return errors.Join(err, r.wait())
		}
		if !k.cfg.Watcher.HasAttachment(h.Node, h.Volume) {
			r.start(ctx, h, nil)
		}
	}
	return r.wait()
}

// lapsed re-arms those of the lapses whose hold stays, and returns those that
// failed, with an error, to be tried again.
func (k *Keeper) lapsed(ctx context.Context, lapses []watch.Lapse) ([]watch.Lapse, error) {
	if len(lapses) > fewLapses {
		var err error
		if lapses, err = k.sift(ctx, lapses); err != nil {
			return lapses, err
		}
	}
	var mu sync.Mutex
	var left []watch.Lapse
	r := k.rearming()
	for _, l := range lapses {
		h := state.Hold{Volume: l.Volume, Cluster: k.cfg.Cluster.Name(), Node: l.Node, Mode: l.Mode}
		if h.Mode == "" {
			h.Mode = state.Exclusive // the record did not decode; a shared one is found by the next walk
		}
		r.start(ctx, h, func() {
			mu.Lock()
			defer mu.Unlock()
			left = append(left, l)
		})
	}
	err := r.wait()
	return left, err
}

// sift leaves out the lapses whose lease lives: a transaction took those
// attachments, and their holds with them.
func (k *Keeper) sift(ctx context.Context, lapses []watch.Lapse) ([]watch.Lapse, error) {
	alive := map[state.LeaseID]bool{}
	var out []watch.Lapse
	for _, l := range lapses {
		lives, asked := alive[l.Lease]
		if !asked {
			left, err := k.cfg.Cluster.Ledger().TimeLeft(ctx, l.Lease)
			if err != nil {
				return lapses, err
			}
			lives = left > 0
			alive[l.Lease] = lives
		}
		if lives {
			k.metrics.rearms.WithLabelValues(notLapsed).Inc()
		} else {
			out = append(out, l)
		}
	}
	return out, nil
}

// lapsedSet are the holds that are known to have lapsed. It is safe for
// concurrent use.
type lapsedSet struct {
	mu    sync.Mutex
	holds map[lapsedHold]struct{}
}

type lapsedHold struct{ node, volume string }

func (s *lapsedSet) note(h state.Hold, lapsed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := lapsedHold{h.Node, h.Volume}
	switch {
	case !lapsed:
		delete(s.holds, at)
	case s.holds == nil:
		s.holds = map[lapsedHold]struct{}{at: {}}
	default:
		s.holds[at] = struct{}{}
	}
}

func (s *lapsedSet) count() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return float64(len(s.holds))
}

// rearming is a number of re-arms under way.
type rearming struct {
	k      *Keeper
	joined sync.WaitGroup
	places chan struct{}
	failed atomic.Pointer[error]
}

func (k *Keeper) rearming() *rearming {
	return &rearming{k: k, places: make(chan struct{}, rearmersAtOnce)}
}

// start re-arms one hold when there is a place; failed is called if that fails.
func (r *rearming) start(ctx context.Context, h state.Hold, failed func()) {
	r.places <- struct{}{}
	r.joined.Go(func() {
		defer func() { <-r.places }()
		err := r.k.cfg.Cluster.Rearm(ctx, h)
		r.k.lapses.note(h, err != nil && !errors.Is(err, state.ErrNotFound))
		switch {
		case err == nil:
			r.k.metrics.rearms.WithLabelValues(rearmed).Inc()
			r.k.log.Info("hold had lapsed and is armed again", "volume", h.Volume, "node", h.Node)
			r.k.news.note(h, true)
		case errors.Is(err, state.ErrNotFound):
			r.k.metrics.rearms.WithLabelValues(notLapsed).Inc()
		case ctx.Err() == nil && !passing(err) && !forGood(err):
			r.k.metrics.rearms.WithLabelValues(rearmError).Inc()
			r.k.log.Warn("hold cannot be armed again; it stays as it is", "volume", h.Volume, "node", h.Node, "error", err)
			r.k.news.note(h, false)
		default:
			r.k.metrics.rearms.WithLabelValues(rearmError).Inc()
			r.failed.Store(&err)
			if failed != nil {
				failed()
			}
		}
	})
}

// passing: trying again later may succeed. It does not for a record that does not decode.
func passing(err error) bool {
	for _, e := range []error{state.ErrUnavailable, state.ErrUnknownOutcome, state.ErrNoSpace, state.ErrPermission} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// wait returns when all that was started is done, with the last error.
func (r *rearming) wait() error {
	r.joined.Wait()
	if err := r.failed.Load(); err != nil {
		return *err
	}
	return nil
}
