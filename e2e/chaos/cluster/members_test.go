package cluster_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/e2e/chaos/cluster"
)

// A leader that cannot hear the others steps down, and so does one that they
// do not hear; a member cut off serves no read; all of it ends by Heal.
func TestPartitionedLeader(t *testing.T) {
	ctx, c := start(t, cluster.Options{})
	for _, f := range []cluster.Fault{
		&cluster.Isolate{Who: cluster.Leader},
		&cluster.Mute{Who: cluster.Leader},
		&cluster.Deafen{Who: cluster.Leader},
	} {
		old := leader(ctx, t, c)
		alone := dial(t, c.DirectEndpoints()[old:old+1])
		apply(ctx, t, c, f)
		eventually(ctx, t, "another leader: "+f.String(), func() error {
			return leads(ctx, c, func(i int) bool { return i != old })
		})
		eventually(ctx, t, "a write of the others", func() error {
			return put(ctx, dial(t, c.DirectEndpoints()[(old+1)%3:(old+1)%3+1]), 2*time.Second, "a")
		})
		if put(ctx, alone, 300*time.Millisecond, "b") == nil {
			t.Errorf("%v: it still takes a write", f)
		}
		heal(ctx, t, c, f)
		eventually(ctx, t, "a write at the member of before", func() error { return put(ctx, alone, 2*time.Second, "c") })
	}
}

// A one-way partition has a direction: a mute follower still hears, and so
// knows the leader and what it commits; a deaf one does not.
func TestOneWay(t *testing.T) {
	ctx, c := start(t, cluster.Options{})
	from := leader(ctx, t, c)
	follower := (from + 1) % cluster.Size
	write := dial(t, c.DirectEndpoints()[from:from+1])
	hears := func(revision int64) error {
		s, err := c.Status(ctx, follower)
		if err != nil {
			return err
		}
		if s.Header.Revision < revision {
			return errors.New("it has not heard of the write")
		}
		return nil
	}
	next := func() int64 {
		answer, err := write.Put(ctx, "a", "")
		if err != nil {
			t.Fatal(err)
		}
		return answer.Header.Revision
	}

	mute := &cluster.Mute{Who: cluster.Who(follower)}
	apply(ctx, t, c, mute)
	revision := next()
	eventually(ctx, t, "a write at the mute member", func() error { return hears(revision) })
	heal(ctx, t, c, mute)

	deaf := &cluster.Deafen{Who: cluster.Who(follower)}
	apply(ctx, t, c, deaf)
	revision = next()
	never(t, "a write at the deaf member", func() bool { return hears(revision) == nil })
	heal(ctx, t, c, deaf)
	eventually(ctx, t, "a write at the member that hears again", func() error { return hears(revision) })
}

// A keep-alive that a follower passes on to the leader stops at a partition
// too, though it does not say who sent it.
func TestPartitionStopsKeepAlives(t *testing.T) {
	ctx, c := start(t, cluster.Options{})
	from := leader(ctx, t, c)
	follower := (from + 1) % cluster.Size
	client := dial(t, c.DirectEndpoints()[follower:follower+1])
	lease, err := client.Grant(ctx, 60)
	if err != nil {
		t.Fatal(err)
	}
	keep := func(d time.Duration) error {
		ctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		_, err := client.KeepAliveOnce(ctx, lease.ID)
		return err
	}
	if err := keep(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	mute := &cluster.Mute{Who: cluster.Who(follower)}
	apply(ctx, t, c, mute)
	if keep(500*time.Millisecond) == nil {
		t.Error("a follower that nobody hears kept a lease alive")
	}
	heal(ctx, t, c, mute)
	eventually(ctx, t, "a keep-alive", func() error { return keep(2 * time.Second) })
}

// A write waits for a majority: slow messages of the leader make it slow.
func TestSlowMember(t *testing.T) {
	ctx, c := start(t, cluster.Options{})
	const delay = 150 * time.Millisecond
	f := &cluster.SlowMember{Who: cluster.Leader, Delay: delay}
	apply(ctx, t, c, f)
	eventually(ctx, t, "a slow write, in spite of elections", func() error {
		client := dial(t, c.DirectEndpoints()[leader(ctx, t, c):][:1])
		begin := time.Now()
		if err := put(ctx, client, 5*time.Second, "a"); err != nil {
			return err
		}
		if took := time.Since(begin); took < 2*delay {
			return errors.New("it took only " + took.String())
		}
		return nil
	})
	heal(ctx, t, c, f)
	client := dial(t, c.DirectEndpoints())
	eventually(ctx, t, "a write in less", func() error {
		begin := time.Now()
		if err := put(ctx, client, 5*time.Second, "a"); err != nil {
			return err
		}
		if took := time.Since(begin); took >= 2*delay {
			return errors.New("it took " + took.String())
		}
		return nil
	})
}

func TestResetMember(t *testing.T) {
	ctx, c := start(t, cluster.Options{})
	f := &cluster.ResetMember{Who: cluster.Leader}
	apply(ctx, t, c, f)
	if f.Ended() == 0 {
		t.Error("no exchange was reset, of four streams at least")
	}
	heal(ctx, t, c, f)
	eventually(ctx, t, "a write", func() error { return put(ctx, dial(t, c.DirectEndpoints()), 2*time.Second, "a") })
}
