package state

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/holdfast-storage/holdfast/failpoint"
)

// bundleOperations bounds the compares of a bundle, and its operations: etcd allows
// 128 at all depths together, and a request has up to requestOperations of its own.
const bundleOperations = 64

// bundle is a nested transaction that calls may share: all of them are carried
// out, or none.
type bundle struct {
	nested int // its place in the request
	txn    *pb.TxnRequest
}

func (b *bundle) takes(txn *pb.TxnRequest) bool {
	return b != nil && len(b.txn.Compare)+len(txn.Compare) <= bundleOperations && len(b.txn.Success)+len(txn.Success) <= bundleOperations
}

// add returns where in the bundle the transaction's operations are.
func (b *bundle) add(txn *pb.TxnRequest) part {
	begin := len(b.txn.Success)
	b.txn.Compare = append(b.txn.Compare, txn.Compare...)
	b.txn.Success = append(b.txn.Success, txn.Success...)
	return part{nested: b.nested, begin: begin, end: len(b.txn.Success)}
}

// part is where in the answer to a request a call's own is.
type part struct {
	flat       bool // the whole of it
	nested     int
	begin, end int // its operations' in a bundle, if that succeeded
}

func (p part) of(resp *pb.TxnResponse) *pb.TxnResponse {
	if p.flat {
		return resp
	}
	answer := resp.Responses[p.nested].GetResponseTxn()
	if !answer.Succeeded {
		return answer
	}
	return &pb.TxnResponse{Succeeded: true, Responses: answer.Responses[p.begin:p.end]}
}

// request builds a request, and notes for each call where its answer will be. A call
// that asks is a nested transaction of its own. Those that do not are bundled, if
// the writer trusts that nothing stands in their way: where something does stand in
// one's, its whole bundle asks next.
func (w *writer) request(batch []*call) *pb.TxnRequest {
	g := batch[0].guard
	ifs, epoch := g.compares(w.ledger)
	trusts := w.trusts()
	var nested []*pb.RequestOp
	var open *bundle
	for _, c := range batch {
		c.attempt.epoch, c.attempt.rested = epoch, trusts >= trustVolumes && !c.attempt.asks
		txn := c.op.branch(c.attempt)
		c.unasked = !c.attempt.asks && len(txn.Failure) == 0
		if flat(batch) {
			c.part = part{flat: true}
			return &pb.TxnRequest{Compare: append(ifs, txn.Compare...), Success: txn.Success}
		}
		bundled := c.unasked && trusts >= trustCalls
		if bundled && open.takes(txn) {
			c.part = open.add(txn)
			continue
		}
		c.part = part{nested: len(nested), end: len(txn.Success)}
		if bundled {
			open = &bundle{nested: len(nested), txn: txn}
		}
		nested = append(nested, opNested(txn))
	}
	return &pb.TxnRequest{Compare: ifs, Success: nested, Failure: g.reads(w.ledger)}
}

// flat says of a request whose operations are built whether it has but one, which
// asks nothing: then its compares stand with the guard's. Which of them failed it
// finds out when it asks.
func flat(batch []*call) bool { return len(batch) == 1 && batch[0].unasked }

// settle is the operation's, of an answer to it.
func (c *call) settle() error {
	if c.unasked && !c.answer.Succeeded {
		return errUnasked
	}
	return c.op.settle(c.attempt, c.answer)
}

// oneAVolume is the last look at a request before it goes: two operations
// about one volume in it would both succeed.
func oneAVolume(batch []*call) error {
	about := make(map[string]bool, len(batch))
	for _, c := range batch {
		if about[c.about] {
			return fmt.Errorf("%w request: two operations about %q in it", ErrInvalid, c.about)
		}
		about[c.about] = !failpoint.Planted(failpoint.ShareVolume)
	}
	return nil
}
