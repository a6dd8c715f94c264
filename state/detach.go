package state

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-multierror"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/holdfast-storage/holdfast/failpoint"
)

// DetachRequest asks for the end of a hold.
type DetachRequest struct {
	Volume string
	Node   string
	// Token makes it end exactly that hold; 0 ends whichever the node has.
	Token Token
	// Mode is the hold's, where it is known. It says which is tried first: a hold of
	// the other mode ends too, in one round trip more. Exclusive if empty.
	Mode Mode
	// Grace is the length of the grace period; 0 means Config.GracePeriod.
	Grace time.Duration
	// Reason goes into the detachment; default "detached".
	Reason string
}

// Ended tells of a hold that has ended.
type Ended struct {
	// Existed is false where there was nothing to end, which is a success too.
	Existed bool `json:"existed"`
	// Detachment is what the end left. Its token is 0 where it was not known.
	Detachment Detachment `json:"detachment"`
}

// Detach ends the hold of a node of the cluster, in one round trip, and begins
// the volume's grace period. Where the node has none it succeeds: the call is
// idempotent. It goes on while the ledger is frozen.
//
// It fails with ErrStaleToken if the hold is not the one of the request's
// token, ErrInvalid (an empty node is never taken to mean every node: see
// DetachAll), ErrClusterMismatch, ErrUnknownOutcome (call again), ErrNoSpace or
// ErrUnavailable. Beside an Ended that existed an error is an ErrShortWait: the
// hold has ended.
func (c *Cluster) Detach(ctx context.Context, req DetachRequest) (Ended, error) {
	if req.Mode == "" {
		req.Mode = Exclusive
	}
	if err := errors.Join(ValidateVolume(req.Volume), ValidateNode(req.Node), validateMode(req.Mode)); err != nil {
		return Ended{}, err
	}
	if err := c.ledger.defaultGrace(&req.Grace, &req.Reason); err != nil {
		return Ended{}, err
	}
	return measured(c.ledger, "detach", func() (Ended, error) {
		if req.Token != 0 {
			if err := c.checkEpoch(ctx, req); err != nil {
				return Ended{}, err
			}
		}
		op := &detach{c: c, req: req, at: now()}
		if _, err := c.ledger.do(ctx, c.guard(false), req.Volume, op); err != nil || !op.ended.Existed {
			return Ended{}, err
		}
		return op.ended, c.ledger.wholeWait(ctx, c.guard(false), op.begun, c.ledger.detachmentPut(op.ended.Detachment))
	})
}

// defaultGrace fills in and checks the grace of an end.
func (l *Ledger) defaultGrace(grace *time.Duration, reason *string) error {
	if *grace == 0 {
		*grace = l.cfg.GracePeriod
	}
	if *reason == "" {
		*reason = "detached"
	}
	if *grace < 0 || *grace > maxLeaseTTL {
		return invalid("grace period", grace.String(), fmt.Sprintf("a duration above zero and up to %s", maxLeaseTTL))
	}
	if *grace < l.floor {
		return tooShort("grace period", *grace, l.floor)
	}
	return validateText("reason", *reason)
}

// checkEpoch covers what a compare of revisions cannot see: a token of another
// epoch whose revision has come again after a restore.
func (c *Cluster) checkEpoch(ctx context.Context, req DetachRequest) error {
	if req.Token.Epoch() == c.ledger.record.Load().Epoch {
		return nil
	}
	v, err := c.ledger.Volume(ctx, req.Volume)
	if err != nil {
		return err
	}
	for _, h := range v.Holds {
		if h.Cluster == c.name && h.Node == req.Node && h.Token != req.Token {
			return staleToken(h, req.Token)
		}
	}
	return nil
}

func staleToken(h Hold, given Token) error {
	return fmt.Errorf("%w %s: node %s of cluster %s holds volume %q under token %s (%s, since %s)",
		ErrStaleToken, given, h.Node, h.Cluster, h.Volume, h.Token, h.Mode, h.Since.Format(time.RFC3339))
}

