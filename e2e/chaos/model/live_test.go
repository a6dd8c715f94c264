package model

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/state/statetest"
)

const liveGrace = 2 * time.Second

// live is a run of clients against a real ledger.
type live struct {
	rec  *Recorder
	etcd *clientv3.Client
}

// client is one of its clients: a process of one cluster.
type client struct {
	*live
	t       testing.TB
	id      int
	rnd     *rand.Rand
	ledger  *state.Ledger
	cluster *state.Cluster
	name    string
}

func TestCheck_RealLedger(t *testing.T) {
	prefix := statetest.Prefix(t)
	begun := time.Now()
	l := &live{rec: NewRecorder(func() time.Duration { return time.Since(begun) }), etcd: statetest.Shared(t).Client(t)}
	var clients []*client
	for id := range 8 {
		c := &client{live: l, t: t, id: id, rnd: rand.New(rand.NewPCG(7, uint64(id))), name: []string{"a", "b"}[id%2]}
		ledger, err := state.Open(t.Context(), state.Config{
			Endpoints: statetest.Shared(t).Endpoints(), Prefix: prefix, By: fmt.Sprint("client-", id), Logger: slog.New(slog.DiscardHandler),
			GracePeriod: liveGrace, MigrationWindow: liveGrace, RequestTimeout: liveGrace / 2,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ledger.Close() })
		c.ledger = ledger
		if c.cluster, err = ledger.Cluster(t.Context(), state.Identity{Name: c.name, UID: "uid-of-" + c.name}); err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	var joined sync.WaitGroup
	for _, c := range clients {
		joined.Go(func() {
			pace := time.NewTicker(60 * time.Millisecond)
			defer pace.Stop()
			for ctx.Err() == nil {
				c.call(t.Context())
				<-pace.C
			}
		})
	}
	joined.Go(func() { clients[0].removals(ctx) })
	joined.Wait()

	r := Check(l.rec.History(), 20*time.Second)
	t.Logf("%d calls\n%s", len(l.rec.History().Calls), r)
	for _, v := range r.Violations {
		files, err := r.Visualize(v.Volume, t.ArtifactDir())
		t.Errorf("%s (%v, %v)", v, files, err)
	}
	for _, k := range []Kind{Attach, Detach, Migrate, Commit, Abort, Clear, Remove, Evict, Rearm, Get} {
		if r.Count(k, OK) == 0 {
			t.Errorf("no %s was carried out: the run shows nothing of it", k)
		}
	}
	if r.Count(Attach, Unknown) == 0 || r.Expiries == 0 || r.Arrivals == 0 {
		t.Errorf("%d attaches of unknown outcome, %d expiries, %d arrivals: expected some of each", r.Count(Attach, Unknown), r.Expiries, r.Arrivals)
	}
}

func (c *client) place() state.Place {
	return state.Place{Cluster: c.name, Node: fmt.Sprint("n", c.rnd.IntN(3))}
}

func volumeName(i int) string { return fmt.Sprint("pvc-", i) }

// call makes one random call. One in eight has so little time that its outcome
// may be unknown, and one in sixteen is never heard of again.
func (c *client) call(ctx context.Context) {
	if c.rnd.IntN(8) == 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(c.rnd.IntN(3000))*time.Microsecond)
		defer cancel()
	}
	volume := volumeName(c.rnd.IntN(4))
	switch n := c.rnd.IntN(20); {
	case n < 7:
		c.attach(ctx, volume)
	case n < 11:
		c.detach(ctx, volume)
	default:
		if v := c.get(ctx, volume); v != nil {
			c.follow(ctx, v, n)
		}
	}
}

func (c *client) begin(op Op) func(Result) {
	p := c.rec.Begin(c.id, op)
	if c.rnd.IntN(16) == 0 {
		return func(Result) {}
	}
	return p.End
}

func (c *client) attach(ctx context.Context, volume string) {
	p, op := c.place(), Op{Kind: Attach, Volume: volume}
	op.Place, op.IgnoreGrace = p, c.rnd.IntN(40) == 0
	if c.rnd.IntN(4) == 0 {
		op.Mode = state.Shared
	}
	end := c.begin(op)
	end(Attached(c.cluster.Attach(ctx, state.AttachRequest{Volume: volume, Node: p.Node, Mode: op.Mode, IgnoreGrace: op.IgnoreGrace, Why: "test"})))
}

func (c *client) detach(ctx context.Context, volume string) {
	p := c.place()
	end := c.begin(Op{Kind: Detach, Volume: volume, Place: p, Wait: liveGrace})
	end(Detached(c.cluster.Detach(ctx, state.DetachRequest{Volume: volume, Node: p.Node})))
}

func (c *client) get(ctx context.Context, volume string) *state.Volume {
	end := c.begin(Op{Kind: Get, Volume: volume})
	v, err := c.ledger.Volume(ctx, volume)
	end(Read(v, err))
	if err != nil {
		return nil
	}
	return v
}

