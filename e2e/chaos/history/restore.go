package history

import (
	"context"
	"errors"
	"fmt"
	"maps"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Ready waits until the observer has its first list and watches on from there.
// What happens afterwards it sees.
func (o *Observer) Ready(ctx context.Context) error {
	return o.until(ctx, func() bool { return o.life != nil })
}

// CatchUp waits until the observer has seen all that etcd had committed when it
// was called. It tries again for as long as etcd does not answer.
func (o *Observer) CatchUp(ctx context.Context) error {
	for {
		own, cancel := context.WithTimeout(ctx, requestTimeout)
		resp, err := o.client.Get(own, o.cfg.BeaconKey, clientv3.WithCountOnly())
		cancel()
		if err == nil {
			return o.until(ctx, func() bool { return o.life != nil && o.life.mirror.revision >= resp.Header.Revision })
		}
		if pause(ctx) != nil {
			return fmt.Errorf("reading etcd's revision: %w", err)
		}
	}
}

// Revision is the last that the observer has seen of the present life; 0 between two.
func (o *Observer) Revision() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.life == nil {
		return 0
	}
	return o.life.mirror.revision
}

// BeforeRestore ends the present segment. Call it before another etcd takes the
// place of this one, while this one still answers, if it is to prove that it
// saw all. The segment has ended also when it fails to prove that: the error is
// then ErrMissed where something was missed, and another where it can't be told.
func (o *Observer) BeforeRestore(ctx context.Context) error {
	err := errors.Join(o.CatchUp(ctx), o.prove(ctx))
	o.mu.Lock()
	if o.life != nil {
		o.life.end()
	}
	o.mu.Unlock()
	return errors.Join(err, o.until(context.WithoutCancel(ctx), func() bool { return o.life == nil }))
}

// Restored begins the next segment, with a list: call it once the restored etcd
// answers, before any writer may reach it.
func (o *Observer) Restored(ctx context.Context) error {
	o.mu.Lock()
	l, ended := o.life, o.err
	o.mu.Unlock()
	switch {
	case ended != nil:
		return ended
	case l != nil:
		return errors.New("history: Restored without BeforeRestore")
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case o.restored <- struct{}{}:
		return o.Ready(ctx)
	}
}

// prove holds the mirror against a list at its revision.
func (o *Observer) prove(ctx context.Context) error {
	for {
		o.mu.Lock()
		if o.life == nil {
			o.mu.Unlock()
			return errors.New("history: between two segments there is nothing to prove")
		}
		at := &mirror{revision: o.life.mirror.revision, kvs: maps.Clone(o.life.mirror.kvs)}
		o.mu.Unlock()
		_, list, err := o.list(ctx, at.revision)
		if err == nil {
			return at.equals(list)
		}
		if pause(ctx) != nil {
			return fmt.Errorf("listing etcd at revision %d: %w", at.revision, err)
		}
	}
}

// Finish proves that nothing was missed and checks what must be so in a ledger
// at rest: writers are done, keepers have had their time, and the clusters named
// live are up. It returns ErrMissed where something was missed, and the report
// in any case. Run goes on until its context ends.
func (o *Observer) Finish(ctx context.Context, live ...string) (Report, error) {
	err := errors.Join(o.CatchUp(ctx), o.prove(ctx))
	o.mu.Lock()
	if o.life != nil {
		o.checker.Quiet(live)
	}
	o.mu.Unlock()
	return o.Report(), errors.Join(err, o.log.flush())
}

// Report is what was found so far.
func (o *Observer) Report() Report {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := o.checker.Report()
	if o.life != nil {
		r.Unproven = o.life.mirror.unproven
	}
	return r
}

// Last returns the last revisions, Config.Keep at most, for a run that failed.
func (o *Observer) Last() []Revision { return o.log.tail() }
