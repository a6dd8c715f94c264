package state

import (
	"context"
	"fmt"
	"math/bits"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// waitPut is a record whose lease is a wait.
type waitPut struct {
	// about is the operation's that put it.
	about      string
	key, value string
	wait       time.Duration
}

// begun tells how the record of a wait was put: at which revision, and whether
// its lease may end before the wait does.
type begun struct {
	revision int64
	short    bool
	// took is the time from before the lease's grant to the answer.
	took time.Duration
}

// begin is the begun of a record that the attempt has just put.
func begin(a attempt) begun {
	s := a.leases.main
	return begun{revision: a.revision, short: s.late(), took: time.Since(s.asked)}
}

// resumed is the begun of a record that was found, put by an earlier send whose
// answer was lost: how late it was put, nobody knows.
func resumed(modRevision int64) begun { return begun{revision: modRevision, short: true} }

// wholeWait makes sure that a wait which was just begun is not cut short: where
// the answer came too late for its lease, the record is put again on a fresh
// one, as long as nobody has changed it. Call it before reporting the wait. What
// it fails with is an ErrShortWait alone: why is about the second write, and would
// otherwise be taken for what became of the operation.
func (l *Ledger) wholeWait(ctx context.Context, g guard, b begun, put waitPut) error {
	if _, err := l.mend(ctx, g, b, put); err != nil {
		return fmt.Errorf("%w: %s", ErrShortWait, err.Error())
	}
	return nil
}

// mend is wholeWait, and says whether the wait stands. It does not where
// somebody has changed its record, or where it was over before it could be mended.
func (l *Ledger) mend(ctx context.Context, g guard, b begun, put waitPut) (stands bool, err error) {
	for doublings := 1; b.short; doublings++ {
		// Twice what the last one took is likely enough for the next.
		doublings = max(doublings, bits.Len64(uint64(2*b.took/waitBudget)))
		op := &renew{ledger: l, put: put, revision: b.revision, doublings: doublings}
		if _, err := l.do(ctx, g, put.about, op); err != nil {
			return false, fmt.Errorf("putting %q again, so that its wait of %s is whole: %w", put.key, put.wait, err)
		}
		if !op.held {
			return false, nil
		}
		b = op.begun
	}
	return true, nil
}

// renew puts a wait's record again on a fresh lease.
type renew struct {
	ledger    *Ledger
	put       waitPut
	revision  int64
	doublings int

	held  bool
	begun begun
}

func (o *renew) take(ctx context.Context) (leases, error) {
	main, err := o.ledger.waits.take(ctx, o.put.wait, o.doublings)
	return leases{main: main}, err
}

func (o *renew) branch(a attempt) *pb.TxnRequest {
	return &pb.TxnRequest{
		Compare: []*pb.Compare{unchanged(o.put.key, o.revision)},
		Success: []*pb.RequestOp{opLeased(o.put.key, o.put.value, a.leases.main)},
		Failure: []*pb.RequestOp{opGet(o.put.key)},
	}
}

func (o *renew) settle(a attempt, answer *pb.TxnResponse) error {
	if answer.Succeeded {
		o.held, o.begun = true, begin(a)
		return nil
	}
	// Sent again after a lost answer, it finds what it put itself.
	for _, kv := range answer.Responses[0].GetResponseRange().Kvs {
		if a.resent && string(kv.Value) == o.put.value {
			o.held, o.begun = true, resumed(kv.ModRevision)
		}
	}
	return nil
}
