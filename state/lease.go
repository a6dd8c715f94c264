package state

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-storage/holdfast/failpoint"
)

const (
	// leaseRecords bounds the records of one lease. One lease a record halves
	// throughput and makes 100,000 ends up to 100 s late; thousands a lease
	// stall etcd when it revokes them (5,000 keys: up to 773 ms; docs/design.md, section 9).
	leaseRecords = 64
	// waitBudget is what a wait's lease has beyond the wait itself: a record
	// that is answered within it, counted from before the grant, has its whole
	// wait before it. The lease is handed out in the budget's first quarter.
	waitBudget = time.Second
	// handoutShare is the part of the budget in which the lease is handed out.
	handoutShare = 4
	// maxBudgetDoublings bounds how far a slow etcd stretches the budget.
	maxBudgetDoublings = 6
)

// slot is a place for one record on a lease.
type slot struct {
	id LeaseID
	// asked is when a wait's lease was asked for. Zero for a session's.
	asked time.Time
	// whole is when an answer is too late for a wait's record to have its whole
	// wait before it. Zero for a session's.
	whole time.Time
}

// late says that the wait of a record put on this slot may be cut short if its
// answer arrives now.
func (s slot) late() bool {
	return !s.whole.IsZero() && time.Now().After(s.whole) && !failpoint.Planted(failpoint.LeasePastPeriod)
}

// leases are what an operation's records go under: one for what it is about, one
// for the attachment that comes with it, and one for its journal entry. Zero
// where there is none.
type leases struct{ main, session, journal slot }

// granted is a lease as etcd has granted it.
type granted struct {
	lease LeaseID
	// fresh is until when it may be handed out without asking etcd.
	fresh time.Time
	// asked and whole are those of the slots of a wait's lease.
	asked, whole time.Time
}

// slot is a place on it.
func (g granted) slot() slot { return slot{id: g.lease, asked: g.asked, whole: g.whole} }

// maxAhead bounds the leases that a pool has ready: as many as requests are filled
// with while one is granted.
const maxAhead = 2 * requestsUnderWay

// pool hands out the slots of one lease after another. Its mutex is held while
// a lease is granted for a caller, so that callers at the same time share it.
// Leases that are filled quickly are granted ahead, so that nobody waits for them.
type pool struct {
	ledger *Ledger
	mu     sync.Mutex
	granted
	used int
	// ready are granted ahead of need, ahead is how many there should be, and
	// coming how many etcd is being asked for.
	ready         []granted
	ahead, coming int
}

// drop forgets a lease that etcd no longer knows, and those that were granted
// with it.
func (p *pool) drop(id LeaseID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lease == id {
		p.lease, p.ready = 0, nil
	}
}

// fill takes a slot of the lease that is being filled, or of the next one.
func (p *pool) fill(ctx context.Context, grant func(context.Context) (granted, error)) (slot, error) {
	filled := p.lease != 0 && p.used >= leaseRecords
	if p.lease == 0 || filled {
		if !p.next() {
			g, err := grant(ctx)
			if err != nil {
				return slot{}, err
			}
			p.granted, p.used = g, 0
			if filled {
				p.ahead = min(2*p.ahead+1, maxAhead)
			}
		}
	}
	p.used++
	p.prepare(grant)
	return p.slot(), nil
}

// next goes on with a lease that was granted ahead. One that nobody needed while
// it was fresh says that there are too many.
func (p *pool) next() bool {
	for len(p.ready) > 0 {
		g := p.ready[0]
		p.ready = p.ready[1:]
		if time.Now().Before(g.fresh) {
			p.granted, p.used = g, 0
			return true
		}
		p.ahead /= 2
	}
	return false
}

// prepare has leases granted ahead, where some are missing. What goes wrong with
// that is for whoever needs one to find out.
func (p *pool) prepare(grant func(context.Context) (granted, error)) {
	for ; len(p.ready)+p.coming < p.ahead; p.coming++ {
		started := p.ledger.writer.background(func(ctx context.Context) {
			g, err := grant(ctx)
			p.mu.Lock()
			defer p.mu.Unlock()
			p.coming--
			if err != nil {
				p.ahead = 0
				return
			}
			p.ready = append(p.ready, g)
		})
		if !started {
			return
		}
	}
}

