package reconcile

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

const (
	// overdueLook is how often an overdue migration is looked at again, for
	// whether one of the two is detached. There are few, if any.
	overdueLook = 30 * time.Second
	// overdueAgain is how often it is reported again: an API server keeps an
	// Event for an hour.
	overdueAgain = 55 * time.Minute
	// overdueRetry is the pause after a watch of the windows that was refused.
	overdueRetry = time.Minute
)

// overdues are the migrations that involve the cluster and are overdue: two
// exclusive holds, and no window. It begins with the first term of a run, and
// then stays up to date, so that only one walk over all holds is needed, however
// often the lead changes.
type overdues struct {
	run *run
	// shortest is as short as a window can be.
	shortest time.Duration
	led      func() // closes first
	// first is closed when the run leads for the first time.
	first chan struct{}
	poke  chan struct{}

	mu      sync.Mutex
	leading bool
	windows map[string]bool // open ones by volume; true: in the list that is under way
	contact time.Time       // the last of the watch
	walk    bool            // the holds are to be walked
	ask     map[string]bool // volumes to look at
	late    map[string]*overdue
}

// overdue is one of them.
type overdue struct {
	volume *state.Volume
	told   time.Time // by this leader; zero: not yet
}

func newOverdues(r *run) *overdues {
	o := &overdues{
		run: r, shortest: r.cfg.Cluster.Ledger().ServerTTLFloor(), first: make(chan struct{}), poke: make(chan struct{}, 1),
		windows: map[string]bool{}, ask: map[string]bool{}, late: map[string]*overdue{},
	}
	o.led = sync.OnceFunc(func() { close(o.first) })
	return o
}

// lead begins or ends a term. Each leader tells of all.
func (o *overdues) lead(leading bool) {
	o.mu.Lock()
	o.leading = leading
	for _, one := range o.late {
		one.told = time.Time{}
	}
	o.mu.Unlock()
	if leading {
		o.led()
	}
	o.publish()
}

// follow watches the windows from the first term on, until ctx ends. That it
// cannot is no reason to stop reconciling.
func (o *overdues) follow(ctx context.Context) error {
	select {
	case <-o.first:
	case <-ctx.Done():
		return ctx.Err()
	}
	var joined sync.WaitGroup
	defer joined.Wait()
	joined.Go(func() { o.work(ctx) })
	for {
		err := o.run.cfg.Cluster.Ledger().Watch(ctx, state.ScopeMigrations(), o.take)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		o.run.log.Warn("the windows of migrations cannot be watched, so those that are overdue may go unreported; trying again",
			"again_in", overdueRetry, "error", err)
		if err := sleep(ctx, overdueRetry); err != nil {
			return err
		}
	}
}

// take takes in what the watch of the windows says.
func (o *overdues) take(b state.Batch) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if b.Reset {
		for volume := range o.windows {
			o.windows[volume] = false
		}
		// A window that opened and ended unseen is found by a walk only. At the
		// start all have; later a gap has to be as long as a window can be short:
		// whoever migrates says how long it is.
		o.walk = o.walk || o.contact.IsZero() || b.Contact.Sub(o.contact) >= o.shortest
	}
	for _, e := range b.Events {
		m, ok := e.Record.(state.Migration)
		switch {
		case !ok:
		case e.Type == state.Delete:
			// etcd need not say what was deleted, where it compacts just then.
			if _, open := o.windows[m.Volume]; open || o.involves(m) {
				o.ask[m.Volume] = true
			}
			delete(o.windows, m.Volume)
		case o.involves(m):
			o.windows[m.Volume] = true
		}
	}
	if b.Synced {
		for volume, listed := range o.windows {
			if !listed {
				o.ask[volume] = true
				delete(o.windows, volume)
			}
		}
	}
	o.contact = b.Contact
	if len(o.ask) > 0 || b.Synced {
		o.wake()
	}
	return nil
}

