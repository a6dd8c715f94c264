package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/state/statetest"
	"github.com/holdfast-storage/holdfast/watch"
)

func session(d time.Duration) func(*state.Config) {
	return func(c *state.Config) { c.AttachmentTTL = d }
}

// keeping is a keeper that runs, over a watcher that runs.
type keeping struct {
	*Keeper
	watcher *watch.Watcher
	ended   chan error
	stop    func()
}

func (w *world) keeper(cluster *state.Cluster, edits ...func(*KeeperConfig)) *keeping {
	w.t.Helper()
	watcher, err := watch.New(watch.Config{Cluster: cluster, Nodes: w.nodes, Logger: testLog(w.t)})
	if err != nil {
		w.t.Fatal(err)
	}
	cfg := KeeperConfig{Cluster: cluster, Watcher: watcher, Logger: testLog(w.t)}
	for _, e := range edits {
		e(&cfg)
	}
	k, err := NewKeeper(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	out := &keeping{Keeper: k, watcher: watcher, ended: make(chan error, 1)}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		_ = watcher.Run(ctx)
	}()
	go func() { out.ended <- k.Run(ctx) }()
	out.stop = func() {
		cancel()
		<-watched
	}
	w.t.Cleanup(func() {
		out.stop()
		if len(out.ended) == 0 {
			<-out.ended
		}
	})
	return out
}

// lapsed waits until a volume's holds have lapsed.
func (w *world) lapsed(volume string) {
	w.t.Helper()
	eventually(w.t, "volume "+volume+" has lapsed", func() bool { return w.state(volume) == state.StateLapsed })
}

func (w *world) state(volume string) state.VolumeState {
	w.t.Helper()
	v, err := w.ledger.Volume(w.t.Context(), volume)
	if err != nil {
		w.t.Fatal(err)
	}
	return v.State
}

func TestNewKeeper_RequiresClusterAndWatcher(t *testing.T) {
	w := newWorld(t, newNodes())
	if _, err := NewKeeper(KeeperConfig{}); !errors.Is(err, state.ErrInvalid) {
		t.Errorf("no cluster: error is %v, want ErrInvalid", err)
	}
	if _, err := NewKeeper(KeeperConfig{Cluster: w.cluster}); !errors.Is(err, state.ErrInvalid) {
		t.Errorf("no watcher: error is %v, want ErrInvalid", err)
	}
}

// Every lease that is seen is kept alive, whoever granted it.
func TestKeeper_KeepsWhateverItSees(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1"), session(floorWait))
	k := w.keeper(w.cluster)
	w.attach("vol-own", "n1")
	_, another := w.open()
	for volume, c := range map[string]*state.Cluster{"vol-late": another, "vol-missing": another} {
		node := "n1"
		if volume == "vol-missing" {
			node = "n2" // not in the list: its lease is kept all the same
		}
		if _, err := c.Attach(t.Context(), state.AttachRequest{Volume: volume, Node: node}); err != nil {
			t.Fatal(err)
		}
	}
	before := time.Now()
	rounds := value(k.metrics.rounds)
	eventually(t, "more than two sessions have passed", func() bool {
		return time.Since(before) > 5*time.Second && value(k.metrics.rounds) > rounds+5
	})
	for volume, node := range map[string]string{"vol-own": "n1", "vol-late": "n1", "vol-missing": "n2"} {
		if lives := w.moments("attachments/a/" + node + "/" + volume); len(lives) != 1 || lives[0].deleted != 0 {
			t.Errorf("attachment of %s: %+v, want one that was never deleted or put again", volume, lives)
		}
	}
	k.stop()
	w.lapsed("vol-own")
}

// What lapsed while no keeper ran is armed again at the start.
func TestKeeper_RearmsAtTheStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1"), session(floorWait))
	h := w.attach("vol-1", "n1")
	_, err := w.cluster.Attach(t.Context(), state.AttachRequest{Volume: "vol-2", Node: "gone", Mode: state.Shared})
	if err != nil {
		t.Fatal(err)
	}
	w.lapsed("vol-1")
	w.lapsed("vol-2")
	w.keeper(w.cluster)
	for _, v := range []string{"vol-1", "vol-2"} {
		eventually(t, v+" is armed again", func() bool { return w.state(v) == state.StateAttached })
	}
	v, err := w.ledger.Volume(t.Context(), "vol-1")
	if err != nil || v.Holds[0].Token != h.Token {
		t.Errorf("token is %v (%v), want still %v", v.Holds[0].Token, err, h.Token)
	}
}

// An attachment that goes while its hold stays, and ones that go with theirs.
func TestKeeper_RearmsWhatGoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1"))
	k := w.keeper(w.cluster)
	w.attach("vol-1", "n1")
	var others []string
	for i := range 100 { // more than are looked at one by one
		others = append(others, fmt.Sprint("other-", i))
		w.attach(others[i], "n1")
	}
	eventually(t, "the attachments are seen", func() bool { return k.watcher.Cluster().Attachments == 101 })
	etcd := statetest.Shared(t)
	if _, err := etcd.Client(t).Delete(t.Context(), w.prefix+"v1/attachments/a/n1/vol-1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is armed again", func() bool { return w.state("vol-1") == state.StateAttached })
	if _, err := w.cluster.DetachAll(t.Context(), state.DetachAllRequest{Node: "n1"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all are looked at", func() bool { return value(k.metrics.rearms.WithLabelValues(notLapsed)) >= 100 })
	for _, v := range append(others, "vol-1") {
		w.mustHold(v)
	}
}

// A keeper that was cut off from etcd for longer than a session arms its holds
// again when it is back.
func TestKeeper_RearmsAfterAnOutage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1"), session(floorWait))
	cable := statetest.Shared(t).Proxy(t)
	_, cluster := w.open(func(c *state.Config) { c.Endpoints = cable.Endpoints(); c.RequestTimeout = time.Second })
	k := w.keeper(cluster)
	w.attach("vol-1", "n1")
	eventually(t, "it is kept", func() bool { return value(k.metrics.rounds) > 1 })
	cable.Cut()
	w.lapsed("vol-1")
	cable.Resume()
	eventually(t, "it is armed again", func() bool { return w.state("vol-1") == state.StateAttached })
}

