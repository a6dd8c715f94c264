package cluster_test

import (
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/e2e/chaos/cluster"
)

// A leader that is killed or frozen loses its lead, and comes back as a
// follower of the new one; etcd serves on meanwhile.
func TestLeaderLost(t *testing.T) {
	ctx, c := start(t, cluster.Options{})
	client := dial(t, c.ClientEndpoints(0))
	for _, f := range []cluster.Fault{&cluster.Kill{Who: cluster.Leader}, &cluster.Freeze{Who: cluster.Leader}} {
		old := leader(ctx, t, c)
		apply(ctx, t, c, f)
		eventually(ctx, t, "another leader", func() error {
			return leads(ctx, c, func(i int) bool { return i != old })
		})
		eventually(ctx, t, "a write", func() error { return put(ctx, client, 2*time.Second, "a") })
		heal(ctx, t, c, f)
		if s, err := c.Status(ctx, old); err != nil || s.Leader == s.Header.MemberId {
			t.Errorf("%v, healed: its status is %v, %v: want a follower", f, s, err)
		}
	}
}

func TestKillAll(t *testing.T) {
	ctx, c := start(t, cluster.Options{})
	client := dial(t, c.ClientEndpoints(0))
	if err := put(ctx, client, 10*time.Second, "a"); err != nil {
		t.Fatal(err)
	}
	apply(ctx, t, c, cluster.KillAll{})
	for i := range cluster.Size {
		if pid := c.Member(i).PID(); pid != 0 {
			t.Errorf("member %d runs on, as %d", i, pid)
		}
	}
	if put(ctx, client, 100*time.Millisecond, "b") == nil {
		t.Error("a write succeeded with no member running")
	}
	heal(ctx, t, c, cluster.KillAll{})
	eventually(ctx, t, "the key of before", func() error {
		_, err := client.Get(ctx, "a")
		return err
	})
}