// involves: what cannot be read may.
func (o *overdues) involves(m state.Migration) bool {
	own := o.run.cfg.Cluster.Name()
	return m.Broken != nil || m.Source.Cluster == own || m.Target.Cluster == own
}

func (o *overdues) wake() {
	select {
	case o.poke <- struct{}{}:
	default:
	}
}

// work looks at volumes whose window has ended, and now and then at those that
// were overdue before.
func (o *overdues) work(ctx context.Context) {
	look := time.NewTicker(o.run.overdueLook)
	defer look.Stop()
	for {
		all := false
		select {
		case <-o.poke:
		case <-look.C:
			all = true // what failed before is among them
		case <-ctx.Done():
			return
		}
		if err := o.round(ctx, all); err != nil && ctx.Err() == nil {
			o.run.log.Warn("looking for overdue migrations failed; trying again", "again_in", o.run.overdueLook, "error", err)
		}
		o.publish()
	}
}

// round looks at every volume that there is to look at. What it cannot read it
// leaves for the next.
func (o *overdues) round(ctx context.Context, all bool) error {
	o.mu.Lock()
	walk := o.walk
	o.mu.Unlock()
	if walk {
		if err := o.walkHolds(ctx); err != nil {
			return err
		}
	}
	o.mu.Lock()
	ask := o.ask
	o.ask = map[string]bool{}
	if all {
		for volume := range o.late {
			ask[volume] = true
		}
	}
	o.mu.Unlock()
	var failed error
	for volume := range ask {
		v, err := o.run.cfg.Cluster.Ledger().Volume(ctx, volume)
		o.mu.Lock()
		if err != nil {
			failed = err
			o.ask[volume] = true
		} else {
			o.judge(v)
		}
		o.mu.Unlock()
	}
	return failed
}

// walkHolds finds the volumes with two exclusive holds, one of them the
// cluster's. Whether their window is open is looked at afterwards.
func (o *overdues) walkHolds(ctx context.Context) error {
	own := o.run.cfg.Cluster.Name()
	var before state.Hold
	var found []string
	for h, err := range o.run.cfg.Cluster.Ledger().HoldKeys(ctx, "") {
		if err != nil {
			return err
		}
		if h.Mode == state.Exclusive && before.Mode == state.Exclusive && h.Volume == before.Volume &&
			(h.Cluster == own || before.Cluster == own) {
			found = append(found, h.Volume)
		}
		before = h
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.walk = false
	for _, volume := range found {
		o.ask[volume] = true
	}
	return nil
}

// judge takes in a volume as it is now. The caller has the lock.
func (o *overdues) judge(v *state.Volume) {
	own := o.run.cfg.Cluster.Name()
	is := v.State == state.StateOverdue && slices.ContainsFunc(v.Holds, func(h state.Hold) bool { return h.Cluster == own })
	one, was := o.late[v.Name]
	switch {
	case is:
		// The source's hold is the older.
		slices.SortFunc(v.Holds, func(a, b state.Hold) int { return cmp.Compare(a.Revision, b.Revision) })
		if !was {
			one = &overdue{}
			o.late[v.Name] = one
			o.run.log.Warn("a migration is overdue: its window is over, and both nodes hold the volume; detach one of them",
				"volume", v.Name, "source", v.Holds[0].Place().String(), "target", v.Holds[1].Place().String())
		}
		one.volume = v
	case was:
		delete(o.late, v.Name)
		o.run.log.Info("a migration is overdue no more", "volume", v.Name, "state", string(v.State))
	}
}

// publish sets the gauge, and reports what this leader has not, or not for long.
func (o *overdues) publish() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.leading {
		o.run.metrics.overdue.Set(0)
		return
	}
	o.run.metrics.overdue.Set(float64(len(o.late)))
	for _, one := range o.late {
		if !one.told.IsZero() && time.Since(one.told) < overdueAgain {
			continue
		}
		one.told = time.Now()
		v := *one.volume
		o.run.report(func(to Reporter) { to.MigrationOverdue(&v) })
	}
}
