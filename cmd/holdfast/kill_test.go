package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

var killSeed = flag.Uint64("kill-seed", 0, "seed of the moments at which TestProcess_Kill kills; 0 takes a new one")

// The day of TestProcess_Kill.
const (
	kills        = 50
	drivers      = 5
	volumesEach  = 10
	nodesInTotal = 8
	// lostNode never is in the file: what is attached to it will be removed.
	lostNode = "lost"
)

// A controller is killed at 50 moments of a busy day. Then etcd's own history
// is read: no record was lost, and no wait ended early.
func TestProcess_Kill(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes more than a minute")
	}
	t.Parallel()
	seed := *killSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d: repeat it with -run %s -kill-seed %d", seed, t.Name(), seed)
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()

	var nodes []string
	for i := range nodesInTotal {
		nodes = append(nodes, name("node", i))
	}
	w := newWorld(t, state.Config{GracePeriod: 2 * time.Second, Quarantine: 2 * time.Second, MigrationWindow: 2 * time.Second,
		AttachmentTTL: 20 * time.Second}, nodes...)
	clock := w.clock()
	args := []string{"--brake-fraction", "1"}
	w.controller(args...).kill() // east is on record

	ctx, stop := context.WithCancel(t.Context())
	day := newDay(w, seed)
	var working sync.WaitGroup
	defer working.Wait()
	defer stop()
	for i := range drivers {
		working.Go(func() { day.drive(ctx, i) })
	}
	working.Go(func() { day.churn(ctx, clock) })
	clock.mark(t, lostNode, nodeLeaves)
	day.killing(t, args)
	t.Logf("%d controllers killed in %v", kills, time.Since(clock.began).Round(time.Second))
	stop()
	working.Wait()

	// A last controller that nobody kills finishes what is left: all nodes are
	// back, so that it is nothing but graces and windows.
	w.controller(args...)
	w.eventually("waits end", func(context.Context) (bool, error) {
		left := w.etcd.Dump(t, ledgerRoot)
		return len(keysBelow(left, kindGraces))+len(keysBelow(left, kindWindows))+len(keysBelow(left, kindWaits)) == 0, nil
	})
	t.Logf("the last waits have ended after %v", time.Since(clock.began).Round(time.Second))
	r := w.replay()
	day.compare(t, r)
	t.Logf("%d attaches, %d ends of which %d removals, %d refusals; ended by themselves: %v; %d revisions",
		len(day.attached), len(r.ends), len(r.journaled), day.refused, r.ended, w.etcd.Revision(t))
	if len(r.journaled) == 0 || r.ended[kindGraces] < 20 || r.ended[kindWindows] == 0 || r.ended[kindWaits] == 0 {
		t.Errorf("removals: %d, ended by themselves: %v: expected some of everything", len(r.journaled), r.ended)
	}
}

// day is what its drivers, the test's CSI drivers, have been told.
type day struct {
	w    *world
	seed uint64
	// east's records lapse without its controller. west has none, and stays.
	east, west *state.Cluster

	mu       sync.Mutex
	attached map[held]bool // answered: etcd's history must have them
	ended    map[held]bool // asked to end, and answered
	refused  int
}

// held is one hold: its key, and the revision that made it.
type held struct {
	key     string
	created int64
}

func heldOf(h state.Hold) held {
	return held{key: holdKey(h.Volume, h.Mode.Letter(), h.Cluster, h.Node), created: h.Revision}
}

func newDay(w *world, seed uint64) *day {
	d := &day{w: w, seed: seed, attached: map[held]bool{}, ended: map[held]bool{}}
	d.east = w.as(w.open(), "east", "")
	long := *w
	long.waits.AttachmentTTL = time.Hour
	d.west = w.as(long.open(), "west", "of-west")
	return d
}

// random is one goroutine's own, so that its choices depend on the seed alone.
func (d *day) random(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(d.seed, stream)) }

// killing starts controllers and kills them, the way the seed says: mostly in
// quick succession, from before they serve on; and every tenth after a new
// leader was elected, and a quarantine has ended.
func (d *day) killing(t *testing.T, args []string) {
	random := d.random(1000)
	for i := range kills {
		c := d.w.start(args...)
		after := upTo(random, 1200*time.Millisecond)
		if i%5 == 4 {
			// Long enough to keep leases alive, whatever came before.
			if err := c.ready(t.Context(), patience); err != nil {
				t.Fatalf("controller %d of %d: %v; its log:\n%s", i, kills, err, c.tail())
			}
			after += 1500 * time.Millisecond
		}
		if i%10 == 9 {
			d.lose(t, name("lost", i))
			after = upTo(random, time.Second)
		}
		moment := time.NewTimer(after)
		select {
		case <-moment.C:
		case <-c.ended:
			t.Fatalf("controller %d of %d has ended by itself: %s; its log:\n%s", i, kills, c.cmd.ProcessState, c.tail())
		}
		c.kill()
	}
}

