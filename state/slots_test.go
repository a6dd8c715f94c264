package state

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// heldRemovals keeps every request that compares a leader's election key from
// going on, until it is released.
type heldRemovals struct {
	pb.KVClient
	elections []byte
	held      chan struct{} // one for each that is held
	release   chan struct{}
}

func (h *heldRemovals) Txn(ctx context.Context, r *pb.TxnRequest, opts ...grpc.CallOption) (*pb.TxnResponse, error) {
	for _, c := range r.Compare {
		if !bytes.HasPrefix(c.Key, h.elections) {
			continue
		}
		h.held <- struct{}{}
		select {
		case <-h.release:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		break
	}
	return h.KVClient.Txn(ctx, r, opts...)
}

// Removals are slow, and many wait: none of it is in an attach's way.
func TestWriter_AttachDoesNotWaitBehindRemovals(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	ld := lead(t, c)
	d := departed(t, ld, "node-gone")
	const removals = 4 * requestsUnderWay
	var orphans []Orphan
	for i := range removals {
		volume := fmt.Sprintf("orphan-%d", i)
		attached(t, c, volume, "node-gone")
		orphans = append(orphans, orphan(t, l, volume, d))
	}
	h := &heldRemovals{
		KVClient: l.kv, elections: []byte(l.keys.election("a")),
		held: make(chan struct{}, removals), release: make(chan struct{}),
	}
	l.kv = h
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var removing sync.WaitGroup
	for _, o := range orphans {
		removing.Go(func() {
			got, err := ld.Remove(ctx, []Orphan{o})
			if err != nil || !got[0].Ended {
				t.Errorf("removing %s: %+v, %v", o.Attachment.Volume, got, err)
			}
		})
	}
	for range requestsUnderWay {
		<-h.held
	}
	var attaching sync.WaitGroup
	for i := range 2 * requestsUnderWay {
		attaching.Go(func() {
			if _, err := c.Attach(ctx, AttachRequest{Volume: fmt.Sprintf("pvc-%d", i), Node: "node-1"}); err != nil {
				t.Errorf("beside removals that get no answer: %v", err)
			}
		})
	}
	attaching.Wait()
	close(h.release)
	removing.Wait()
}
