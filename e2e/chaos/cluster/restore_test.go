package cluster_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-storage/holdfast/e2e/chaos/cluster"
)

// A restore takes back what was written since, at an older revision or at a
// newer one, and keeps the cluster's ID or not, as it is told.
func TestRestore(t *testing.T) {
	ctx, c := start(t, cluster.Options{})
	if err := (&cluster.Restore{}).Apply(ctx, c); !errors.Is(err, cluster.ErrNoSnapshot) {
		t.Errorf("a restore of nothing: %v", err)
	}
	write(ctx, t, c, "before")
	apply(ctx, t, c, cluster.TakeSnapshot{})
	id, _ := identity(ctx, t, c)
	for _, f := range []*cluster.Restore{{}, {Bump: 1000}, {NewToken: true}} {
		write(ctx, t, c, "after")
		write(ctx, t, c, "after")
		_, revision := identity(ctx, t, c)
		apply(ctx, t, c, f)
		idNow, now := identity(ctx, t, c)
		if (now > revision) != (f.Bump > 0) {
			t.Errorf("%v: from revision %d to %d", f, revision, now)
		}
		if (idNow != id) != f.NewToken {
			t.Errorf("%v: from cluster ID %x to %x", f, id, idNow)
		}
		if has(ctx, t, c, "after") || !has(ctx, t, c, "before") {
			t.Errorf("%v: what was written before the snapshot, and that only, is to be there", f)
		}
		if f.Bump > 0 {
			if _, err := dial(t, c.DirectEndpoints()).Get(ctx, "before", clientv3.WithRev(revision)); !errors.Is(err, rpctypes.ErrCompacted) {
				t.Errorf("%v: a read at revision %d: %v, want it compacted", f, revision, err)
			}
		}
	}
}

// A member that is replaced has a new ID and all the data, and etcd is the
// same cluster; a restart does not take it for the member of before.
func TestReplace(t *testing.T) {
	ctx, c := start(t, cluster.Options{})
	write(ctx, t, c, "before")
	id, _ := identity(ctx, t, c)
	old := leader(ctx, t, c)
	before, err := c.Status(ctx, old)
	if err != nil {
		t.Fatal(err)
	}
	f := &cluster.Replace{Who: cluster.Leader}
	apply(ctx, t, c, f)
	heal(ctx, t, c, f)
	for range 2 {
		now, err := c.Status(ctx, old)
		if err != nil {
			t.Fatal(err)
		}
		if now.Header.MemberId == before.Header.MemberId || now.Header.ClusterId != id {
			t.Errorf("member %x of cluster %x in place of %x of %x", now.Header.MemberId, now.Header.ClusterId, before.Header.MemberId, id)
		}
		client := dial(t, c.DirectEndpoints()[old:old+1])
		if found, err := client.Get(ctx, "before"); err != nil || found.Count != 1 {
			t.Errorf("the new member's data: %v, %v", found, err)
		}
		apply(ctx, t, c, cluster.KillAll{})
		heal(ctx, t, c, cluster.KillAll{})
	}
}

// A member that could not be removed, for want of a majority, is itself again.
func TestReplaceInPart(t *testing.T) {
	dir := t.TempDir()
	ctx, c := start(t, cluster.Options{Dir: dir})
	before, err := c.Status(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	mark := filepath.Join(dir, c.Member(0).Name(), "mark")
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	others := []cluster.Fault{&cluster.Freeze{Who: 1}, &cluster.Freeze{Who: 2}}
	for _, f := range others {
		apply(ctx, t, c, f)
	}
	f := &cluster.Replace{Who: 0}
	soon, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := f.Apply(soon, c); err == nil {
		t.Fatal("a member was removed without a majority")
	}
	for _, f := range others {
		if err := f.Heal(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
	heal(ctx, t, c, f)
	now, err := c.Status(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	if now.Header.MemberId != before.Header.MemberId {
		t.Errorf("member %x in place of %x, which was never removed", now.Header.MemberId, before.Header.MemberId)
	}
	if _, err := os.Stat(mark); err != nil {
		t.Errorf("its data is another: %v", err)
	}
}

func write(ctx context.Context, t *testing.T, c *cluster.Cluster, key string) {
	t.Helper()
	if err := put(ctx, dial(t, c.DirectEndpoints()), 10*time.Second, key); err != nil {
		t.Fatal(err)
	}
}

func has(ctx context.Context, t *testing.T, c *cluster.Cluster, key string) bool {
	t.Helper()
	found, err := dial(t, c.DirectEndpoints()).Get(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	return found.Count > 0
}

// identity is the cluster's ID and revision.
func identity(ctx context.Context, t *testing.T, c *cluster.Cluster) (uint64, int64) {
	t.Helper()
	answer, err := dial(t, c.DirectEndpoints()).Get(ctx, "identity")
	if err != nil {
		t.Fatal(err)
	}
	return answer.Header.ClusterId, answer.Header.Revision
}
