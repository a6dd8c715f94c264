package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/holdfast-storage/holdfast/bench"
)

// progress says on standard error what a run is at.
type progress struct {
	w     io.Writer
	total int
	mu    sync.Mutex
	done  int
}

func newProgress(w io.Writer, total int) *progress { return &progress{w: w, total: total} }

// watch has each workload say when it begins and ends.
func (p *progress) watch(workloads []bench.Workload) []bench.Workload {
	var watched []bench.Workload
	for _, w := range workloads {
		act := w.Run
		w.Run = func(ctx context.Context, r *bench.Run) error {
			began := time.Now()
			err := act(ctx, r)
			p.mu.Lock()
			p.done++
			n := p.done
			p.mu.Unlock()
			p.say("%d of %d: %s, %s", n, p.total, w.Name, time.Since(began).Round(100*time.Millisecond))
			return err
		}
		watched = append(watched, w)
	}
	return watched
}

func (p *progress) step(string) {}

func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.w, format+"\n", args...)
}

// Write is for logs.
func (p *progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.w.Write(b)
}

func (p *progress) close() {}
