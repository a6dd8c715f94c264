package watch

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// patience bounds every wait for a condition. It is long, since a slow machine
// is no failure, and no test that passes waits for its end.
const patience = 30 * time.Second

// recorder is a NodeSink that remembers, and tells of each change.
type recorder struct {
	mu      sync.Mutex
	nodes   map[string]Node
	ever    map[string]bool // the names of all nodes there ever were
	since   int64
	lists   int
	heard   int // signs of life, lists and changes included
	err     error
	errs    []string
	changed chan struct{}
}

func newRecorder() *recorder {
	return &recorder{ever: map[string]bool{}, changed: make(chan struct{})}
}

// had says whether a node was ever there. Call it from read.
func (r *recorder) had(name string) bool { return r.ever[name] }

func (r *recorder) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *recorder) ReplaceNodes(nodes []Node, since int64) {
	r.change(func() {
		r.nodes = map[string]Node{}
		for _, n := range nodes {
			r.nodes[n.Name] = n
			r.ever[n.Name] = true
		}
		r.since, r.err = since, nil
		r.lists++
		r.heard++
	})
}

func (r *recorder) ApplyNode(n Node, deleted bool) {
	r.change(func() {
		if deleted {
			delete(r.nodes, n.Name)
		} else {
			r.nodes[n.Name] = n
		}
		r.err = nil
		r.heard++
	})
}

func (r *recorder) Heard(err error) {
	r.change(func() {
		r.err = err
		if err == nil {
			r.heard++
		} else {
			r.errs = append(r.errs, err.Error())
		}
	})
}

// until waits until the recorder is as cond says. cond reads it under its lock.
func (r *recorder) until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	timeout := time.After(patience)
	for {
		r.mu.Lock()
		ok, changed := cond(), r.changed
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			r.mu.Lock()
			defer r.mu.Unlock()
			t.Fatalf("waited %v until %s: nodes %v since %d, %d lists, heard %d times, errors %q",
				patience, what, r.names(), r.since, r.lists, r.heard, r.errs)
		}
	}
}

func (r *recorder) names() string {
	return strings.Join(slices.Sorted(maps.Keys(r.nodes)), " ")
}

// untilNodes waits for the list of these names, with no error after it.
func (r *recorder) untilNodes(t *testing.T, names string) {
	t.Helper()
	r.until(t, "the nodes are "+names, func() bool { return r.lists > 0 && r.names() == names && r.err == nil })
}

// untilError waits for an error that has all of texts in it.
func (r *recorder) untilError(t *testing.T, texts ...string) {
	t.Helper()
	r.until(t, "an error says "+strings.Join(texts, ", "), func() bool {
		if r.err == nil {
			return false
		}
		for _, text := range texts {
			if !strings.Contains(r.err.Error(), text) {
				return false
			}
		}
		return true
	})
}

func (r *recorder) read(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// revisions counts up from 1, and fails while it is told to.
type revisions struct {
	n    atomic.Int64
	fail atomic.Bool
	hook func()
}

var errNoRevision = errors.New("etcd is away")

func (r *revisions) next(context.Context) (int64, error) {
	if r.fail.Load() {
		return 0, errNoRevision
	}
	if r.hook != nil {
		r.hook()
	}
	return r.n.Add(1), nil
}

// runSource runs a source until the test ends, and checks that it ends then.
func runSource(t *testing.T, source NodeSource, revision func(context.Context) (int64, error)) *recorder {
	t.Helper()
	sink := newRecorder()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- source.Run(ctx, revision, sink) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("Run returned %v, want the context's error", err)
			}
		case <-time.After(patience):
			t.Errorf("Run goes on %v after its context has ended", patience)
		}
	})
	return sink
}