// sessionPool hands out leases for the attachments of one cluster.
type sessionPool struct{ pool }

// take returns a slot of a lease with at least a third of the session TTL
// before it. It keeps nothing alive: that is for the cluster's keeper.
func (p *sessionPool) take(ctx context.Context) (slot, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lease != 0 && p.used < leaseRecords && time.Now().After(p.fresh) {
		p.look(ctx)
	}
	return p.fill(ctx, p.grant)
}

func (p *sessionPool) grant(ctx context.Context) (granted, error) {
	ttl := p.ledger.cfg.AttachmentTTL
	asked := time.Now()
	id, err := p.ledger.grant(ctx, ttl)
	return granted{lease: id, fresh: asked.Add(ttl * 2 / 3)}, err
}

// look asks whether a keeper has kept the lease alive, and forgets it if not.
func (p *sessionPool) look(ctx context.Context) {
	third := p.ledger.cfg.AttachmentTTL / 3
	asked := time.Now()
	left, err := p.ledger.TimeLeft(ctx, p.lease)
	if err != nil || left <= third {
		p.lease = 0
		return
	}
	p.fresh = asked.Add(left - third)
}

// waitPool hands out leases for waits: one pool a length of wait.
type waitPool struct {
	ledger *Ledger
	mu     sync.Mutex
	pools  map[waitKey]*pool
}

// waitKey tells pools apart. The budget is part of it, so that one slow caller
// does not make everyone's waits longer.
type waitKey struct {
	wait      time.Duration
	doublings int
}

// maxWaitPools bounds the pools: callers may choose a grace of their own each.
const maxWaitPools = 256

func newWaitPool(l *Ledger) *waitPool {
	return &waitPool{ledger: l, pools: map[waitKey]*pool{}}
}

// take returns a slot whose lease lasts for at least wait from any moment at
// which slot.late is still false. doublings stretch the budget, where an answer
// came too late before.
func (w *waitPool) take(ctx context.Context, wait time.Duration, doublings int) (slot, error) {
	k := waitKey{wait: wait, doublings: min(doublings, maxBudgetDoublings)}
	p := w.pool(k)
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Now().After(p.fresh) && !failpoint.Planted(failpoint.LeasePastPeriod) {
		p.lease = 0
	}
	return p.fill(ctx, func(ctx context.Context) (granted, error) { return w.grant(ctx, wait, k.doublings) })
}

// grant gets a new lease for a wait.
func (w *waitPool) grant(ctx context.Context, wait time.Duration, doublings int) (granted, error) {
	budget, asked := waitBudget<<doublings, time.Now()
	id, err := w.ledger.grant(ctx, wait+budget)
	return granted{lease: id, asked: asked, fresh: asked.Add(budget / handoutShare), whole: asked.Add(budget)}, err
}

// takeMany is take for n records at a time. Where they fill most of a lease they
// get leases of their own, for which nobody else has to wait.
func (w *waitPool) takeMany(ctx context.Context, wait time.Duration, doublings, n int) ([]slot, error) {
	own, rest := n/leaseRecords, n%leaseRecords
	if rest > leaseRecords/2 {
		own, rest = own+1, 0
	}
	slots := make([]slot, 0, n)
	leases := make([]granted, own)
	errs := make([]error, own)
	var joined sync.WaitGroup
	for i := range own {
		joined.Go(func() { leases[i], errs[i] = w.grant(ctx, wait, doublings) })
	}
	joined.Wait()
	for _, g := range leases {
		for range min(leaseRecords, n-len(slots)-rest) {
			slots = append(slots, g.slot())
		}
	}
	err := errors.Join(errs...)
	for len(slots) < n && err == nil {
		var s slot
		s, err = w.take(ctx, wait, doublings)
		slots = append(slots, s)
	}
	return slots, err
}

