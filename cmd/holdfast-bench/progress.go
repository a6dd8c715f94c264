package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/holdfast-storage/holdfast/bench"
)

// progress says on standard error what a run is at: with a bar on a terminal, and
// elsewhere with lines.
type progress struct {
	w     io.Writer
	total int
	mu    sync.Mutex
	bar   *progressbar.ProgressBar // nil without a terminal
	begun int
}

func newProgress(w io.Writer, total int) *progress {
	p := &progress{w: w, total: total}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.bar = progressbar.NewOptions(total, progressbar.OptionSetWriter(w), progressbar.OptionSetWidth(24),
			progressbar.OptionShowCount(), progressbar.OptionSetElapsedTime(true), progressbar.OptionSetPredictTime(false),
			progressbar.OptionClearOnFinish(), progressbar.OptionShowDescriptionAtLineEnd())
	}
	return p
}

// watch has each workload say when it begins and ends.
func (p *progress) watch(workloads []bench.Workload) []bench.Workload {
	var watched []bench.Workload
	for _, w := range workloads {
		act := w.Run
		w.Run = func(ctx context.Context, r *bench.Run) error {
			p.begin(w.Name)
			began := time.Now()
			err := act(ctx, r)
			p.end(w.Name, time.Since(began), err)
			return err
		}
		watched = append(watched, w)
	}
	return watched
}

func (p *progress) begin(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun++
	if p.bar == nil {
		fmt.Fprintf(p.w, "%d of %d: %s\n", p.begun, p.total, name)
		return
	}
	p.bar.Describe(name)
}

func (p *progress) end(name string, took time.Duration, err error) {
	how := ""
	if err != nil {
		how = ", and failed"
	}
	p.say("%s took %s%s", name, took.Round(100*time.Millisecond), how)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		_ = p.bar.Add(1) // a bar that is not seen is no reason to stop
	}
}

// step is what a workload is at: for a bar only.
func (p *progress) step(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		p.bar.Describe(what)
	}
}

func (p *progress) say(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

// Write is for logs: what is written comes above the bar.
func (p *progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar == nil {
		return p.w.Write(b)
	}
	_ = p.bar.Clear()
	n, err := p.w.Write(b)
	_ = p.bar.RenderBlank()
	return n, err
}

// close takes the bar away.
func (p *progress) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		_ = p.bar.Exit()
		_ = p.bar.Clear()
		p.bar = nil
	}
}
