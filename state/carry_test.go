package state

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// heldEach keeps each transaction from going on until it is let go.
type heldEach struct {
	pb.KVClient
	held chan chan struct{}
}

func (h *heldEach) Txn(ctx context.Context, r *pb.TxnRequest, opts ...grpc.CallOption) (*pb.TxnResponse, error) {
	let := make(chan struct{})
	h.held <- let
	select {
	case <-let:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return h.KVClient.Txn(ctx, r, opts...)
}

func holding(l *Ledger) *heldEach {
	h := &heldEach{KVClient: l.kv, held: make(chan chan struct{}, 2*requestsUnderWay)}
	l.kv = h
	return h
}

// A caller that sends its own call goes when it has to, and is told that the
// outcome is unknown. Others are not held up by what it leaves.
func TestCarry_TheCallerGoes(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	h := holding(l)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begun := time.Now()
	_, err := c.Attach(ctx, AttachRequest{Volume: "pvc-1", Node: "node-1"})
	mustBe(t, err, ErrUnknownOutcome)
	mustBe(t, err, context.DeadlineExceeded)
	if took := time.Since(begun); took > l.cfg.RequestTimeout/2 {
		t.Errorf("told after %s", took)
	}
	<-h.held
	l.kv = h.KVClient
	attached(t, c, "pvc-1", "node-1")
}

// Who has gone before it began is told that nothing was done.
func TestCarry_TheCallerIsGone(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	attached(t, c, "pvc-0", "node-1") // so that nobody waits for a lease
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := c.Attach(ctx, AttachRequest{Volume: "pvc-1", Node: "node-1"})
	mustBe(t, err, context.Canceled)
	if errors.Is(err, ErrUnknownOutcome) {
		t.Errorf("an attach that was never sent: %v", err)
	}
	mustHold(t, l, "pvc-1", StateFree)
}

// What has to wait while a caller sends its own call goes when that is answered.
func TestCarry_ThoseThatWaitGoNext(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	attached(t, c, "pvc-0", "node-1") // so that nobody waits for a lease
	h := holding(l)
	var joined sync.WaitGroup
	attach := func(i int) {
		joined.Go(func() {
			if _, err := c.Attach(t.Context(), AttachRequest{Volume: fmt.Sprintf("pvc-%d", i), Node: "node-1"}); err != nil {
				t.Error(err)
			}
		})
	}
	attach(1)
	carried := <-h.held
	var flying []chan struct{}
	for i := range requestsUnderWay - 1 {
		attach(2 + i)
		flying = append(flying, <-h.held)
	}
	attach(1 + requestsUnderWay)
	for waiting := 0; waiting == 0; {
		l.writer.mu.Lock()
		waiting = len(l.writer.waiting)
		l.writer.mu.Unlock()
	}
	close(carried)
	select {
	case next := <-h.held:
		close(next)
	case <-time.After(10 * time.Second):
		t.Error("what waited did not go when a request was answered")
	}
	for _, f := range flying {
		close(f)
	}
	joined.Wait()
}