// follow does something about what was read, late perhaps.
func (c *client) follow(ctx context.Context, v *state.Volume, n int) {
	var own []state.Hold
	for _, h := range v.Holds {
		if h.Cluster == c.name {
			own = append(own, h)
		}
	}
	switch {
	case v.Migration != nil && n < 17:
		c.finish(ctx, *v.Migration)
	case len(own) > 0 && n < 14:
		c.migrate(ctx, own[c.rnd.IntN(len(own))])
	case len(own) > 0 && n < 16:
		h := own[c.rnd.IntN(len(own))]
		end := c.begin(Op{Kind: Detach, Volume: v.Name, Place: h.Place(), Token: h.Token, Wait: liveGrace})
		end(Detached(c.cluster.Detach(ctx, state.DetachRequest{Volume: v.Name, Node: h.Node, Token: h.Token})))
	case len(own) > 0:
		c.lapse(ctx, v, own[c.rnd.IntN(len(own))])
	case len(v.Detachments) > 0:
		d := v.Detachments[c.rnd.IntN(len(v.Detachments))]
		if d.Cluster == c.name && c.rnd.IntN(20) == 0 {
			end := c.begin(Op{Kind: Clear, Volume: v.Name, Place: state.Place{Cluster: d.Cluster, Node: d.Node}, Mode: d.Mode, Revision: d.ModRevision})
			end(Failed(c.cluster.Clear(ctx, d)))
		}
	}
}

func (c *client) migrate(ctx context.Context, h state.Hold) {
	to := state.Place{Cluster: []string{"a", "b"}[c.rnd.IntN(2)], Node: fmt.Sprint("n", c.rnd.IntN(3))}
	if to == h.Place() {
		return
	}
	end := c.begin(Op{Kind: Migrate, Volume: h.Volume, Place: h.Place(), Token: h.Token, Target: to, Wait: liveGrace})
	end(Migrated(c.cluster.Migrate(ctx, state.MigrateRequest{Volume: h.Volume, Source: h.Node, SourceToken: h.Token, Target: to})))
}

func (c *client) finish(ctx context.Context, m state.Migration) {
	op := Op{Kind: Commit, Volume: m.Volume, Place: m.Source, Token: m.SourceToken, Target: m.Target, TargetToken: m.TargetToken, Wait: liveGrace}
	do := c.cluster.Commit
	if c.rnd.IntN(2) == 0 {
		op.Kind, do = Abort, c.cluster.Abort
	}
	end := c.begin(op)
	end(Finished(do(ctx, m)))
}

// lapse ends an attachment as its lease's end does; then the hold is evicted,
// or its cluster comes back.
func (c *client) lapse(ctx context.Context, v *state.Volume, h state.Hold) {
	for _, at := range v.Attachments {
		if at.Place() == h.Place() && c.rnd.IntN(2) == 0 {
			_, _ = c.etcd.Revoke(c.t.Context(), clientv3.LeaseID(at.Lease)) // gone already is as good
		}
	}
	if c.rnd.IntN(2) == 0 {
		end := c.begin(Op{Kind: Rearm, Volume: h.Volume, Place: h.Place(), Mode: h.Mode})
		end(Failed(c.cluster.Rearm(ctx, h)))
		return
	}
	end := c.begin(Op{Kind: Evict, Volume: h.Volume, Place: h.Place(), Mode: h.Mode, Token: h.Token, Wait: liveGrace})
	results, err := c.ledger.Evict(ctx, c.name, []state.Hold{h}, "test", "test")
	if len(results) == 0 {
		end(Failed(err))
		return
	}
	end(Ended(results[0], err))
}

// removals is a controller: it leads, and removes what a departed node holds.
func (c *client) removals(ctx context.Context) {
	ld, err := c.cluster.Campaign(ctx, "test")
	if err != nil {
		c.t.Error(err)
		return
	}
	defer ld.Resign()
	rnd := rand.New(rand.NewPCG(7, 99))
	for ctx.Err() == nil {
		p := state.Place{Cluster: c.name, Node: fmt.Sprint("n", rnd.IntN(3))}
		d, err := ld.Depart(c.t.Context(), state.Departure{Node: p.Node, Reason: state.NodeGone}, 0)
		if err != nil {
			c.t.Error(err)
			return
		}
		for i := range 4 {
			v, err := c.ledger.Volume(c.t.Context(), volumeName(i))
			if err != nil {
				c.t.Error(err)
				return
			}
			for _, at := range v.Attachments {
				if at.Place() == p {
					c.remove(ld, state.Orphan{Attachment: at, Departure: d})
				}
			}
		}
		if err := c.cluster.Return(c.t.Context(), d); err != nil {
			c.t.Error(err)
		}
	}
}

func (c *client) remove(ld *state.Leadership, o state.Orphan) {
	ctx, cancel := context.WithTimeout(c.t.Context(), liveGrace)
	defer cancel()
	at := o.Attachment
	p := c.rec.Begin(8, Op{Kind: Remove, Volume: at.Volume, Place: at.Place(), Mode: at.Mode, Token: at.Token, Wait: liveGrace})
	results, err := ld.Remove(ctx, []state.Orphan{o})
	if len(results) == 0 {
		p.End(Failed(err))
		return
	}
	p.End(Ended(results[0], err))
}
