package cluster_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-storage/holdfast/e2e/chaos/cluster"
)

// The faults of etcd's store, one after the other: each shows, and no other
// one is in its way.
func TestStore(t *testing.T) {
	ctx, c := start(t, cluster.Options{})
	client := dial(t, c.ClientEndpoints(0))
	first, err := client.Put(ctx, "a", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Put(ctx, "a", ""); err != nil {
		t.Fatal(err)
	}
	apply(ctx, t, c, cluster.Compact{})
	if _, err := client.Get(ctx, "a", clientv3.WithRev(first.Header.Revision)); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("a read of a compacted revision: %v", err)
	}
	apply(ctx, t, c, cluster.Defragment{})

	apply(ctx, t, c, cluster.NoSpace{})
	eventually(ctx, t, "a put refused", func() error {
		if err := put(ctx, client, 2*time.Second, "a"); !errors.Is(err, rpctypes.ErrNoSpace) {
			return errors.Join(errors.New("not refused for want of space"), err)
		}
		return nil
	})
	heal(ctx, t, c, cluster.NoSpace{})
	eventually(ctx, t, "a put", func() error { return put(ctx, client, 2*time.Second, "a") })
}

func TestRevokeLeases(t *testing.T) {
	ctx, c := start(t, cluster.Options{})
	client := dial(t, c.ClientEndpoints(0))
	var leases []clientv3.LeaseID
	for _, key := range []string{"kept", "holds/a", "holds/b", "holds/c"} {
		lease, err := client.Grant(ctx, 600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Put(ctx, key, "", clientv3.WithLease(lease.ID)); err != nil {
			t.Fatal(err)
		}
		leases = append(leases, lease.ID)
	}
	apply(ctx, t, c, &cluster.RevokeLeases{Prefix: "holds/", Max: 1, Skip: 1})
	revoked := c.Revoked()
	if len(revoked) != 1 || revoked[0].Lease != leases[2] || strings.Join(revoked[0].Keys, " ") != "holds/b" || revoked[0].Since > revoked[0].Until {
		t.Errorf("revoked %+v, want the lease of holds/b, %x", revoked, leases[2])
	}
	left, err := client.Get(ctx, "", clientv3.WithFromKey(), clientv3.WithKeysOnly())
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, kv := range left.Kvs {
		keys = append(keys, string(kv.Key))
	}
	if got := strings.Join(keys, " "); got != "holds/a holds/c kept" {
		t.Errorf("left are %s", got)
	}
	apply(ctx, t, c, &cluster.RevokeLeases{Prefix: "nothing/"})
	if n := len(c.Revoked()); n != 1 {
		t.Errorf("%d leases revoked, want no more than 1", n)
	}
}

// A disk is slow where etcd's failpoints say so, and nowhere else.
func TestSlowDisk(t *testing.T) {
	ctx, c := start(t, cluster.Options{Etcd: program(t, "etcd-gofail", "etcd-gofail")})
	client := dial(t, c.ClientEndpoints(0))
	if err := put(ctx, client, 10*time.Second, "a"); err != nil {
		t.Fatal(err)
	}
	const delay = 200 * time.Millisecond
	timed := func() (time.Duration, error) {
		begin := time.Now()
		err := put(ctx, client, 10*time.Second, "a")
		return time.Since(begin), err
	}
	var faults []cluster.Fault
	for i := range 2 { // the third is no majority
		faults = append(faults, &cluster.SlowDisk{Who: cluster.Who(i), Delay: delay})
		apply(ctx, t, c, faults[i])
	}
	if took, err := timed(); err != nil || took < delay {
		t.Errorf("a write to slow disks took %v, %v", took, err)
	}
	for _, f := range faults {
		heal(ctx, t, c, f)
	}
	eventually(ctx, t, "a write in less", func() error {
		if took, err := timed(); err != nil || took >= delay {
			return errors.Join(errors.New("it took "+took.String()), err)
		}
		return nil
	})
}

func TestSlowDiskTakesFailpoints(t *testing.T) {
	ctx, c := start(t, cluster.Options{})
	if err := (&cluster.SlowDisk{Delay: time.Second}).Apply(ctx, c); !errors.Is(err, cluster.ErrNoFailpoints) {
		t.Errorf("on an etcd without failpoints: %v", err)
	}
}