// detach is the operation behind Detach.
type detach struct {
	c   *Cluster
	req DetachRequest
	at  time.Time

	ended Ended
	begun begun
}

func (o *detach) take(ctx context.Context) (leases, error) {
	main, err := o.c.ledger.waits.take(ctx, o.req.Grace, 0)
	return leases{main: main}, err
}

func (o *detach) branch(a attempt) *pb.TxnRequest {
	k := o.c.ledger.keys
	first, second := o.modes()
	txn := o.end(a, first)
	if !a.asks {
		// No migration to end is the same to the caller, and less for etcd to do.
		txn.Compare = append(txn.Compare, absent(k.migration(o.req.Volume)))
		txn.Success = slices.Delete(txn.Success, endsMigration, endsMigration+1)
		return txn
	}
	other := o.end(a, second)
	other.Failure = []*pb.RequestOp{
		opGet(k.hold(o.req.Volume, Exclusive, o.c.name, o.req.Node)),
		opGet(k.hold(o.req.Volume, Shared, o.c.name, o.req.Node)),
		opGet(k.detachment(o.req.Volume, Exclusive, o.c.name, o.req.Node)),
		opGet(k.detachment(o.req.Volume, Shared, o.c.name, o.req.Node)),
	}
	txn.Failure = []*pb.RequestOp{opNested(other)}
	return txn
}

// modes are the two in the order in which they are tried.
func (o *detach) modes() (first, second Mode) {
	if o.req.Mode == Shared {
		return Shared, Exclusive
	}
	return Exclusive, Shared
}

// end is the transaction that ends the node's hold in one mode.
func (o *detach) end(a attempt, m Mode) *pb.TxnRequest {
	hold := o.c.ledger.keys.hold(o.req.Volume, m, o.c.name, o.req.Node)
	ifs := createdBy(hold, a.r)
	if failpoint.Planted(failpoint.DropR) {
		ifs = []*pb.Compare{exists(hold)}
	}
	if o.req.Token != 0 && !failpoint.Planted(failpoint.DropTokenCompare) {
		ifs = []*pb.Compare{created(hold, o.req.Token.Revision())}
	}
	h := Hold{Volume: o.req.Volume, Mode: m, Cluster: o.c.name, Node: o.req.Node}
	return &pb.TxnRequest{Compare: ifs, Success: o.c.ledger.endOps(h, o.detachment(m), a.leases.main)}
}

func (o *detach) detachment(m Mode) Detachment {
	return Detachment{
		Volume: o.req.Volume, Mode: m, Cluster: o.c.name, Node: o.req.Node,
		Token: o.req.Token, At: o.at, Grace: o.req.Grace, Reason: o.req.Reason, By: o.c.ledger.cfg.By,
	}
}

// endsMigration is where endOps deletes the migration's window.
const endsMigration = 2

// endOps ends a hold: what every end does, whoever decides it. What it deletes
// of a migration ends that too.
func (l *Ledger) endOps(h Hold, d Detachment, s slot) []*pb.RequestOp {
	put := l.detachmentPut(d)
	return []*pb.RequestOp{
		opDelete(l.keys.hold(h.Volume, h.Mode, h.Cluster, h.Node)),
		opDelete(l.keys.attachment(h.Cluster, h.Node, h.Volume)),
		opDelete(l.keys.migration(h.Volume)),
		opLeased(put.key, put.value, s),
	}
}

func (l *Ledger) detachmentPut(d Detachment) waitPut {
	return waitPut{
		about: d.Volume,
		key:   l.keys.detachment(d.Volume, d.Mode, d.Cluster, d.Node),
		value: encode(detachmentValue{
			At: d.At, GraceMS: d.Grace.Milliseconds(), Reason: d.Reason, By: d.By, Token: d.Token,
		}),
		wait: d.Grace,
	}
}

