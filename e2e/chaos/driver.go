package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-storage/holdfast/e2e/chaos/history"
	"github.com/holdfast-storage/holdfast/e2e/chaos/model"
	"github.com/holdfast-storage/holdfast/state"
)

// driver is one client: a storage controller of one cluster that makes calls
// and remembers what it was told. It knows nothing that a real one would not.
type driver struct {
	run     *run
	id      int
	cluster string
	random  *rand.Rand

	halted atomic.Bool // etcd was restored
	ledger *state.Ledger
	as     *state.Cluster
	// stale is a token that was right once.
	stale map[string]state.Token
}

func newDriver(r *run, id int, cluster string) *driver {
	return &driver{
		run: r, id: id, cluster: cluster, random: rand.New(rand.NewPCG(r.cfg.Seed, uint64(1000+id))),
		stale: map[string]state.Token{},
	}
}

// drive makes calls until ctx ends. It opens the ledger anew where that says
// that etcd was restored.
func (d *driver) drive(ctx context.Context) error {
	defer d.close()
	for ctx.Err() == nil {
		if d.ledger == nil && !d.open(ctx) {
			continue
		}
		d.run.calm.RLock()
		d.step(ctx)
		d.run.calm.RUnlock()
		if d.halted.Swap(false) {
			d.close()
		}
		sleep(ctx, time.Duration(d.random.Int64N(int64(2*d.run.cfg.Pace))))
	}
	return nil
}

func (d *driver) close() {
	if d.ledger != nil {
		_ = d.ledger.Close() // what is under way stays unknown
		d.ledger = nil
	}
}

func (d *driver) open(ctx context.Context) bool {
	var err error
	endpoints := d.run.etcd.ClientEndpoints(d.id % d.run.etcd.Sides())
	if d.ledger, err = state.Open(ctx, ledgerConfig(endpoints, fmt.Sprintf("driver-%d", d.id), d.run.quietLog)); err == nil {
		if d.as, err = d.ledger.Cluster(ctx, state.Identity{Name: d.cluster, UID: uidOf(d.cluster)}); err == nil {
			return true
		}
	}
	d.run.unexpected(ctx, "opening the ledger", err)
	d.close()
	sleep(ctx, 100*time.Millisecond)
	return false
}

// step is one thing that a storage controller might do.
func (d *driver) step(ctx context.Context) {
	v := volumeName(d.random.IntN(d.run.cfg.Volumes))
	ctx, cancel := context.WithTimeout(ctx, d.within())
	defer cancel()
	switch n := d.random.IntN(100); {
	case d.run.cfg.Duel:
		d.duel(ctx, d.cluster+"-"+v, nodeName(d.cluster, 0))
	case d.run.cfg.Own:
		d.own(ctx, fmt.Sprintf("own-%d-%s", d.id, v), nodeName(d.cluster, 0))
	case n < 4:
		d.burst(ctx)
	case n < 12:
		d.attach(ctx, parkedName(d.random.IntN(parked)), d.node(), state.Exclusive)
	case n < 25:
		d.attach(ctx, v, d.node(), d.mode())
	case n < 35:
		d.detach(ctx, v, d.node(), 0)
	case n < 45:
		d.get(ctx, v)
	default:
		if seen := d.get(ctx, v); seen != nil {
			d.follow(ctx, seen)
		}
	}
}

// within is how long a call is waited for.
func (d *driver) within() time.Duration {
	const least = 20 * time.Millisecond
	most := cmp.Or(d.run.cfg.Hasty, 420*time.Millisecond)
	if d.run.cfg.Hasty == 0 && d.random.IntN(5) > 0 {
		return 4 * time.Second
	}
	return least + time.Duration(d.random.Int64N(int64(most-least)))
}

func (d *driver) duel(ctx context.Context, volume, node string) {
	switch d.id % d.run.cfg.Drivers {
	case 0:
		d.attach(ctx, volume, node, state.Exclusive)
	case 1:
		d.detach(ctx, volume, node, 0)
	default:
		d.get(ctx, volume)
	}
}

func (d *driver) own(ctx context.Context, volume, node string) {
	if d.random.IntN(2) == 0 {
		d.attach(ctx, volume, node, state.Exclusive)
	} else {
		d.detach(ctx, volume, node, 0)
	}
}

