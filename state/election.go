package state

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// Leadership is the lead of a cluster's controllers. What is done with it
// compares its election key, so that a leader which was stopped for longer than
// its election can do nothing when it goes on.
type Leadership struct {
	c        *Cluster
	session  *concurrency.Session
	election *concurrency.Election
	key      string
	revision int64
	lost     atomic.Bool
	// witnessed is the revision of the witness that it put last; 0 before the first.
	witnessed atomic.Int64
}

// Campaign waits until this process leads the cluster's controllers, or ctx
// ends. id says who leads, for whoever looks at the key. The lead lasts until
// Done; Resign gives it up.
func (c *Cluster) Campaign(ctx context.Context, id string) (*Leadership, error) {
	if err := errors.Join(c.ledger.writable(), c.CheckIdentity(ctx), validateText("id", id)); err != nil {
		return nil, err
	}
	var wait backoff
	for {
		ld, err := c.campaign(ctx, id)
		if err == nil {
			return ld, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if f, mapped := c.ledger.classify(err); f == refused {
			return nil, fmt.Errorf("campaigning for the lead of cluster %s: %w", c.name, mapped)
		}
		c.ledger.log.Warn("campaign broken off, trying again", "cluster", c.name, "error", err)
		if err := wait.wait(ctx); err != nil {
			return nil, err
		}
	}
}

// campaign is one candidacy. It ends with its session: a member that is cut
// off lets the session end, and the candidacy must not hang on.
func (c *Cluster) campaign(ctx context.Context, id string) (*Leadership, error) {
	ttl := int((c.ledger.cfg.ElectionTTL + time.Second - 1) / time.Second)
	granted, cancelGrant := context.WithTimeout(ctx, c.ledger.cfg.RequestTimeout)
	lease, err := c.ledger.client.Grant(granted, int64(ttl))
	cancelGrant()
	if err != nil {
		return nil, err
	}
	// The session outlives the campaign's ctx: Resign ends it.
	session, err := concurrency.NewSession(c.ledger.client, concurrency.WithLease(lease.ID), concurrency.WithContext(c.ledger.writer.ctx))
	if err != nil {
		return nil, err
	}
	election := concurrency.NewElection(session, c.ledger.keys.election(c.name))
	if err := c.win(ctx, session, election, id); err != nil {
		c.endSession(session)
		return nil, err
	}
	c.ledger.metrics.leading(c.name, true)
	return &Leadership{c: c, session: session, election: election, key: election.Key(), revision: election.Rev()}, nil
}

// win waits for the candidacy's outcome, but not beyond ctx or the session:
// the library's Campaign, when it is cancelled, waits for an etcd that may be away.
func (c *Cluster) win(ctx context.Context, session *concurrency.Session, election *concurrency.Election, id string) error {
	candidacy, stop := context.WithCancel(ctx)
	defer stop()
	won := make(chan error, 1)
	c.ledger.background.Go(func() { won <- election.Campaign(candidacy, id) })
	select {
	case err := <-won:
		return err
	case <-session.Done():
		return fmt.Errorf("%w: the candidacy's session ended", ErrUnavailable)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// endSession gives up the session's lease. It does not wait for an etcd that is
// away: the lease ends by itself.
func (c *Cluster) endSession(session *concurrency.Session) {
	session.Orphan()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_, _ = c.ledger.client.Revoke(ctx, session.Lease())
}

// Done is closed when the election's lease can no longer be kept alive.
func (ld *Leadership) Done() <-chan struct{} { return ld.session.Done() }

// Revision is the create revision of the election key: it grows from leader to leader.
func (ld *Leadership) Revision() int64 { return ld.revision }

// Confirm asks etcd whether this is still the lead: ErrNotLeader if not.
func (ld *Leadership) Confirm(ctx context.Context) error {
	if err := ld.leads(); err != nil {
		return err
	}
	resp, err := ld.c.ledger.look(ctx, []*pb.RequestOp{ld.read()})
	if err != nil {
		return err
	}
	return ld.learn(resp.Responses[0].GetResponseRange().Kvs)
}

// Resign gives the lead up, so that another can take it at once. It waits at
// most a second for etcd.
func (ld *Leadership) Resign() {
	ld.lost.Store(true)
	ld.c.endSession(ld.session)
	ld.c.ledger.metrics.leading(ld.c.name, false)
}

// compares: our key is the one that won, and no candidate stands before it. The
// second keeps a key that has not won from passing for the leader's.
func (ld *Leadership) compares() []*pb.Compare {
	begin, end := ld.c.ledger.keys.under(kindElection, ld.c.name)
	return []*pb.Compare{created(ld.key, ld.revision), noneBefore(begin, end, ld.revision)}
}

func (ld *Leadership) read() *pb.RequestOp {
	begin, end := ld.c.ledger.keys.under(kindElection, ld.c.name)
	return opGetKeys(begin, end)
}

func (ld *Leadership) learn(kvs []*mvccpb.KeyValue) error {
	own := false
	for _, kv := range kvs {
		if kv.CreateRevision < ld.revision {
			return ld.lose("another candidate stands before it")
		}
		own = own || string(kv.Key) == ld.key && kv.CreateRevision == ld.revision
	}
	if !own {
		return ld.lose("its election key is gone")
	}
	return nil
}

func (ld *Leadership) lose(why string) error {
	ld.lost.Store(true)
	return fmt.Errorf("%w of cluster %s any more: %s", ErrNotLeader, ld.c.name, why)
}

// leads refuses early what a lost lead could only have refused by etcd.
func (ld *Leadership) leads() error {
	select {
	case <-ld.Done():
		return ld.lose("its session has ended")
	default:
	}
	if ld.lost.Load() {
		return fmt.Errorf("%w of cluster %s any more", ErrNotLeader, ld.c.name)
	}
	return nil
}
