package chaos

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-storage/holdfast/e2e/chaos/history"
	"github.com/holdfast-storage/holdfast/e2e/chaos/model"
	"github.com/holdfast-storage/holdfast/state"
)

const (
	// soakWorkers bounds the calls under way. One that finds all of them busy is
	// not made later: it is counted as missed.
	soakWorkers = 32
	// soakCallWithin bounds one call.
	soakCallWithin = 4 * time.Second
)

// soakDriver is one cluster's client, open for the whole soak.
type soakDriver struct {
	ledger *state.Ledger
	as     *state.Cluster
}

// soakVolume is one volume, and what the drivers believe about it.
type soakVolume struct {
	name   string
	shared bool

	mu sync.Mutex
	// unsure: an answer was lost, or not what was believed. Look first.
	unsure bool
	holds  []state.Hold
	window *state.Migration
}

func (s *soak) openDrivers(ctx context.Context) error {
	for i, name := range clusterNames {
		ledger, err := state.Open(ctx, s.ledgerConfig(s.etcd.ClientEndpoints(i%s.etcd.Sides()), "driver-"+name))
		if err != nil {
			return err
		}
		d := &soakDriver{ledger: ledger}
		s.drivers[name] = d
		if d.as, err = ledger.Cluster(ctx, state.Identity{Name: name, UID: uidOf(name)}); err != nil {
			return err
		}
	}
	return nil
}

func (s *soak) closeDrivers() {
	for _, d := range s.drivers {
		_ = d.ledger.Close() // nothing is under way
	}
}

// offer makes a call due at each of its times.
func (s *soak) offer(ctx context.Context) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	from := s.now()
	for n := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for ; float64(n) < (s.now()-from).Seconds()*s.cfg.Rate; n++ {
			select {
			case s.calls <- struct{}{}:
			default:
				s.count("calls missed", 1)
			}
		}
	}
}

// due waits for the next call's time.
func (s *soak) due(ctx context.Context) bool {
	select {
	case <-s.calls:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// work makes calls until ctx ends, and lets the last one return.
func (s *soak) work(ctx context.Context, id int) {
	random := rand.New(rand.NewPCG(s.cfg.Seed, uint64(5000+id)))
	for s.due(ctx) {
		v := s.volumes[random.IntN(len(s.volumes))]
		for !v.mu.TryLock() {
			v = s.volumes[random.IntN(len(s.volumes))]
		}
		s.use(ctx, v, random)
		v.mu.Unlock()
	}
}

// use is what happens to a volume next.
func (s *soak) use(ctx context.Context, v *soakVolume, random *rand.Rand) {
	n := random.IntN(100)
	one := func() state.Hold { return v.holds[random.IntN(len(v.holds))] }
	switch {
	case v.unsure:
		s.look(ctx, v)
	case v.window != nil:
		s.finishMigration(ctx, v, n < 70)
	case len(v.holds) == 0, v.shared && len(v.holds) < 3 && n < 30:
		s.attach(ctx, v, clusterNames[random.IntN(len(clusterNames))], random)
	case !v.shared && len(v.holds) > 1: // overdue
		s.detach(ctx, v, v.holds[0])
	case n < 50:
		s.detach(ctx, v, one())
	case n < 75:
		from := one()
		if s.detach(ctx, v, from) && s.due(ctx) {
			s.attach(ctx, v, from.Cluster, random)
		}
	case n < 92 && !v.shared:
		if s.migrate(ctx, v, v.holds[0], random) && s.due(ctx) {
			s.finishMigration(ctx, v, n < 88)
		}
	default:
		s.look(ctx, v)
	}
}

func anyNodeOf(cluster string, random *rand.Rand) string {
	return nodeName(cluster, random.IntN(soakNodes))
}

// call bounds a call, which the end of its round does not cut short.
func call(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), soakCallWithin)
}

// told counts a call's answer. After one that was not a success, look.
func (s *soak) told(ctx context.Context, what model.Kind, v *soakVolume, err error) bool {
	s.count("calls "+string(what), 1)
	if err != nil {
		s.count("calls "+string(what)+" "+string(model.OutcomeOf(err)), 1)
	}
	s.unexpected(ctx, string(what), err)
	if errors.Is(err, state.ErrInGrace) {
		return false // as believed: nobody holds it
	}
	v.unsure = err != nil
	return err == nil
}

func (s *soak) look(ctx context.Context, v *soakVolume) {
	ctx, cancel := call(ctx)
	defer cancel()
	seen, err := s.drivers[clusterNames[0]].ledger.Volume(ctx, v.name)
	if s.told(ctx, model.Get, v, err) {
		v.holds, v.window = seen.Holds, seen.Migration
	}
}

func (s *soak) attach(ctx context.Context, v *soakVolume, cluster string, random *rand.Rand) {
	ctx, cancel := call(ctx)
	defer cancel()
	mode := state.Exclusive
	if v.shared {
		mode = state.Shared
	}
	h, err := s.drivers[cluster].as.Attach(ctx, state.AttachRequest{Volume: v.name, Node: anyNodeOf(cluster, random), Mode: mode})
	if s.told(ctx, model.Attach, v, err) {
		v.forget(h.Place())
		v.holds = append(v.holds, h)
	}
}

func (s *soak) detach(ctx context.Context, v *soakVolume, h state.Hold) bool {
	ctx, cancel := call(ctx)
	defer cancel()
	b := s.facts.Begin(history.Call{Kind: history.CallEnd, Volume: v.name, Cluster: h.Cluster, Node: h.Node})
	e, err := s.drivers[h.Cluster].as.Detach(ctx, state.DetachRequest{Volume: v.name, Node: h.Node, Token: h.Token})
	b.Done(definite(model.Detached(e, err), err))
	ok := s.told(ctx, model.Detach, v, err)
	if ok {
		v.forget(h.Place())
	}
	return ok
}

func (s *soak) migrate(ctx context.Context, v *soakVolume, h state.Hold, random *rand.Rand) bool {
	to := clusterNames[random.IntN(len(clusterNames))]
	target := placeOf(to, anyNodeOf(to, random))
	if target == h.Place() {
		return false
	}
	ctx, cancel := call(ctx)
	defer cancel()
	b := s.facts.Begin(history.Call{Kind: history.CallMigrate, Volume: v.name, Cluster: target.Cluster, Node: target.Node})
	m, err := s.drivers[h.Cluster].as.Migrate(ctx, state.MigrateRequest{Volume: v.name, Source: h.Node, SourceToken: h.Token, Target: target})
	b.Done(definite(model.Migrated(m, err), err))
	ok := s.told(ctx, model.Migrate, v, err)
	if ok {
		v.window = &m
	}
	return ok
}

// finishMigration ends one side. Which holds are left, the next look shows.
func (s *soak) finishMigration(ctx context.Context, v *soakVolume, commit bool) {
	ctx, cancel := call(ctx)
	defer cancel()
	m := *v.window
	v.window, v.unsure = nil, true
	as := s.drivers[m.Source.Cluster].as
	kind, loser, end := model.Abort, m.Target, as.Abort
	if commit {
		kind, loser, end = model.Commit, m.Source, as.Commit
	}
	b := s.facts.Begin(history.Call{Kind: history.CallEnd, Volume: v.name, Cluster: loser.Cluster, Node: loser.Node})
	err := end(ctx, m)
	b.Done(definite(model.Finished(err), err))
	s.told(ctx, kind, v, err)
	v.unsure = true
}

func (v *soakVolume) forget(p state.Place) {
	v.holds = slices.DeleteFunc(v.holds, func(h state.Hold) bool { return h.Place() == p })
}