func (o *detach) settle(a attempt, answer *pb.TxnResponse) error {
	first, second := o.modes()
	if answer.Succeeded {
		return o.done(a, first)
	}
	nested := answer.Responses[0].GetResponseTxn()
	if nested.Succeeded {
		return o.done(a, second)
	}
	modes := []Mode{Exclusive, Shared}
	for i, m := range modes {
		kvs := nested.Responses[i].GetResponseRange().Kvs
		switch {
		case len(kvs) == 0:
		case o.req.Token != 0:
			return staleToken(toHold(o.key(kindHold, m), kvs[0]), o.req.Token)
		default:
			return errPast
		}
	}
	for i, m := range modes {
		for _, kv := range nested.Responses[len(modes)+i].GetResponseRange().Kvs {
			d := toDetachment(o.key(kindDetachment, m), kv)
			if a.resent && d.At.Equal(o.at) && d.By == o.c.ledger.cfg.By {
				o.ended, o.begun = Ended{Existed: true, Detachment: d}, resumed(d.ModRevision)
			}
		}
	}
	return nil
}

func (o *detach) wait() (begun, waitPut) {
	if !o.ended.Existed {
		return begun{}, waitPut{}
	}
	return o.begun, o.c.ledger.detachmentPut(o.ended.Detachment)
}

func (o *detach) key(kd kind, m Mode) key {
	return key{kind: kd, volume: o.req.Volume, mode: m, cluster: o.c.name, node: o.req.Node}
}

func (o *detach) done(a attempt, m Mode) error {
	d := o.detachment(m)
	d.Lease, d.ModRevision = a.leases.main.id, a.revision
	o.ended, o.begun = Ended{Existed: true, Detachment: d}, begin(a)
	return nil
}

// DetachAllRequest asks for the end of every hold that the cluster has of a
// volume, or that a node of it has. Exactly one of the two is given.
type DetachAllRequest struct {
	Volume string
	Node   string
	Grace  time.Duration
	Reason string
}

// DetachAll ends every hold of the cluster of a volume, or of a node, lapsed
// ones too. Each is ended by its token, so that a hold made meanwhile is left
// alone. It goes on past failures and returns what it ended along with them.
//
// For a node it walks all holds of the ledger, since a lapsed hold has no
// attachment that leads to it.
func (c *Cluster) DetachAll(ctx context.Context, req DetachAllRequest) ([]Ended, error) {
	var holds iter.Seq2[Hold, error]
	switch {
	case (req.Volume == "") == (req.Node == ""):
		return nil, fmt.Errorf("%w DetachAll: expected a volume or a node, exactly one of them", ErrInvalid)
	case req.Volume != "":
		if err := ValidateVolume(req.Volume); err != nil {
			return nil, err
		}
		holds = c.ledger.holdsOf(ctx, c.name, req.Volume)
	default:
		if err := ValidateNode(req.Node); err != nil {
			return nil, err
		}
		holds = c.ledger.Holds(ctx, HoldFilter{Cluster: c.name, Node: req.Node})
	}
	return c.detachEach(ctx, holds, req)
}

// detachersAtOnce bounds the detaches that DetachAll has under way: enough to
// fill the writer's requests.
const detachersAtOnce = requestOperations

func (c *Cluster) detachEach(ctx context.Context, holds iter.Seq2[Hold, error], req DetachAllRequest) ([]Ended, error) {
	var (
		mu     sync.Mutex
		ended  []Ended
		errs   *multierror.Error
		joined sync.WaitGroup
		places = make(chan struct{}, detachersAtOnce)
	)
	for h, err := range holds {
		if err != nil {
			mu.Lock()
			errs = multierror.Append(errs, err)
			mu.Unlock()
			break
		}
		places <- struct{}{}
		joined.Go(func() {
			defer func() { <-places }()
			e, err := c.Detach(ctx, DetachRequest{Volume: h.Volume, Node: h.Node, Token: h.Token, Mode: h.Mode, Grace: req.Grace, Reason: req.Reason})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, ErrStaleToken): // made since the walk: not ours to end
			case err != nil:
				errs = multierror.Append(errs, fmt.Errorf("detaching volume %q from node %s: %w", h.Volume, h.Node, err))
			}
			if e.Existed { // beside an ErrShortWait too
				ended = append(ended, e)
			}
		})
	}
	joined.Wait()
	return ended, errs.ErrorOrNil()
}
