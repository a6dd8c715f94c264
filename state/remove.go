package state

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-storage/holdfast/failpoint"
)

// MaxBatch bounds the orphans of one Remove.
const MaxBatch = 60

// removalDoublings stretches the budget of a removal's waits to 8 s: it is sent
// once, up to 2 s after the lease was granted, with the live check's deadline of
// at most 5 s, and is not looked after.
const removalDoublings = 2

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
	// Err is set by Evict for a hold whose outcome is an error; beside Ended it is an
	// ErrShortWait.
	Err error `json:"-"`
}

// Remove ends the holds of orphans, of distinct volumes, in one request, each
// only if all that it was judged by is still so: one conflict vetoes only
// itself. Nothing is sent again: the request's deadline is ctx's, which must
// have one, and what is not known to have ended has to be judged anew.
//
// The whole request is refused with ErrNotLeader, ErrFrozen, ErrPaused,
// ErrClusterMismatch, ErrUnknownOutcome, ErrNoSpace or ErrUnavailable.
func (ld *Leadership) Remove(ctx context.Context, orphans []Orphan) ([]EndResult, error) {
	l := ld.c.ledger
	if _, ok := ctx.Deadline(); !ok {
		return nil, fmt.Errorf("%w context: expected one with a deadline, the live check's", ErrInvalid)
	}
	if err := errors.Join(l.writable(), ld.leads(), distinct(orphans)); err != nil || len(orphans) == 0 {
		return nil, err
	}
	return measured(l, "remove", func() ([]EndResult, error) {
		ops, err := ld.removals(ctx, orphans)
		if err != nil {
			return nil, err
		}
		g := guard{cluster: ld.c, ledger: true, leader: ld, witness: true, unpaused: true}
		for {
			if err := g.ready(ctx, l); err != nil {
				return nil, err
			}
			ifs, _ := g.compares(l)
			sent := l.seen.Load()
			failpoint.Reach(ctx, failpoint.Sending)
			resp, err := l.client.Txn(ctx).If(ifs...).Then(ops...).Else(g.reads(l)...).Commit()
			if err != nil {
				f, err := l.classify(err)
				return nil, outcome(f == ambiguous, err)
			}
			if err := l.observe(resp.Header, sent+written(resp.Responses)); err != nil {
				return nil, outcome(true, err)
			}
			if resp.Succeeded {
				return ld.results(orphans, resp), nil
			}
			if err := g.learn(l, resp); err != nil {
				return nil, err
			}
		}
	})
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

// removals builds the nested transactions.
func (ld *Leadership) removals(ctx context.Context, orphans []Orphan) ([]clientv3.Op, error) {
	l := ld.c.ledger
	at := now()
	ops := make([]clientv3.Op, len(orphans))
	for i, o := range orphans {
		grace, err := l.waits.take(ctx, l.cfg.GracePeriod, removalDoublings)
		if err != nil {
			return nil, err
		}
		journal, err := l.retain(ctx)
		if err != nil {
			return nil, err
		}
		ops[i] = ld.removal(o, at, grace, journal)
	}
	return ops, nil
}

func (ld *Leadership) removal(o Orphan, at time.Time, grace, journal slot) clientv3.Op {
	l, k, c := ld.c.ledger, ld.c.ledger.keys, ld.c.name
	v, n, m := o.Attachment.Volume, o.Attachment.Node, o.Attachment.Mode
	h := Hold{Volume: v, Cluster: c, Node: n, Mode: m}
	d := Detachment{
		Volume: v, Cluster: c, Node: n, Mode: m, Token: o.Attachment.Token, At: at,
		Grace: l.cfg.GracePeriod, Reason: "removed: " + string(o.Departure.Reason), By: l.cfg.By,
	}
	ev := o.Evidence
	ev.AttachmentRevision, ev.DepartureRevision, ev.LeaderRevision = o.Attachment.ModRevision, o.Departure.ModRevision, ld.revision
	ev.NodeUID = o.Attachment.NodeUID
	entry := entryValue{
		At: at, Action: ActionRemoved, Volume: v, Node: n, Mode: m, Token: o.Attachment.Token,
		Reason: string(o.Departure.Reason), By: l.cfg.By, Evidence: &ev,
	}
	ifs := []clientv3.Cmp{
		unchanged(k.attachment(c, n, v), o.Attachment.ModRevision),
		created(k.hold(v, m, c, n), o.Attachment.Token.Revision()),
		absent(k.detachment(v, Exclusive, c, n)),
		absent(k.detachment(v, Shared, c, n)),
		absent(k.quarantine(c, n)),
	}
	if !failpoint.Planted(failpoint.DropDepartureCompare) {
		ifs = append(ifs, unchanged(k.departure(c, n), o.Departure.ModRevision))
	}
	return clientv3.OpTxn(ifs,
		append(l.endOps(h, d, grace), l.journalPut(c, newID(), entry, journal)),
		[]clientv3.Op{
			clientv3.OpGet(k.attachment(c, n, v), clientv3.WithKeysOnly()),
			clientv3.OpGet(k.hold(v, m, c, n), clientv3.WithKeysOnly()),
			clientv3.OpGet(k.detachment(v, Exclusive, c, n), clientv3.WithKeysOnly()),
			clientv3.OpGet(k.detachment(v, Shared, c, n), clientv3.WithKeysOnly()),
			clientv3.OpGet(k.departure(c, n), clientv3.WithKeysOnly()),
		})
}

func (ld *Leadership) results(orphans []Orphan, resp *clientv3.TxnResponse) []EndResult {
	out := make([]EndResult, len(orphans))
	for i, o := range orphans {
		out[i] = EndResult{Volume: o.Attachment.Volume, Node: o.Attachment.Node}
		answer := resp.Responses[i].GetResponseTxn()
		if answer.Succeeded {
			out[i].Ended = true
			continue
		}
		out[i].Refused = refusal(o, answer.Responses)
	}
	return out
}

// refusal says which of a removal's compares failed, by the records read in
// its place.
func refusal(o Orphan, reads []*pb.ResponseOp) string {
	mod := func(i int) int64 {
		for _, kv := range reads[i].GetResponseRange().Kvs {
			return kv.ModRevision
		}
		return 0
	}
	var holdCreated int64
	for _, kv := range reads[1].GetResponseRange().Kvs {
		holdCreated = kv.CreateRevision
	}
	switch {
	case mod(0) != o.Attachment.ModRevision:
		return RefusedAttachment
	case holdCreated != o.Attachment.Token.Revision():
		return RefusedHold
	case mod(2) != 0 || mod(3) != 0:
		return RefusedGrace
	case mod(4) != o.Departure.ModRevision:
		return RefusedDeparture
	}
	return RefusedQuarantine
}
