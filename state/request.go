package state

import (
	"context"
	"math"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// What writes is built as etcd's own messages: clientv3 copies each compare of a
// nested transaction four times over, by reflection, and that took more of an
// attach's time than all else that it does in this process.

// opPut puts a record without a lease.
func opPut(key, value string) *pb.RequestOp { return opLeased(key, value, slot{}) }

// opLeased puts a record on a slot; a zero slot is no lease.
func opLeased(key, value string, s slot) *pb.RequestOp {
	return requestPut(&pb.PutRequest{Key: []byte(key), Value: []byte(value), Lease: int64(s.id)})
}

// opRelease puts a record that is there again, as it is, on a slot.
func opRelease(key string, s slot) *pb.RequestOp {
	return requestPut(&pb.PutRequest{Key: []byte(key), IgnoreValue: true, Lease: int64(s.id)})
}

func requestPut(r *pb.PutRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r}}
}

func opDelete(key string) *pb.RequestOp { return opDeleteRange(key, "") }

// opDeleteRange deletes the keys in [begin, end).
func opDeleteRange(begin, end string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{
		RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte(begin), RangeEnd: rangeTo(end)},
	}}
}

func opGet(key string) *pb.RequestOp { return opGetRange(key, "") }

// opGetKey reads no value.
func opGetKey(key string) *pb.RequestOp {
	return requestRange(&pb.RangeRequest{Key: []byte(key), KeysOnly: true})
}

func opCount(key string) *pb.RequestOp {
	return requestRange(&pb.RangeRequest{Key: []byte(key), CountOnly: true})
}

// opGetRange reads the keys in [begin, end).
func opGetRange(begin, end string) *pb.RequestOp {
	return requestRange(&pb.RangeRequest{Key: []byte(begin), RangeEnd: rangeTo(end)})
}

// opGetKeys is opGetRange without the values.
func opGetKeys(begin, end string) *pb.RequestOp {
	return requestRange(&pb.RangeRequest{Key: []byte(begin), RangeEnd: rangeTo(end), KeysOnly: true})
}

func requestRange(r *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
}

// rangeTo is nil for no end, which etcd takes for the one key.
func rangeTo(end string) []byte {
	if end == "" {
		return nil
	}
	return []byte(end)
}

// opNested is a transaction within another, with its own compares and answer.
func opNested(r *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: r}}
}

// maxRequestBytes is what etcd's client sends at most in one request.
const maxRequestBytes = 2 << 20

// transact sends one transaction, as clientv3's Txn does.
func (l *Ledger) transact(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	resp, err := l.kv.Txn(ctx, r,
		grpc.WaitForReady(true), grpc.MaxCallSendMsgSize(maxRequestBytes), grpc.MaxCallRecvMsgSize(math.MaxInt32))
	return resp, clientv3.ContextError(ctx, err)
}
