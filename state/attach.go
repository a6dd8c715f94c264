package state

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/holdfast-storage/holdfast/failpoint"
)

// AttachRequest asks for a hold.
type AttachRequest struct {
	Volume string
	Node   string
	// Mode is Exclusive if empty.
	Mode Mode
	// NodeUID is the Node object's UID, where known. With Config.MatchNodeUID a
	// hold of the same node under another UID is a conflict.
	NodeUID string
	// IgnoreGrace attaches although another cluster has just detached the
	// volume, and deletes its detachments. It leaves a journal entry with Why.
	IgnoreGrace bool
	Why         string
}

// Attach gives a node of the cluster a hold of a volume, in one round trip.
// Where the node has it already, in the same mode, it answers that hold: the
// call is idempotent, and stands by the hold anew.
//
// It fails with a *ConflictError if the volume is held otherwise, a *GraceError
// in another cluster's grace period, ErrFrozen, ErrClusterMismatch,
// ErrUnknownOutcome (call again), ErrNoSpace, ErrUnavailable or ErrInvalid.
func (c *Cluster) Attach(ctx context.Context, req AttachRequest) (Hold, error) {
	if req.Mode == "" {
		req.Mode = Exclusive
	}
	if err := errors.Join(ValidateVolume(req.Volume), ValidateNode(req.Node), validateMode(req.Mode),
		validateText("node UID", req.NodeUID), validateText("why", req.Why)); err != nil {
		return Hold{}, err
	}
	return measured(c.ledger, "attach", func() (Hold, error) {
		for {
			op := &attach{c: c, req: req, since: now()}
			if _, err := c.ledger.do(ctx, c.guard(true), req.Volume, op); err != nil {
				return Hold{}, c.ledger.explained(ctx, err)
			}
			if !op.again {
				return op.hold, nil
			}
			// Our own hold, but not as the common path can put it right: its
			// attachment is gone, or the UID had to be looked at first.
			err := c.stand(ctx, op.hold, op.attachment)
			if !errors.Is(err, errMoved) {
				return op.hold, err
			}
		}
	})
}

// attach is the operation behind Attach.
type attach struct {
	c     *Cluster
	req   AttachRequest
	since time.Time

	hold       Hold
	again      bool  // the hold was there, and stand has to finish
	attachment int64 // its ModRevision then, 0 for none
}

func (o *attach) take(ctx context.Context) (leases, error) {
	session, err := o.c.sessions.take(ctx)
	if err != nil || !o.req.IgnoreGrace {
		return leases{session: session}, err
	}
	journal, err := o.c.ledger.retain(ctx)
	return leases{session: session, journal: journal}, err
}

// free compares that nothing stands in the way of a new hold: no hold that
// excludes it, or is our own, no other cluster's grace, and no end of our own
// node's hold that is newer than what we knew when we were called.
func (o *attach) free(a attempt) []*pb.Compare {
	k := o.c.ledger.keys
	v, me := o.req.Volume, o.c.name
	held := []string{v}
	var ifs []*pb.Compare
	if o.req.Mode == Shared {
		held = append(held, Exclusive.Letter())
		// Put again, our own hold would keep its create revision, and so its token.
		ifs = append(ifs, absent(k.hold(v, Shared, me, o.req.Node)))
	}
	if !failpoint.Planted(failpoint.DropHoldCompare) {
		ifs = append(ifs, emptyRange(k.under(kindHold, held...)))
	}
	if a.rested && o.req.Mode == Exclusive && !o.req.IgnoreGrace && !failpoint.Planted(failpoint.DropR) && !failpoint.Planted(failpoint.DropGraceCompare) {
		return append(ifs, emptyRange(k.under(kindDetachment, v, Exclusive.Letter())))
	}
	if !failpoint.Planted(failpoint.DropR) {
		ifs = append(ifs, notAfter(k.detachment(v, o.req.Mode, me, o.req.Node), a.r))
	}
	if !o.req.IgnoreGrace && !failpoint.Planted(failpoint.DropGraceCompare) {
		all, allEnd := k.under(kindDetachment, v, Exclusive.Letter())
		own, ownEnd := k.under(kindDetachment, v, Exclusive.Letter(), me)
		ifs = append(ifs, emptyRange(all, own), emptyRange(ownEnd, allEnd))
	}
	return ifs
}

