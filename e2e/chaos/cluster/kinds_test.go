package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/e2e/chaos/cluster"
)

// The same numbers make the same faults, and every kind is among them.
func TestKindsAreSeeded(t *testing.T) {
	_, c := start(t, cluster.Options{Sides: 2})
	draw := func(seed uint64) string {
		r, text := rand.New(rand.NewPCG(seed, 0)), ""
		for _, kind := range c.Kinds() {
			for range 4 {
				text += kind.Name + ": " + kind.New(r, c).String() + "\n"
			}
		}
		return text
	}
	first, again, other := draw(1), draw(1), draw(2)
	if first != again {
		t.Error("two draws of one seed differ")
	}
	if first == other {
		t.Error("draws of two seeds do not differ")
	}
	if strings.Contains(first, "slow-disk") {
		t.Error("an etcd without failpoints is to have a slow disk")
	}
}

// Every kind can be applied and healed, and leaves a healthy cluster.
func TestEveryKind(t *testing.T) {
	ctx, c := start(t, cluster.Options{Sides: 2, Etcd: program(t, "etcd-gofail", "etcd-gofail")})
	apply(ctx, t, c, cluster.TakeSnapshot{})
	r := rand.New(rand.NewPCG(1, 0))
	for _, kind := range c.Kinds() {
		f := kind.New(r, c)
		if err := cluster.During(ctx, c, f, 0); err != nil {
			t.Errorf("%s: %v: %v", kind.Name, f, err)
		}
		if err := c.Healthy(ctx); err != nil {
			t.Fatalf("%s: %v", kind.Name, err)
		}
	}
	write(ctx, t, c, "a")
}

// Faults may stand at the same time, also where they leave no majority: each
// heals by itself.
func TestFaultsOverlap(t *testing.T) {
	ctx, c := start(t, cluster.Options{})
	var all sync.WaitGroup
	for _, f := range []cluster.Fault{
		&cluster.Kill{Who: 0}, &cluster.Isolate{Who: 1}, &cluster.Freeze{Who: 2},
		&cluster.SlowMember{Who: 1, Delay: 50 * time.Millisecond}, &cluster.Clients{Way: cluster.Stall},
	} {
		all.Go(func() {
			if err := cluster.During(ctx, c, f, time.Second); err != nil {
				t.Errorf("%v: %v", f, err)
			}
		})
	}
	all.Wait()
	if err := c.Healthy(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, "a write", func() error { return put(ctx, dial(t, c.ClientEndpoints(0)), 2*time.Second, "a") })
}

// Whatever stands, HealAll takes it back.
func TestHealAll(t *testing.T) {
	ctx, c := start(t, cluster.Options{Etcd: program(t, "etcd-gofail", "etcd-gofail")})
	for _, f := range []cluster.Fault{
		cluster.Auth{}, cluster.NoSpace{}, &cluster.SlowDisk{Who: 0, Delay: 20 * time.Second},
		&cluster.Clients{Way: cluster.Stall}, &cluster.Clients{Way: cluster.Cut, Members: []int{1}},
		&cluster.Clients{Way: cluster.LoseAnswers, Answers: 1000},
		&cluster.SlowMember{Who: 1, Delay: 20 * time.Second}, &cluster.Isolate{Who: 1},
		&cluster.Kill{Who: 2}, &cluster.Freeze{Who: 0},
	} {
		apply(ctx, t, c, f)
	}
	if err := c.HealAll(ctx); err != nil {
		t.Fatal(err)
	}
	client := dial(t, c.ClientEndpoints(0))
	for range 2 * cluster.Size { // at every member, by turns
		if err := put(ctx, client, 10*time.Second, "a"); err != nil {
			t.Error(err)
		}
	}
}

// A fault stands no longer than the run: it is healed though the run's context has ended.
func TestDuringHeals(t *testing.T) {
	ctx, c := start(t, cluster.Options{})
	run, end := context.WithCancel(ctx)
	f := &ending{Fault: cluster.NoSpace{}, end: end}
	if err := cluster.During(run, c, f, time.Hour); err != nil {
		t.Error(err)
	}
	write(ctx, t, c, "a")
}

// ending is a fault at which a run ends.
type ending struct {
	cluster.Fault
	end func()
}

func (f *ending) Apply(ctx context.Context, c *cluster.Cluster) error {
	defer f.end()
	return f.Fault.Apply(ctx, c)
}

// No process stays when a cluster is closed, a frozen one neither; its data does.
func TestClose(t *testing.T) {
	ctx, c := start(t, cluster.Options{})
	var processes []string
	for i := range cluster.Size {
		processes = append(processes, fmt.Sprintf("/proc/%d", c.Member(i).PID()))
	}
	apply(ctx, t, c, &cluster.Freeze{Who: 0})
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	for _, process := range processes {
		if _, err := os.Stat(process); err == nil {
			t.Errorf("%s is there after Close", process)
		}
	}
}

// A member that ends by itself is told of.
func TestCrashes(t *testing.T) {
	ctx, c := begin(t, cluster.Options{Etcd: program(t, "etcd-gofail", "etcd-gofail")})
	if err := c.Member(1).SetFailpoint(ctx, "walAfterSync", "panic"); err != nil {
		t.Fatal(err)
	}
	client := dial(t, c.DirectEndpoints()[:1])
	eventually(ctx, t, "a crash", func() error {
		if len(c.Crashes()) > 0 {
			return nil
		}
		return errors.Join(errors.New("none"), put(ctx, client, time.Second, "a"))
	})
	if got := c.Crashes(); len(got) != 1 || !strings.HasPrefix(got[0], "member-1 ended by itself") {
		t.Errorf("crashes: %q", got)
	}
	if err := c.HealAll(ctx); err != nil {
		t.Error(err)
	}
}
