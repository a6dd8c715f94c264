package state

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// simple is an operation that is told by values: for the rare ones, which need
// no more than their compares, their writes and one record read on failure.
type simple struct {
	leases func(context.Context) (leases, error) // nil: none
	ifs    []*pb.Compare
	thens  func(attempt) []*pb.RequestOp
	// look is read if the compares fail; found says what that means. A nil kv:
	// the key is not there.
	look  string
	found func(kv *mvccpb.KeyValue) error

	// put is the record of the operation's wait; empty if it has none.
	put waitPut

	done  bool // the compares held
	begun begun
}

func (o *simple) wait() (begun, waitPut) { return o.begun, o.put }

func (o *simple) take(ctx context.Context) (leases, error) {
	if o.leases == nil {
		return leases{}, nil
	}
	return o.leases(ctx)
}

func (o *simple) branch(a attempt) *pb.TxnRequest {
	return &pb.TxnRequest{Compare: o.ifs, Success: o.thens(a), Failure: []*pb.RequestOp{opGet(o.look)}}
}

func (o *simple) settle(a attempt, answer *pb.TxnResponse) error {
	if answer.Succeeded {
		o.done, o.begun = true, begin(a)
		return nil
	}
	var kv *mvccpb.KeyValue
	if kvs := answer.Responses[0].GetResponseRange().Kvs; len(kvs) == 1 {
		kv = kvs[0]
	}
	return o.found(kv)
}

// journaled is the leases of an operation that writes nothing but an entry
// under one.
func (l *Ledger) journaled(ctx context.Context) (leases, error) {
	s, err := l.retain(ctx)
	return leases{journal: s}, err
}

// journalPut is the put of a journal entry; cluster "" is the ledger itself.
// The ID is chosen by the caller, once an operation: sent again it is one entry.
func (l *Ledger) journalPut(cluster, id string, e entryValue, s slot) *pb.RequestOp {
	if cluster == "" {
		cluster = ledgerCluster
	}
	return opLeased(l.keys.journal(cluster, id), encode(e), s)
}
