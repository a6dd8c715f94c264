package watch

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

// fakeRecords is an etcd with one attachment, to node gone, which gives a sign
// of life every five seconds, as the real one does, until it hangs.
type fakeRecords struct {
	mu   sync.Mutex
	hung bool
}

func (f *fakeRecords) hang(hung bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hung = hung
}

func (f *fakeRecords) Revision(context.Context) (int64, error) { return 1, nil }

// Watch gives the attachment whatever the scope: the index goes by the record.
func (f *fakeRecords) Watch(ctx context.Context, _ state.Scope, handle func(state.Batch) error) error {
	a := state.Attachment{Cluster: "a", Node: "gone", Volume: "v", ModRevision: 1}
	b := state.Batch{
		Reset: true, Synced: true, Revision: 1, Contact: time.Now(),
		Events: []state.Event{{Type: state.Put, Record: a}},
	}
	for {
		if err := handle(b); err != nil {
			return err
		}
		for live := false; !live; {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(5 * time.Second):
			}
			f.mu.Lock()
			live = !f.hung
			f.mu.Unlock()
		}
		b = state.Batch{Revision: 1, Contact: time.Now()}
	}
}

// bubble is a Watcher on fakes in a synctest bubble.
type bubble struct {
	t       *testing.T
	w       *Watcher
	sink    NodeSink
	records fakeRecords
	seen    int
	mu      sync.Mutex
}

func newBubble(t *testing.T, staleAfter, resync time.Duration) (b *bubble, stop func()) {
	b = &bubble{t: t}
	nodes := newFakeNodes()
	var err error
	b.w, err = newWatcher(Config{
		Nodes: nodes, StaleAfter: staleAfter, Resync: resync, Logger: slog.New(slog.DiscardHandler),
	}, "a", &b.records, true)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		if err := b.w.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	queue := b.w.Queue()
	all.Go(func() {
		for {
			name, shutdown := queue.Get()
			if shutdown {
				return
			}
			b.mu.Lock()
			b.seen++
			b.mu.Unlock()
			queue.Done(name)
		}
	})
	b.sink = <-nodes.sinks
	b.sink.ReplaceNodes(listed("n1"), 1)
	if !b.looked() {
		t.Error("not looked at when both sources had loaded")
	}
	return b, func() { cancel(); all.Wait() }
}

// looked says whether the node came on the queue since it was last asked.
func (b *bubble) looked() bool {
	synctest.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	seen := b.seen
	b.seen = 0
	return seen > 0
}

func (b *bubble) expect(looked bool, want error) {
	b.t.Helper()
	if got := b.looked(); got != looked {
		b.t.Errorf("at %v: looked at the node: %v, want %v", time.Now(), got, looked)
	}
	if err := b.w.Sources().Check(); !errors.Is(err, want) || want == nil && err != nil {
		b.t.Errorf("at %v: sources are %v, want %v", time.Now(), err, want)
	}
}

// A source that says nothing becomes stale by itself, and the node is looked at
// then; a word makes it fresh, and the node is looked at again.
func TestFreshness_SilentNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, stop := newBubble(t, 2*time.Minute, 24*time.Hour)
		defer stop()
		b.expect(false, nil)
		time.Sleep(90 * time.Second)
		b.sink.Heard(nil)
		time.Sleep(2*time.Minute - time.Millisecond)
		b.expect(false, nil)
		time.Sleep(time.Millisecond)
		b.expect(true, ErrStale)
		time.Sleep(time.Hour)
		b.expect(false, ErrStale)
		b.sink.Heard(nil)
		b.expect(true, nil)
		time.Sleep(2 * time.Minute)
		b.expect(true, ErrStale)
		b.sink.ApplyNode(Node{Name: "n2"}, false)
		b.expect(true, nil)
	})
}

func TestFreshness_AnErrorIsStaleAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, stop := newBubble(t, 2*time.Minute, 24*time.Hour)
		defer stop()
		away := errors.New("away")
		b.sink.Heard(away)
		b.expect(true, ErrStale)
		b.expect(false, away)
		if s := b.w.Sources(); !errors.Is(s.Nodes.Err, away) || s.Nodes.Fresh || !s.Nodes.Synced || !s.Etcd.Fresh {
			t.Errorf("sources %+v", s)
		}
		b.sink.ReplaceNodes(listed("n1"), 1)
		b.expect(true, nil)
	})
}

func TestFreshness_EtcdHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, stop := newBubble(t, time.Minute, 24*time.Hour)
		defer stop()
		beat := func(d time.Duration) { // the nodes are heard of all the while
			for range d / (30 * time.Second) {
				time.Sleep(30 * time.Second)
				b.sink.Heard(nil)
			}
		}
		beat(10 * time.Minute)
		b.expect(false, nil)
		b.records.hang(true)
		beat(90 * time.Second)
		b.expect(true, ErrStale)
		if s := b.w.Sources(); s.Etcd.Fresh || !s.Nodes.Fresh {
			t.Errorf("sources %+v", s)
		}
		b.records.hang(false)
		beat(30 * time.Second)
		b.expect(true, nil)
	})
}

// Etcd's view is as fresh as the part of it that is heard of least, and the next
// look is due when the first source can become stale.
func TestFreshness_OfParts(t *testing.T) {
	now := time.Now()
	ago := func(d time.Duration) contact { return contact{at: now.Add(-d)} }
	f := freshness{after: time.Minute, nodes: ago(10 * time.Second)}
	if f.fresh(f.worst(), now) || f.next(now) != 50*time.Second {
		t.Errorf("nothing heard of etcd: fresh, or next look in %v", f.next(now))
	}
	for p := range parts {
		f.etcd[p] = ago(20 * time.Second)
	}
	f.etcd[partPause] = ago(30 * time.Second)
	if !f.fresh(f.worst(), now) || f.next(now) != 30*time.Second {
		t.Errorf("stale, or next look in %v, want 30s", f.next(now))
	}
	f.etcd[partQuarantines] = ago(time.Minute)
	if f.fresh(f.worst(), now) || f.next(now) != 50*time.Second {
		t.Errorf("fresh with a stale part, or next look in %v, want 50s", f.next(now))
	}
	f.nodes.err = errors.New("away")
	if f.next(now) != time.Minute {
		t.Errorf("all is stale: next look in %v, want 1m", f.next(now))
	}
}

// The full join is a backstop that comes whatever happens.
func TestResync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, stop := newBubble(t, time.Hour, 5*time.Minute)
		defer stop()
		for range 3 {
			time.Sleep(5*time.Minute - time.Second)
			b.expect(false, nil)
			time.Sleep(time.Second)
			b.expect(true, nil)
		}
	})
}
