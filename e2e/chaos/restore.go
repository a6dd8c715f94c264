package chaos

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-storage/holdfast/e2e/chaos/cluster"
	"github.com/holdfast-storage/holdfast/e2e/chaos/model"
	"github.com/holdfast-storage/holdfast/state"
)

const (
	// noticedWithin is how soon somebody must have noticed a restore: a process
	// that remembers at its next answer, a leader when it next renews its witness.
	noticedWithin = 45 * time.Second
	// frozenFor is how long everybody is left with a frozen ledger.
	frozenFor = 2 * time.Second
)

// setBack takes a snapshot early in the run, and restores it later, as an
// operator does whose drivers stand still meanwhile. Nothing may be attached or
// removed from then on until the operator has accepted what is left.
func (r *run) setBack(ctx context.Context) error {
	sleep(ctx, r.cfg.Time*3/10)
	for {
		_, err := r.etcd.Snapshot(ctx)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return nil
		}
	}
	sleep(ctx, r.cfg.Time*3/10)
	if ctx.Err() != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Minute)
	defer cancel()
	defer r.alone.enter(true)()
	if err := r.replaceEtcd(ctx); err != nil {
		return fmt.Errorf("restoring etcd: %w", err)
	}
	sleep(ctx, frozenFor)
	return r.accept(ctx)
}

// replaceEtcd is the restore, from the drivers' last call to the first freeze.
func (r *run) replaceEtcd(ctx context.Context) error {
	r.calm.Lock()
	defer r.calm.Unlock()
	if err := r.etcd.HealAll(ctx); err != nil {
		return err
	}
	if err := r.observer.BeforeRestore(ctx); err != nil {
		return err
	}
	restored := r.recorder.Cut()
	f := &cluster.Restore{}
	switch r.cfg.Seed % 3 {
	case 1:
		f.Bump = 1_000_000
	case 2:
		f.NewToken = true
	}
	r.count("fault "+f.String(), 1)
	if err := errors.Join(f.Apply(ctx, r.etcd), f.Heal(ctx, r.etcd)); err != nil {
		return err
	}
	if err := r.observer.Restored(ctx); err != nil {
		return err
	}
	restored()
	_ = r.operator.Close() // it remembers the etcd that was
	operator, err := state.Open(ctx, ledgerConfig(r.etcd.DirectEndpoints(), "operator", r.quietLog))
	if err != nil {
		return err
	}
	r.operator = operator
	r.recorder.Begin(operatorID, model.Op{Kind: model.Freeze}) // somebody's, soon
	for _, name := range r.volumes() {
		p := r.recorder.Begin(operatorID, model.Op{Kind: model.Get, Volume: name})
		v, err := r.operator.Volume(ctx, name)
		p.End(model.Read(v, err))
		if err != nil {
			return err
		}
	}
	return r.noticed(ctx)
}

// volumes are those that the drivers use.
func (r *run) volumes() []string {
	var out []string
	for i := range r.cfg.Volumes {
		out = append(out, volumeName(i))
	}
	for i := range parked {
		out = append(out, parkedName(i))
	}
	return out
}

// noticed waits until the ledger is frozen.
func (r *run) noticed(ctx context.Context) error {
	for deadline := time.Now().Add(noticedWithin); time.Now().Before(deadline); sleep(ctx, settleLook) {
		resp, err := r.raw.Get(ctx, prefix+"freezes/", clientv3.WithPrefix())
		if err == nil && len(resp.Kvs) > 0 {
			return nil
		}
	}
	return fmt.Errorf("nobody froze the ledger within %v", noticedWithin)
}

// resumeAll ends the pauses of the snapshot's time, which nobody else would.
func (r *run) resumeAll(ctx context.Context) error {
	for _, name := range clusterNames {
		if err := r.resume(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// accept is the operator's word. Whoever notices a little later may freeze the
// ledger again, with what it remembers; then the word is given again.
func (r *run) accept(ctx context.Context) error {
	for {
		p := r.recorder.Begin(operatorID, model.Op{Kind: model.Unfreeze})
		err := r.operator.Unfreeze(ctx, "operator", true)
		p.End(model.Failed(err))
		if err == nil {
			return r.resumeAll(ctx)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("accepting the restored etcd: %w", err)
		}
		sleep(ctx, settleLook)
	}
}
