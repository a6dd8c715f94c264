package reconcile

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/state/statetest"
	"github.com/holdfast-storage/holdfast/watch"
)

// What each setting does that no other test shows.

// safeBuffer may be written to by several.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func TestConfig_DryRunWritesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1", "back"), noQuarantine)
	w.attach("vol-1", "n2")
	w.attach("vol-2", "n3")
	leader := w.lead() // another replica's: a dry run does not stand for the lead
	var log safeBuffer
	r := w.reconciler(func(c *Config) {
		c.DryRun, c.Logger = true, slog.New(slog.NewTextHandler(&log, nil))
	})
	w.start(r)
	eventually(t, "it watches", func() bool { return r.watcher.Sources().Loaded() })
	for node, reason := range map[string]state.DepartureReason{"n3": state.NodeGone, "back": state.NodeGone} {
		if _, err := leader.Depart(t.Context(), state.Departure{Node: node, Reason: reason}, 0); err != nil {
			t.Fatal(err)
		}
	}
	before := statetest.Shared(t).Dump(t, w.prefix)
	for _, want := range []string{"would put a departure", "would remove orphans", "would delete the departure"} {
		eventually(t, "it says: "+want, func() bool { return strings.Contains(log.String(), want) })
	}
	r.Stop()
	after := statetest.Shared(t).Dump(t, w.prefix)
	if !slices.Equal(before, after) {
		t.Errorf("a dry run has written:\n%v\n%v", before, after)
	}
	if n := w.nodes.liveChecks(); n != 0 {
		t.Errorf("%d live checks", n)
	}
}

func TestConfig_RemovalRate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1"), noQuarantine)
	var volumes []string
	for i := range 30 {
		volumes = append(volumes, fmt.Sprint("vol-", i))
		w.attach(volumes[i], "n2")
	}
	w.started(func(c *Config) { c.RemovalRate = 10 })
	w.removed(volumes...)
	entries := w.journal(state.ActionRemoved)
	if took := entries[len(entries)-1].At.Sub(entries[0].At); len(entries) != 30 || took < 1500*time.Millisecond {
		t.Errorf("%d removals in %s, want 30 at no more than 10 a second after the first 10", len(entries), took)
	}
}

func TestConfig_ID(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1"))
	w.started(func(c *Config) { c.ID = "the-second-replica" })
	if kvs := statetest.Shared(t).Dump(t, w.prefix+"v1/elections/a/"); len(kvs) != 1 || kvs[0].Value != "the-second-replica" {
		t.Errorf("the election has %+v", kvs)
	}
}

func TestConfig_Workers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1"), noQuarantine)
	w.attach("vol-2", "n2")
	w.attach("vol-3", "n3")
	// Each of two nodes waits for the other's live check.
	var together sync.WaitGroup
	together.Add(2)
	var once sync.Map
	w.nodes.atLive(func(_ context.Context, name string) error {
		if _, before := once.LoadOrStore(name, true); !before {
			together.Done()
		}
		together.Wait()
		return nil
	})
	w.started(func(c *Config) { c.Workers = 2 })
	w.removed("vol-2", "vol-3")
}

func TestConfig_StaleAfterAndResync(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1"), noQuarantine)
	r := w.reconciler(func(c *Config) { c.StaleAfter, c.Resync = 300*time.Millisecond, 100*time.Millisecond })
	w.start(r)
	eventually(t, "the silent Node list is stale", func() bool {
		s := r.watcher.Sources().Nodes
		return s.Loaded && !s.Fresh
	})
	w.attach("vol-1", "n2")
	eventually(t, "it is held back", func() bool { return value(r.metrics.heldBack.WithLabelValues("stale-nodes")) == 1 })
	before := judgements(r)
	eventually(t, "it is judged again and again", func() bool { return judgements(r) > before+5 })
	w.mustHold("vol-1", "n2")
}

// A watcher that the caller runs serves as well as one of its own.
func TestConfig_Watcher(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1", "n2"), noQuarantine)
	watcher, err := watch.New(watch.Config{Cluster: w.cluster, Nodes: w.nodes, Logger: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- watcher.Run(ctx) }()
	r := w.reconcilerOf(w.cluster, func(c *Config) { c.Watcher = watcher })
	w.start(r)
	eventually(t, "it leads", r.Leading)
	r.Stop() // and leaves the watcher alone
	w.attach("vol-1", "n2")
	w.nodes.remove("n2")
	w.start(r)
	w.removed("vol-1")
	// Its watcher is restarted under it.
	cancel()
	<-ended
	w.attach("vol-2", "n2")
	ctx, cancel = context.WithCancel(t.Context())
	go func() { ended <- watcher.Run(ctx) }()
	w.removed("vol-2")
	cancel()
	<-ended
}