// burst is many calls at one moment, of which some are about one volume: more
// than go in requests of their own, so that the ledger gathers them.
func (d *driver) burst(ctx context.Context) {
	var joined sync.WaitGroup
	for i := range 12 {
		v, node := volumeName(i/3%d.run.cfg.Volumes), d.node()
		joined.Go(func() { d.attach(ctx, v, node, state.Exclusive) })
	}
	joined.Wait()
}

func (d *driver) node() string { return nodeName(d.cluster, d.random.IntN(nodesEach)) }

func (d *driver) mode() state.Mode {
	if d.random.IntN(4) == 0 {
		return state.Shared
	}
	return state.Exclusive
}

// follow acts on what a read has shown, which may have changed by now.
func (d *driver) follow(ctx context.Context, v *state.Volume) {
	own := slices.DeleteFunc(slices.Clone(v.Holds), func(h state.Hold) bool { return h.Cluster != d.cluster })
	n := d.random.IntN(100)
	switch {
	case v.Migration != nil && v.Migration.Source.Cluster == d.cluster && n < 80:
		d.finish(ctx, *v.Migration, n < 45)
	case len(own) > 0:
		d.use(ctx, own[d.random.IntN(len(own))], n)
	case len(v.Detachments) > 0 && v.Detachments[0].Cluster == d.cluster && n < 25:
		d.clear(ctx, v.Detachments[0])
	case len(v.Detachments) > 0 && v.Detachments[0].Cluster != d.cluster && n < 8:
		d.force(ctx, v.Name, d.node())
	default:
		d.attach(ctx, v.Name, d.node(), d.mode())
	}
}

// use is what may become of a hold of one's own.
func (d *driver) use(ctx context.Context, h state.Hold, n int) {
	switch {
	case n < 40:
		d.detach(ctx, h.Volume, h.Node, h.Token)
	case n < 50 && d.stale[h.Volume] != 0:
		d.detach(ctx, h.Volume, h.Node, d.stale[h.Volume])
	case n < 70:
		d.attach(ctx, h.Volume, h.Node, h.Mode)
	case n < 90 && h.Mode == state.Exclusive:
		to := d.cluster
		if d.random.IntN(3) == 0 {
			to = clusterNames[d.random.IntN(len(clusterNames))]
		}
		d.migrate(ctx, h, state.Place{Cluster: to, Node: nodeName(to, d.random.IntN(nodesEach))})
	case h.Lapsed:
		d.rearm(ctx, h)
	}
	d.stale[h.Volume] = h.Token
}

func (d *driver) place(node string) state.Place { return state.Place{Cluster: d.cluster, Node: node} }

// told records a call's answer, and looks whether it is one that may be.
func (d *driver) told(ctx context.Context, what string, p *model.Pending, res model.Result, err error) {
	p.End(res)
	d.run.unexpected(ctx, what, err)
	if errors.Is(err, state.ErrRestored) {
		d.halted.Store(true)
	}
}

func (d *driver) attach(ctx context.Context, volume, node string, m state.Mode) {
	d.attachAs(ctx, state.AttachRequest{Volume: volume, Node: node, Mode: m})
}

// force does not mind another cluster's grace.
func (d *driver) force(ctx context.Context, volume, node string) {
	d.attachAs(ctx, state.AttachRequest{Volume: volume, Node: node, Mode: state.Exclusive, IgnoreGrace: true, Why: "chaos"})
}

func (d *driver) attachAs(ctx context.Context, req state.AttachRequest) {
	b := d.run.facts.Begin(history.Call{Kind: history.CallAttach, Volume: req.Volume, Cluster: d.cluster, Node: req.Node})
	p := d.run.recorder.Begin(d.id, model.Op{
		Kind: model.Attach, Volume: req.Volume, Place: d.place(req.Node), Mode: req.Mode, IgnoreGrace: req.IgnoreGrace, Session: d.run.session(),
	})
	h, err := d.as.Attach(ctx, req)
	res := model.Attached(h, err)
	done(b, res, err)
	d.told(ctx, "attach", p, res, err)
}

