package main

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	// maxBacklog is how much of a watch's output may wait to be read: some
	// hundred thousand changes.
	maxBacklog = 32 << 20
	// lastWords is how long the end of a watch waits for its output to be read.
	lastWords = time.Second
)

var errBacklog = errors.New("the output is not read")

// backlog stands between a watch and its output. A pipe that nobody reads blocks
// who writes to it, and etcd's client would meanwhile keep all changes in memory.
// So a list waits for its reader, and changes only up to limit.
type backlog struct {
	w     io.Writer
	limit int

	mu      sync.Mutex
	changed *sync.Cond
	waiting []byte
	changes bool // what is written are changes, not a list
	closed  bool
	err     error
	drained chan struct{}
}

func newBacklog(w io.Writer, limit int) *backlog {
	b := &backlog{w: w, limit: limit, drained: make(chan struct{})}
	b.changed = sync.NewCond(&b.mu)
	go b.drain()
	return b
}

// Write queues p. It fails where its turn would come too late.
func (b *backlog) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.err == nil && len(b.waiting) > 0 && len(b.waiting)+len(p) > b.limit {
		if b.changes {
			b.err = fmt.Errorf("%w: %d MiB of changes wait", errBacklog, b.limit>>20)
			break
		}
		b.changed.Wait()
	}
	if b.err != nil {
		return 0, b.err
	}
	b.waiting = append(b.waiting, p...)
	b.changed.Broadcast()
	return len(p), nil
}

// follow says whether changes are written from now on, or a list.
func (b *backlog) follow(changes bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.changes = changes
}

func (b *backlog) drain() {
	defer close(b.drained)
	for {
		b.mu.Lock()
		for len(b.waiting) == 0 && !b.closed {
			b.changed.Wait()
		}
		text := b.waiting
		b.waiting = nil
		b.changed.Broadcast()
		b.mu.Unlock()
		if len(text) == 0 {
			return
		}
		if _, err := b.w.Write(text); err != nil {
			b.fail(err)
			return
		}
	}
}

func (b *backlog) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
	b.changed.Broadcast()
}

// close lets what waits be read, but not for ever.
func (b *backlog) close() error {
	b.mu.Lock()
	b.closed = true
	b.changed.Broadcast()
	b.mu.Unlock()
	select {
	case <-b.drained:
	case <-time.After(lastWords):
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}