// After a rebind the old cluster's keeper keeps nothing alive.
func TestKeeper_StopsWhenTheNameIsAnothers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1"), session(floorWait))
	k := w.keeper(w.cluster)
	w.attach("vol-1", "n1")
	eventually(t, "it is kept", func() bool { return value(k.metrics.rounds) > 1 })
	if err := w.ledger.Rebind(t.Context(), "a", "another", "test", "rebuilt"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-k.ended:
		if !errors.Is(err, state.ErrClusterMismatch) {
			t.Errorf("error is %v, want ErrClusterMismatch", err)
		}
		k.ended <- err
	case <-time.After(patience):
		t.Fatal("the keeper goes on")
	}
	w.lapsed("vol-1")
}

// A hold that does not decode can not be armed again, and keeps no other from it.
func TestKeeper_PassesOverWhatDoesNotDecode(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1"), session(floorWait))
	w.attach("vol-1", "n1")
	w.attach("vol-2", "n1")
	etcd := statetest.Shared(t)
	if _, err := etcd.Client(t).Put(t.Context(), w.prefix+"v1/holds/vol-1/x/a/n1", "not JSON"); err != nil {
		t.Fatal(err)
	}
	w.lapsed("vol-2")
	k := w.keeper(w.cluster)
	eventually(t, "the other is armed again", func() bool { return w.state("vol-2") == state.StateAttached })
	eventually(t, "the broken one is counted", func() bool { return value(k.metrics.rearms.WithLabelValues(rearmError)) == 1 })
	if n := k.lapses.count(); n != 1 {
		t.Errorf("%v holds count as lapsed, want the broken one", n)
	}
	w.mustHold("vol-1", "n1")
}

// Commands that attach and end leave one lease each: they are gathered, but not
// those of a node that there is something to decide about.
func TestKeeper_GathersThinLeases(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1"), session(3*time.Second))
	for i := range 6 {
		_, c := w.open()
		node := "n1"
		if i == 5 {
			node = "n2"
		}
		if _, err := c.Attach(t.Context(), state.AttachRequest{Volume: fmt.Sprint("vol-", i), Node: node}); err != nil {
			t.Fatal(err)
		}
	}
	k := w.keeper(w.cluster)
	eventually(t, "they are gathered", func() bool { return value(k.metrics.gathered) >= 5 })
	eventually(t, "the watcher sees it", func() bool { return len(k.watcher.Leases()) == 2 })
	for i := range 6 {
		lives := w.moments(fmt.Sprintf("attachments/a/n%d/vol-%d", 1+i/5, i))
		if moved := len(lives) > 1; moved != (i < 5) {
			t.Errorf("attachment %d: %+v", i, lives)
		}
	}
}

func TestThinSince(t *testing.T) {
	before := map[state.LeaseID]int{1: 1, 2: 7, 3: 2, 4: 8, 5: 1}
	now := map[state.LeaseID]int{1: 1, 2: 7, 3: 3, 4: 8, 6: 1, 0: 5}
	var got []int
	for id := range thinSince(before, now) {
		got = append(got, int(id))
	}
	slices.Sort(got)
	if !slices.Equal(got, []int{1, 2}) {
		t.Errorf("thin are %v, want 1 and 2: not what is being filled, full enough, gone or new", got)
	}
	if got := thinSince(nil, now); len(got) != 0 {
		t.Errorf("thin at first sight are %v, want none", got)
	}
}

func TestDueLeases(t *testing.T) {
	now := time.Now()
	schedule := map[state.LeaseID]time.Time{1: now.Add(-1), 2: now.Add(1), 3: now}
	got := dueLeases(schedule, map[state.LeaseID]int{0: 9, 1: 1, 2: 1, 4: 1}, now)
	slices.Sort(got)
	if !slices.Equal(got, []state.LeaseID{1, 4}) {
		t.Errorf("due are %v, want 1 (its time has come) and 4 (new)", got)
	}
	if _, kept := schedule[3]; kept {
		t.Error("a lease that is gone stays on the schedule")
	}
}

func TestKeepAgain(t *testing.T) {
	low, high := time.Hour, time.Duration(0)
	for range 1000 {
		d := keepAgain(15 * time.Minute)
		low, high = min(low, d), max(high, d)
	}
	if low < 225*time.Second || high > 375*time.Second || high-low < 100*time.Second {
		t.Errorf("a session of 15m is kept alive every %s to %s, want about 5m, spread", low, high)
	}
}

// Metrics are there while it runs, and gone after, so that it can run again.
func TestMetricsComeAndGo(t *testing.T) {
	w := newWorld(t, newNodes("n1"))
	registry := prometheus.NewRegistry()
	r := w.reconciler(func(c *Config) { c.Registerer = registry })
	has := func() bool {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		return hasFamily(families, "holdfast_orphans")
	}
	for range 2 {
		w.start(r)
		if !has() {
			t.Error("no metrics while it runs")
		}
		r.Stop()
		if has() {
			t.Error("metrics are left")
		}
	}
}

func hasFamily[F interface{ GetName() string }](families []F, name string) bool {
	return slices.ContainsFunc(families, func(f F) bool { return f.GetName() == name })
}