// retain takes a slot for a journal entry.
func (l *Ledger) retain(ctx context.Context) (slot, error) {
	return l.waits.take(ctx, l.cfg.JournalRetention, 0)
}

func (w *waitPool) pool(k waitKey) *pool {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.pools[k]
	if p == nil {
		if len(w.pools) >= maxWaitPools {
			clear(w.pools)
		}
		p = &pool{ledger: w.ledger}
		w.pools[k] = p
	}
	return p
}

// drop forgets a lease that etcd no longer knows.
func (w *waitPool) drop(id LeaseID) {
	w.mu.Lock()
	pools := make([]*pool, 0, len(w.pools))
	for _, p := range w.pools {
		pools = append(pools, p)
	}
	w.mu.Unlock()
	for _, p := range pools {
		p.drop(id)
	}
}

// noSpace is what etcd has said to one of those who share a request: that there
// is no space for a lease. The others came before that, and need not ask.
type noSpace struct{ err error }

type noSpaceKey struct{}

// sharingNoSpace is for one goroutine.
func sharingNoSpace(ctx context.Context) context.Context {
	return context.WithValue(ctx, noSpaceKey{}, new(noSpace))
}

// grant asks etcd for a lease of at least ttl.
func (l *Ledger) grant(ctx context.Context, ttl time.Duration) (LeaseID, error) {
	shared, sharing := ctx.Value(noSpaceKey{}).(*noSpace)
	if sharing && shared.err != nil {
		return 0, shared.err
	}
	seconds := int64((ttl + time.Second - 1) / time.Second)
	var id clientv3.LeaseID
	err := l.again(ctx, func(ctx context.Context) (*pb.ResponseHeader, error) {
		resp, err := l.client.Grant(ctx, seconds)
		if err != nil {
			return nil, err
		}
		id = resp.ID
		return resp.ResponseHeader, nil
	})
	if err != nil {
		err = fmt.Errorf("granting a lease of %d s: %w", seconds, err)
		if sharing && errors.Is(err, ErrNoSpace) {
			shared.err = err
		}
		return 0, err
	}
	l.metrics.leaseGranted()
	return LeaseID(id), nil
}

// LeaseAge is how long ago etcd granted a lease that nobody keeps alive, in
// whole seconds, by etcd's clock and no other. It may be too small: a leader
// change of etcd starts every lease afresh. ErrNotFound where the lease is gone.
func (l *Ledger) LeaseAge(ctx context.Context, id LeaseID) (time.Duration, error) {
	var age int64
	err := l.again(ctx, func(ctx context.Context) (*pb.ResponseHeader, error) {
		resp, err := l.client.TimeToLive(ctx, clientv3.LeaseID(id))
		if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return nil, err
		}
		if age = -1; err == nil && resp.TTL >= 0 {
			age = max(resp.GrantedTTL-resp.TTL, 0)
		}
		return nil, nil // no header check: as TimeLeft
	})
	switch {
	case err != nil:
		return 0, fmt.Errorf("reading lease %s: %w", id, err)
	case age < 0:
		return 0, fmt.Errorf("%w: lease %s", ErrNotFound, id)
	}
	return time.Duration(age) * time.Second, nil
}

// TimeLeft is what etcd says is left of a lease, in whole seconds, and 0 when
// there is none. A leader change of etcd makes it longer, never shorter.
func (l *Ledger) TimeLeft(ctx context.Context, id LeaseID) (time.Duration, error) {
	if id == 0 {
		return 0, nil
	}
	var left int64
	err := l.again(ctx, func(ctx context.Context) (*pb.ResponseHeader, error) {
		resp, err := l.client.TimeToLive(ctx, clientv3.LeaseID(id))
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			left = 0
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		left = resp.TTL
		// No header check: a lease's answer may come from a member that lags.
		return nil, nil
	})
	if err != nil {
		return 0, fmt.Errorf("reading lease %s: %w", id, err)
	}
	return time.Duration(max(left, 0)) * time.Second, nil
}