func (o *attach) branch(a attempt) *pb.TxnRequest {
	k := o.c.ledger.keys
	v, m, me, n := o.req.Volume, o.req.Mode, o.c.name, o.req.Node
	hold, attachment := k.hold(v, m, me, n), k.attachment(me, n, v)
	txn := &pb.TxnRequest{Compare: o.free(a), Success: []*pb.RequestOp{
		opPut(hold, encode(holdValue{NodeUID: o.req.NodeUID, Epoch: a.epoch, Since: o.since, By: o.c.ledger.cfg.By})),
		opLeased(attachment, encode(attachmentValue{Mode: m, NodeUID: o.req.NodeUID, Epoch: a.epoch, Since: o.since}), a.leases.session),
	}}
	if o.req.IgnoreGrace {
		txn.Success = append(txn.Success, o.force(a)...)
	}
	if !a.asks {
		return txn
	}
	look := k.reading(v)
	if o.c.ledger.cfg.MatchNodeUID {
		// The UID decides, and only the caller can compare it: stand follows.
		txn.Failure = append(look, opGet(attachment))
		return txn
	}
	// Our own hold and attachment are there: putting the attachment again makes
	// a removal that was judged before fail.
	standBy := opRelease(attachment, a.leases.session)
	if failpoint.Planted(failpoint.SilentReattach) {
		standBy = opGet(attachment)
	}
	txn.Failure = []*pb.RequestOp{opNested(&pb.TxnRequest{
		Compare: []*pb.Compare{exists(hold), exists(attachment)},
		Success: []*pb.RequestOp{standBy, opGet(hold)},
		Failure: append(look, opGet(attachment)),
	})}
	return txn
}

// force deletes the grace of the other clusters and says so in the journal.
func (o *attach) force(a attempt) []*pb.RequestOp {
	k := o.c.ledger.keys
	all, allEnd := k.under(kindDetachment, o.req.Volume, Exclusive.Letter())
	own, ownEnd := k.under(kindDetachment, o.req.Volume, Exclusive.Letter(), o.c.name)
	entry := entryValue{
		At: o.since, Action: ActionForced, Volume: o.req.Volume, Node: o.req.Node, Mode: o.req.Mode,
		Reason: "attached within another cluster's grace", By: o.c.ledger.cfg.By, Why: o.req.Why,
	}
	return []*pb.RequestOp{
		opDeleteRange(all, own),
		opDeleteRange(ownEnd, allEnd),
		opLeased(k.journal(o.c.name, newID()), encode(entry), a.leases.journal),
	}
}

func (o *attach) settle(a attempt, answer *pb.TxnResponse) error {
	if answer.Succeeded {
		o.hold = Hold{
			Volume: o.req.Volume, Cluster: o.c.name, Node: o.req.Node, Mode: o.req.Mode, NodeUID: o.req.NodeUID,
			Since: o.since, By: o.c.ledger.cfg.By, Token: NewToken(a.epoch, a.revision), Revision: a.revision,
		}
		return nil
	}
	k := o.c.ledger.keys
	responses := answer.Responses
	if !o.c.ledger.cfg.MatchNodeUID {
		mine := answer.Responses[0].GetResponseTxn()
		responses = mine.Responses
		if mine.Succeeded {
			kv := responses[1].GetResponseRange().Kvs[0]
			o.hold = toHold(key{kind: kindHold, volume: o.req.Volume, mode: o.req.Mode, cluster: o.c.name, node: o.req.Node}, kv)
			return nil
		}
	}
	v := k.volume(o.req.Volume, a.revision, responses)
	return o.refuse(v, responses[len(responses)-1].GetResponseRange())
}

// refuse says what stood in the way, or finds our own hold.
func (o *attach) refuse(v *Volume, attachment *pb.RangeResponse) error {
	var others []Hold
	for _, h := range v.Holds {
		if h.Cluster == o.c.name && h.Node == o.req.Node && h.Mode == o.req.Mode {
			if o.c.ledger.cfg.MatchNodeUID && h.NodeUID != o.req.NodeUID {
				return &ConflictError{Volume: v.Name, Holders: []Hold{h}, Revision: v.Revision,
					Detail: "the node is held under UID " + orNone(h.NodeUID) + ", and the attach names " + orNone(o.req.NodeUID)}
			}
			o.hold, o.again = h, true
			if len(attachment.Kvs) == 1 {
				o.attachment = attachment.Kvs[0].ModRevision
			}
			return nil
		}
		if o.req.Mode == Exclusive || h.Mode == Exclusive {
			others = append(others, h)
		}
	}
	if len(others) > 0 || len(v.unknown) > 0 {
		return v.conflict(others)
	}
	if foreign := v.foreignGraces(o.c.name); len(foreign) > 0 && !o.req.IgnoreGrace {
		return &GraceError{Volume: v.Name, Detachments: foreign, Revision: v.Revision}
	}
	return errPast
}

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }
