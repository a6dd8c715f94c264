package state

import (
	"context"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/holdfast-storage/holdfast/failpoint"
)

// MaxBatch bounds the orphans of one Remove: whole groups of one node's.
const MaxBatch = 4 * groupOrphans

// removalsAtOnce bounds the requests of removals that are under way. They need none
// of the writer's, for whose calls etcd carries out no more than these first: some
// milliseconds' work.
const removalsAtOnce = 4

// removalDoublings stretches the budget of a removal's waits to 8 s: it is sent
// once, up to 2 s after the lease was granted, with the live check's deadline of
// at most 5 s, and is not looked after.
const removalDoublings = 3

// Orphan is an attachment that no node stands behind, and what that was judged by.
type Orphan struct {
	Attachment Attachment
	// Departure is the node's, whose quarantine is over.
	Departure Departure
	// Evidence goes into the journal; Remove fills in the revisions.
	Evidence Evidence
}

// Why a member of a removal or an eviction was refused. The set is closed.
const (
	RefusedAttachment = "attachment-changed"
	RefusedHold       = "hold-changed"
	RefusedGrace      = "in-grace"
	RefusedDeparture  = "departure-changed"
	RefusedQuarantine = "in-quarantine"
	RefusedStanding   = "attachment-present"
)

// EndResult tells of one member of a removal or an eviction.
type EndResult struct {
	Volume string `json:"volume"`
	Node   string `json:"node"`
	Ended  bool   `json:"ended"`
	// Refused says what had changed since it was judged; empty if it ended.
	Refused string `json:"refused,omitempty"`
	// Err is set where the member's outcome is an error. Of Evict's, beside Ended, it
	// is an ErrShortWait.
	Err error `json:"-"`
}

// Remove ends the holds of orphans, of distinct volumes, each only if all that it
// was judged by is still so: one conflict vetoes only itself. A node's end
// together, in one request, and leave one journal entry; those of a group in which
// one was vetoed go singly, in another. Nothing is sent again: the requests'
// deadline is ctx's, which must have one, and what is not known to have ended has
// to be judged anew.
//
// The whole of it is refused with ErrNotLeader, ErrFrozen, ErrPaused,
// ErrClusterMismatch, ErrUnknownOutcome, ErrNoSpace or ErrUnavailable. Beside
// results such an error is only about the members that it is the Err of.
func (ld *Leadership) Remove(ctx context.Context, orphans []Orphan) ([]EndResult, error) {
	l := ld.c.ledger
	if _, ok := ctx.Deadline(); !ok {
		return nil, fmt.Errorf("%w context: expected one with a deadline, the live check's", ErrInvalid)
	}
	if err := errors.Join(l.writable(), ld.leads(), distinct(orphans)); err != nil || len(orphans) == 0 {
		return nil, err
	}
	return measured(l, "remove", func() ([]EndResult, error) {
		r := &removing{lead: ld, orphans: orphans, results: make([]EndResult, len(orphans))}
		for i, o := range orphans {
			r.results[i] = EndResult{Volume: o.Attachment.Volume, Node: o.Attachment.Node}
		}
		vetoed, err := r.send(ctx, grouped(orphans))
		if err != nil {
			r.fail(vetoed, err)
		} else if len(vetoed) > 0 {
			_, err = r.send(ctx, vetoed)
		}
		if !r.answered {
			return nil, err
		}
		return r.results, err
	})
}

// commit sends one request, once, and again only where its guard was out of date.
func (ld *Leadership) commit(ctx context.Context, ops []*pb.RequestOp) (*pb.TxnResponse, error) {
	l := ld.c.ledger
	select {
	case l.removals <- struct{}{}:
		defer func() { <-l.removals }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w, before the removal's turn came", ErrUnavailable, ctx.Err())
	}
	g := guard{cluster: ld.c, ledger: true, leader: ld, witness: true, unpaused: true}
	for {
		if err := g.ready(ctx, l); err != nil {
			return nil, err
		}
		ifs, _ := g.compares(l)
		sent := l.seen.Load()
		failpoint.Reach(ctx, failpoint.Sending)
		resp, err := l.transact(ctx, &pb.TxnRequest{Compare: ifs, Success: ops, Failure: g.reads(l)})
		if err != nil {
			f, err := l.classify(err)
			return nil, outcome(f == ambiguous, err)
		}
		if err := l.observe(resp.Header, sent+written(resp.Responses)); err != nil {
			return nil, outcome(true, err)
		}
		if resp.Succeeded {
			return resp, nil
		}
		if err := g.learn(l, resp); err != nil {
			return nil, err
		}
	}
}

func distinct(orphans []Orphan) error {
	if len(orphans) > MaxBatch {
		return fmt.Errorf("%w removal: expected at most %d orphans, and it has %d", ErrInvalid, MaxBatch, len(orphans))
	}
	volumes := make(map[string]bool, len(orphans))
	for _, o := range orphans {
		switch {
		case volumes[o.Attachment.Volume]:
			return fmt.Errorf("%w removal: expected distinct volumes, and it has %q twice", ErrInvalid, o.Attachment.Volume)
		case o.Attachment.Broken != nil:
			return o.Attachment.Broken
		case o.Departure.ModRevision == 0:
			return fmt.Errorf("%w removal of volume %q: expected the departure of node %s as it was read", ErrInvalid, o.Attachment.Volume, o.Attachment.Node)
		}
		volumes[o.Attachment.Volume] = true
	}
	return nil
}
