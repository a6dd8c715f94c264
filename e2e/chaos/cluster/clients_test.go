package cluster_test

import (
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-storage/holdfast/e2e/chaos/cluster"
)

// What one side's clients lose, those of the other side and the observer keep.
func TestClients(t *testing.T) {
	ctx, c := start(t, cluster.Options{Sides: 2})
	one, other := dial(t, c.ClientEndpoints(0)), dial(t, c.ClientEndpoints(1))
	for _, client := range []*clientv3.Client{one, other} {
		eventually(ctx, t, "a write", func() error { return put(ctx, client, 2*time.Second, "a") })
	}
	for _, way := range []cluster.Way{cluster.Cut, cluster.Stall, cluster.StallAnswers, cluster.Late} {
		f := &cluster.Clients{Way: way, Delay: 400 * time.Millisecond}
		apply(ctx, t, c, f)
		if put(ctx, one, 300*time.Millisecond, "b") == nil {
			t.Errorf("%v: a write got through", f)
		}
		if err := put(ctx, other, 10*time.Second, "b"); err != nil {
			t.Errorf("%v: the other side: %v", f, err)
		}
		heal(ctx, t, c, f)
		eventually(ctx, t, "a write", func() error { return put(ctx, one, 2*time.Second, "c") })
	}
}

// A lost answer leaves its client in doubt, and the write done.
func TestLoseAnswers(t *testing.T) {
	ctx, c := start(t, cluster.Options{})
	client := dial(t, c.ClientEndpoints(0))
	eventually(ctx, t, "a write", func() error { return put(ctx, client, 2*time.Second, "a") })
	f := &cluster.Clients{Way: cluster.LoseAnswers, Answers: 1}
	apply(ctx, t, c, f)
	if put(ctx, client, 10*time.Second, "b") == nil {
		t.Error("the answer was not lost")
	}
	heal(ctx, t, c, f)
	found, err := dial(t, c.DirectEndpoints()).Get(ctx, "b")
	if err != nil || found.Count != 1 {
		t.Errorf("the write whose answer was lost: %v, %v; want it done", found, err)
	}
}