// lose attaches a volume to the node that is gone, and waits until it is removed.
func (d *day) lose(t *testing.T, volume string) {
	hold, err := d.east.Attach(t.Context(), state.AttachRequest{Volume: volume, Node: lostNode})
	if err != nil {
		t.Fatal(err)
	}
	d.count([]state.Hold{hold}, nil)
	d.w.eventually(volume+" is removed", func(ctx context.Context) (bool, error) {
		v, err := d.east.Ledger().Volume(ctx, volume)
		return err == nil && len(v.Holds) == 0, err
	})
}

// churn takes nodes out of the file, some for a moment and some for long.
func (d *day) churn(ctx context.Context, clock *timekeeper) {
	random := d.random(2000)
	var away []string
	for pause(ctx, 200*time.Millisecond+upTo(random, 1500*time.Millisecond)) {
		if len(away) > 0 && (len(away) == nodesInTotal/2 || random.IntN(5) < 2) {
			i := random.IntN(len(away))
			d.w.back(clock, away[i])
			away = slices.Delete(away, i, i+1)
			continue
		}
		there := d.w.nodes.names
		node := there[random.IntN(len(there))]
		d.w.gone(clock, node)
		away = append(away, node)
	}
	for _, node := range away {
		d.w.back(clock, node)
	}
}

