package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/state/statetest"
)

// fakeNodes is a NodeSource that says what a test tells it to.
type fakeNodes struct {
	sinks chan NodeSink
	fail  chan error
}

func newFakeNodes() *fakeNodes {
	return &fakeNodes{sinks: make(chan NodeSink, 1), fail: make(chan error, 1)}
}

func (f *fakeNodes) Run(ctx context.Context, _ func(context.Context) (int64, error), sink NodeSink) error {
	f.sinks <- sink
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-f.fail:
		return err
	}
}

func (f *fakeNodes) Live(context.Context, string) (Node, error) {
	return Node{}, errors.New("not asked")
}
func (f *fakeNodes) ClusterUID(context.Context) (string, error) { return "uid-a", nil }

// stage is a Watcher of cluster a on a real etcd, with a Node list of the test's.
type stage struct {
	t       *testing.T
	etcd    *statetest.Etcd
	prefix  string
	cluster *state.Cluster
	nodes   *fakeNodes
	sink    NodeSink
	logs    *lines
	w       *Watcher
	seen    chan string // names from the queue
}

// onStage makes a stage on etcd, reached at endpoints, that does not run yet.
func onStage(t *testing.T, etcd *statetest.Etcd, endpoints []string, tune func(*Config)) *stage {
	t.Helper()
	s := &stage{t: t, etcd: etcd, prefix: statetest.Prefix(t), nodes: newFakeNodes(), logs: &lines{}, seen: make(chan string, 10_000)}
	log := slog.New(slog.NewTextHandler(s.logs, nil))
	ledger, err := state.Open(t.Context(), state.Config{
		Endpoints: endpoints, Prefix: s.prefix, By: "test", DialTimeout: patience, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := ledger.Close(); err != nil {
			t.Error(err)
		}
	})
	s.cluster, err = ledger.Cluster(t.Context(), state.Identity{Name: "a", UID: "uid-a"})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Cluster: s.cluster, Nodes: s.nodes, Resync: time.Hour, Logger: log}
	if tune != nil {
		tune(&cfg)
	}
	s.w, err = New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newStage(t *testing.T, tune func(*Config)) *stage {
	t.Helper()
	etcd := statetest.Shared(t)
	return onStage(t, etcd, etcd.Endpoints(), tune)
}

// run runs the Watcher with a Node list until the test ends, or stop is called,
// and takes what comes on its queue.
func (s *stage) run(nodes ...string) (stop func()) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		if err := s.w.Run(ctx); !errors.Is(err, context.Canceled) {
			s.t.Errorf("Run returned %v, want the context's error", err)
		}
	})
	queue := s.w.Queue()
	all.Go(func() {
		for {
			name, shutdown := queue.Get()
			if shutdown {
				return
			}
			s.seen <- name
			queue.Done(name)
		}
	})
	s.sink = <-s.nodes.sinks
	s.sink.ReplaceNodes(listed(nodes...), 1)
	stop = sync.OnceFunc(func() { cancel(); queue.ShutDown(); all.Wait() })
	s.t.Cleanup(stop)
	synced, enough := context.WithTimeout(ctx, patience)
	defer enough()
	if err := s.w.WaitSynced(synced); err != nil {
		s.t.Fatal(err)
	}
	return stop
}

func listed(names ...string) []Node {
	nodes := []Node{}
	for _, n := range names {
		nodes = append(nodes, Node{Name: n, UID: "uid-" + n, Ready: true})
	}
	return nodes
}

// put writes a record past everything. Keys are relative to the ledger's.
func (s *stage) put(key, value string) {
	s.t.Helper()
	if _, err := s.etcd.Client(s.t).Put(s.t.Context(), s.prefix+"v1/"+key, value); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) del(key string) {
	s.t.Helper()
	if _, err := s.etcd.Client(s.t).Delete(s.t.Context(), s.prefix+"v1/"+key); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) attach(volume, node string) state.Hold {
	s.t.Helper()
	h, err := s.cluster.Attach(s.t.Context(), state.AttachRequest{Volume: volume, Node: node})
	if err != nil {
		s.t.Fatal(err)
	}
	return h
}

func (s *stage) detach(volume, node string, grace time.Duration) {
	s.t.Helper()
	if _, err := s.cluster.Detach(s.t.Context(), state.DetachRequest{Volume: volume, Node: node, Grace: grace}); err != nil {
		s.t.Fatal(err)
	}
}

// until waits for a node to come on the queue and be as cond says.
func (s *stage) until(node, what string, cond func(NodeView) bool) {
	s.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case name := <-s.seen:
			if name == node && cond(s.w.Node(name)) {
				return
			}
		case <-timeout:
			s.t.Fatalf("waited %v for %s on the queue, %s: %+v", patience, node, what, s.w.Node(node))
		}
	}
}

// drain empties the queue of what it has now.
func (s *stage) drain() []string {
	var out []string
	for {
		select {
		case name := <-s.seen:
			out = append(out, name)
		default:
			return out
		}
	}
}

// eventually waits for a condition that nothing announces.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for timeout := time.After(patience); !cond(); {
		select {
		case <-again.C:
		case <-timeout:
			t.Fatalf("waited %v until %s", patience, what)
		}
	}
}

// lines is a log that can be read while it is written.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) with(text string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

func attachmentJSON(mode string) string {
	return fmt.Sprintf(`{"mode":%q,"epoch":0,"since":"2026-01-02T03:04:05.678Z"}`, mode)
}
