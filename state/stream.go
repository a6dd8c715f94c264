package state

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// streamed yields what a list has left as etcd reads it, at one revision, and
// returns what it has not come to: an empty key once there is nothing. An etcd
// before 3.7 streams nothing, and any stream may break off; whoever lists reads on
// from there by pages, and finds out what was wrong.
//
// A page of a long list costs etcd a walk over the keys behind it, to count them.
// A stream does not, and etcd reads ahead while what has come is taken in.
func (l *Ledger) streamed(ctx context.Context, from, end string, revision int64, opts []clientv3.OpOption, yield func(page, error) bool) (rest string) {
	ctx, cancel := context.WithCancel(ctx)
	all := append([]clientv3.OpOption{clientv3.WithRange(end), clientv3.WithRev(revision)}, opts...)
	chunks, err := l.client.GetStream(ctx, from, all...)
	if err != nil {
		cancel()
		return from
	}
	defer func() {
		cancel()
		for range chunks { // until its sender, which does not ask ctx, is done
		}
	}()
	patience := time.NewTimer(l.cfg.RequestTimeout)
	defer patience.Stop()
	for {
		patience.Reset(l.cfg.RequestTimeout)
		select {
		case chunk, open := <-chunks:
			if !open || chunk.Err() != nil {
				return from
			}
			// The last chunk alone has a header.
			if chunk.Header != nil {
				if err := l.observe(chunk.Header, revision); err != nil {
					yield(page{}, err)
					return ""
				}
			}
			if n := len(chunk.Kvs); n > 0 {
				if !yield(page{kvs: chunk.Kvs, revision: revision}, nil) {
					return ""
				}
				from = after(string(chunk.Kvs[n-1].Key))
			}
			if chunk.Header != nil && !chunk.More {
				return ""
			}
		case <-patience.C:
			return from
		}
	}
}

// boundedStream does for a streamed list what bounded does for other reads.
func boundedStream(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, begin grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if method == pb.KV_RangeStream_FullMethodName {
		opts = append(opts, grpc.MaxCallRecvMsgSize(maxAnswerBytes))
	}
	return begin(ctx, desc, conn, method, opts...)
}
