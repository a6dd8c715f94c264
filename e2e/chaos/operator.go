package chaos

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast-storage/holdfast/e2e/chaos/history"
	"github.com/holdfast-storage/holdfast/e2e/chaos/model"
	"github.com/holdfast-storage/holdfast/state"
)

// operatorID is the client that the operator's calls are recorded under.
const operatorID = 900

func (r *run) freezeLedger(ctx context.Context, _ uint64, _ time.Duration) (func(context.Context) error, error) {
	r.calm.RLock()
	defer r.calm.RUnlock()
	p := r.recorder.Begin(operatorID, model.Op{Kind: model.Freeze})
	err := r.operator.Freeze(ctx, "operator", "chaos")
	p.End(model.Failed(err))
	if errors.Is(err, state.ErrUnavailable) || errors.Is(err, state.ErrNoSpace) {
		err = nil // etcd was away: no fault of the ledger's
	}
	return r.unfreeze, ignoreUnknown(err)
}

// unfreeze tries until the ledger is known to be free.
func (r *run) unfreeze(ctx context.Context) error {
	for {
		r.calm.RLock()
		p := r.recorder.Begin(operatorID, model.Op{Kind: model.Unfreeze})
		err := r.operator.Unfreeze(ctx, "operator", false)
		p.End(model.Failed(err))
		r.calm.RUnlock()
		if err == nil || errors.Is(err, state.ErrNotFound) && !errors.Is(err, state.ErrUnknownOutcome) {
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		sleep(ctx, 100*time.Millisecond)
	}
}

func (r *run) pauseRemovals(ctx context.Context, pick uint64, _ time.Duration) (func(context.Context) error, error) {
	name := clusterNames[pick%uint64(len(clusterNames))]
	r.calm.RLock()
	defer r.calm.RUnlock()
	err := r.operator.Pause(ctx, name, "operator", "chaos", 0)
	return func(ctx context.Context) error { return r.resume(ctx, name) }, ignoreUnknown(err)
}

// resume tries until removals are known to go on.
func (r *run) resume(ctx context.Context, name string) error {
	for {
		r.calm.RLock()
		err := r.operator.Resume(ctx, name, "operator")
		r.calm.RUnlock()
		if err == nil || errors.Is(err, state.ErrNotFound) || ctx.Err() != nil {
			return ctx.Err()
		}
		sleep(ctx, settleLook)
	}
}

// evictLapsed gives up the lapsed holds of a cluster, as an operator would for
// whom it is lost.
func (r *run) evictLapsed(ctx context.Context, pick uint64, _ time.Duration) (func(context.Context) error, error) {
	name := clusterNames[pick%uint64(len(clusterNames))]
	r.calm.RLock()
	defer r.calm.RUnlock()
	var lapsed []state.Hold
	for h, err := range r.operator.Holds(ctx, state.HoldFilter{Cluster: name}) {
		if err != nil {
			return nil, ignoreUnknown(err)
		}
		if h.Lapsed && len(lapsed) < 3 {
			lapsed = append(lapsed, h)
		}
	}
	for _, h := range lapsed {
		b := r.facts.Begin(history.Call{Kind: history.CallEvict, Volume: h.Volume, Cluster: name, Node: h.Node})
		p := r.recorder.Begin(operatorID, model.Op{Kind: model.Evict, Volume: h.Volume, Place: h.Place(), Mode: h.Mode, Token: h.Token, Wait: r.wait(grace)})
		results, err := r.operator.Evict(ctx, name, []state.Hold{h}, "operator", "chaos")
		var res model.Result
		if len(results) == 1 {
			res = model.Ended(results[0], err)
		} else {
			res = model.Failed(err)
		}
		p.End(res)
		done(b, res, err)
		r.count("evictions "+string(res.Outcome), 1)
	}
	return nil, nil
}

// ignoreUnknown passes on what is no answer of an etcd under faults.
func ignoreUnknown(err error) error {
	for _, e := range []error{
		state.ErrUnavailable, state.ErrUnknownOutcome, state.ErrShortWait, state.ErrNoSpace, state.ErrFrozen, state.ErrConflict,
		context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, e) {
			return nil
		}
	}
	return err
}