// pause waits, and says whether there is more to do.
func pause(ctx context.Context, length time.Duration) bool {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// drive attaches, detaches and migrates volumes of one driver's own.
func (d *day) drive(ctx context.Context, number int) {
	random := d.random(uint64(number))
	holds := map[string][]state.Hold{}
	rests := map[string]time.Time{}
	for pause(ctx, upTo(random, 200*time.Millisecond)) {
		volume := fmt.Sprintf("vol-%d-%d", number, random.IntN(volumesEach))
		if time.Now().Before(rests[volume]) {
			continue
		}
		// An operation that has begun is seen to its end: the day's should not
		// leave it open whether it was done.
		now := context.WithoutCancel(ctx)
		var err error
		if len(holds[volume]) == 0 {
			holds[volume], err = d.take(now, random, volume)
		} else {
			holds[volume], err = d.change(now, random, holds[volume])
		}
		if err != nil {
			d.w.t.Errorf("driver %d: %s: %v", number, volume, err)
		}
		// Some are left alone for long enough to be orphaned, and removed, or
		// for a window to end.
		if random.IntN(6) == 0 || len(holds[volume]) == 2 {
			rests[volume] = time.Now().Add(5*time.Second + upTo(random, 15*time.Second))
		}
	}
}

// take attaches a volume that the driver does not hold. West may be told that
// it has to wait.
func (d *day) take(ctx context.Context, random *rand.Rand, volume string) ([]state.Hold, error) {
	cluster := d.east
	if random.IntN(4) == 0 {
		cluster = d.west
	}
	mode := state.Exclusive
	if random.IntN(4) == 0 {
		mode = state.Shared
	}
	hold, err := cluster.Attach(ctx, state.AttachRequest{Volume: volume, Node: name("node", random.IntN(nodesInTotal)), Mode: mode})
	switch {
	case errors.Is(err, state.ErrInGrace):
		d.count(nil, nil)
		return nil, nil
	case err != nil:
		return nil, err
	}
	d.count([]state.Hold{hold}, nil)
	return []state.Hold{hold}, nil
}

// change does something with the holds of a volume. What a reconciler has
// removed meanwhile is a success to a detach, and not found to the rest.
func (d *day) change(ctx context.Context, random *rand.Rand, holds []state.Hold) ([]state.Hold, error) {
	cluster := d.cluster(holds[0].Cluster)
	if len(holds) == 2 || holds[0].Mode == state.Shared || random.IntN(2) == 0 {
		hold := holds[random.IntN(len(holds))]
		err := d.detach(ctx, cluster, hold)
		return slices.DeleteFunc(holds, func(h state.Hold) bool { return h == hold }), err
	}
	if random.IntN(2) == 0 {
		_, err := d.west.Attach(ctx, state.AttachRequest{Volume: holds[0].Volume, Node: "elsewhere"})
		return d.unlessTaken(ctx, holds, err)
	}
	return d.migrate(ctx, random, cluster, holds[0])
}

// unlessTaken expects the attach of another node to fail. It goes through where
// a reconciler has removed the hold, and its grace is over.
func (d *day) unlessTaken(ctx context.Context, holds []state.Hold, err error) ([]state.Hold, error) {
	if errors.Is(err, state.ErrConflict) || errors.Is(err, state.ErrInGrace) {
		d.count(nil, nil)
		return holds, nil
	}
	if err != nil {
		return holds, err
	}
	v, err := d.west.Ledger().Volume(ctx, holds[0].Volume)
	if err != nil {
		return holds, err
	}
	if len(v.Holds) != 1 || v.Holds[0].Node != "elsewhere" {
		return holds, fmt.Errorf("west has attached it, and it is held by %v", v.Holds)
	}
	d.count(v.Holds, nil)
	return v.Holds, nil
}

func (d *day) detach(ctx context.Context, cluster *state.Cluster, hold state.Hold) error {
	ended, err := cluster.Detach(ctx, state.DetachRequest{Volume: hold.Volume, Node: hold.Node, Token: hold.Token})
	if err == nil && ended.Existed {
		d.count(nil, []state.Hold{hold})
	}
	return err
}

// migrate opens a window, and leaves it, commits or aborts.
func (d *day) migrate(ctx context.Context, random *rand.Rand, cluster *state.Cluster, source state.Hold) ([]state.Hold, error) {
	target := name("node", random.IntN(nodesInTotal))
	if target == source.Node {
		return []state.Hold{source}, nil
	}
	m, err := cluster.Migrate(ctx, state.MigrateRequest{
		Volume: source.Volume, Source: source.Node, SourceToken: source.Token, Target: state.Place{Node: target}})
	if errors.Is(err, state.ErrNotFound) {
		return nil, nil // removed meanwhile
	}
	if err != nil {
		return []state.Hold{source}, err
	}
	added := state.Hold{Volume: m.Volume, Cluster: m.Target.Cluster, Node: m.Target.Node, Mode: state.Exclusive,
		Token: m.TargetToken, Revision: m.TargetToken.Revision()}
	d.count([]state.Hold{added}, nil)
	finish, ends, stays := cluster.Commit, source, added
	switch random.IntN(3) {
	case 0:
		return []state.Hold{source, added}, nil // the window may end by itself
	case 1:
		finish, ends, stays = cluster.Abort, added, source
	}
	err = finish(ctx, m)
	if errors.Is(err, state.ErrNotFound) {
		return []state.Hold{source, added}, nil // one side was removed meanwhile; which, a detach will find
	}
	if err != nil {
		return []state.Hold{source, added}, err
	}
	d.count(nil, []state.Hold{ends})
	return []state.Hold{stays}, nil
}

func (d *day) cluster(name string) *state.Cluster {
	if name == d.west.Name() {
		return d.west
	}
	return d.east
}

// count takes in an answer: holds that were made, or ended, or a refusal.
func (d *day) count(made, ended []state.Hold) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, h := range made {
		d.attached[heldOf(h)] = true
	}
	for _, h := range ended {
		d.ended[heldOf(h)] = true
	}
	if len(made)+len(ended) == 0 {
		d.refused++
	}
}

// compare holds what the drivers were told against what etcd has seen.
func (d *day) compare(t *testing.T, r *replay) {
	t.Helper()
	gone := map[held]bool{}
	for _, e := range r.ends {
		h := held{key: e.key, created: e.created}
		gone[h] = true
		if !e.removed && !d.ended[h] {
			t.Errorf("%s of revision %d ended at %d, and nobody had asked for it", e.key, e.created, e.revision)
		}
		if !d.attached[h] {
			t.Errorf("%s of revision %d was there, and nobody was told", e.key, e.created)
		}
	}
	for h := range d.ended {
		if !gone[h] {
			t.Errorf("%s of revision %d was ended, by the answer, and is there", h.key, h.created)
		}
	}
	for h := range d.attached {
		if kv, there := r.now[h.key]; !gone[h] && (!there || kv.CreateRevision != h.created) {
			t.Errorf("%s of revision %d is lost", h.key, h.created)
		}
	}
}

func upTo(random *rand.Rand, most time.Duration) time.Duration {
	return time.Duration(random.Int64N(int64(most)))
}