func (d *driver) detach(ctx context.Context, volume, node string, token state.Token) {
	b := d.run.facts.Begin(history.Call{Kind: history.CallEnd, Volume: volume, Cluster: d.cluster, Node: node, Token: uint64(token)})
	p := d.run.recorder.Begin(d.id, model.Op{Kind: model.Detach, Volume: volume, Place: d.place(node), Token: token, Wait: d.run.wait(grace)})
	e, err := d.as.Detach(ctx, state.DetachRequest{Volume: volume, Node: node, Token: token})
	res := model.Detached(e, err)
	done(b, res, err)
	d.told(ctx, "detach", p, res, err)
}

// done tells the observer what a caller knows of its call.
func done(b *history.Begun, res model.Result, err error) {
	switch {
	case !definite(res, err):
		b.Done(false)
	case res.Outcome == model.OK:
		b.Succeeded()
	default:
		b.Done(true)
	}
}

// definite says whether a call's caller knows what became of it, a wait that
// it began included.
func definite(res model.Result, err error) bool {
	return res.Outcome != model.Unknown && !res.Short && !errors.Is(err, state.ErrUnknownOutcome)
}

func (d *driver) migrate(ctx context.Context, h state.Hold, target state.Place) {
	if target == h.Place() {
		return
	}
	b := d.run.facts.Begin(history.Call{Kind: history.CallMigrate, Volume: h.Volume, Cluster: target.Cluster, Node: target.Node})
	p := d.run.recorder.Begin(d.id, model.Op{
		Kind: model.Migrate, Volume: h.Volume, Place: h.Place(), Token: h.Token, Target: target,
		Wait: d.run.wait(window), Session: d.run.session(),
	})
	m, err := d.as.Migrate(ctx, state.MigrateRequest{Volume: h.Volume, Source: h.Node, SourceToken: h.Token, Target: target})
	res := model.Migrated(m, err)
	done(b, res, err)
	d.told(ctx, "migrate", p, res, err)
}

func (d *driver) finish(ctx context.Context, m state.Migration, commit bool) {
	op := model.Op{
		Kind: model.Abort, Volume: m.Volume, Place: m.Source, Token: m.SourceToken,
		Target: m.Target, TargetToken: m.TargetToken, Wait: d.run.wait(grace),
	}
	loser, token, end := m.Target, m.TargetToken, d.as.Abort
	if commit {
		op.Kind, loser, token, end = model.Commit, m.Source, m.SourceToken, d.as.Commit
	}
	b := d.run.facts.Begin(history.Call{Kind: history.CallEnd, Volume: m.Volume, Cluster: loser.Cluster, Node: loser.Node, Token: uint64(token)})
	p := d.run.recorder.Begin(d.id, op)
	err := end(ctx, m)
	res := model.Finished(err)
	done(b, res, err)
	d.told(ctx, string(op.Kind), p, res, err)
}

func (d *driver) clear(ctx context.Context, g state.Detachment) {
	b := d.run.facts.Begin(history.Call{Kind: history.CallClear, Volume: g.Volume, Cluster: g.Cluster, Node: g.Node})
	p := d.run.recorder.Begin(d.id, model.Op{
		Kind: model.Clear, Volume: g.Volume, Place: state.Place{Cluster: g.Cluster, Node: g.Node},
		Mode: g.Mode, Token: g.Token, Revision: g.ModRevision,
	})
	err := d.as.Clear(ctx, g)
	res := model.Failed(err)
	done(b, res, err)
	d.told(ctx, "clear", p, res, err)
}

func (d *driver) rearm(ctx context.Context, h state.Hold) {
	p := d.run.recorder.Begin(d.id, model.Op{
		Kind: model.Rearm, Volume: h.Volume, Place: h.Place(), Mode: h.Mode, Token: h.Token, Session: d.run.session(),
	})
	err := d.as.Rearm(ctx, h)
	d.told(ctx, "rearm", p, model.Failed(err), err)
}

func (d *driver) get(ctx context.Context, volume string) *state.Volume {
	p := d.run.recorder.Begin(d.id, model.Op{Kind: model.Get, Volume: volume})
	v, err := d.ledger.Volume(ctx, volume)
	d.told(ctx, "get", p, model.Read(v, err), err)
	if err != nil {
		return nil
	}
	return v
}
