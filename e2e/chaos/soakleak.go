package chaos

import (
	"context"
	"os"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// leaks are what drivers leak on purpose: ten times a second one of each.
type leaks struct {
	mu     sync.Mutex
	memory [][]byte
	files  []*os.File
	wait   chan struct{}
	joined sync.WaitGroup
}

const leakedBytes = 256 << 10

func (l *leaks) run(ctx context.Context, etcd *clientv3.Client) {
	l.mu.Lock()
	l.wait = make(chan struct{})
	l.mu.Unlock()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		l.one()
		// An etcd that is away just leaks less.
		_, _ = etcd.Grant(ctx, 3600)
		_, _ = etcd.Put(ctx, prefix+"leaked/"+strconv.Itoa(n), "")
	}
}

func (l *leaks) one() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.memory = append(l.memory, make([]byte, leakedBytes))
	if f, err := os.Open(os.DevNull); err == nil {
		l.files = append(l.files, f)
	}
	l.joined.Go(func() { <-l.wait })
}

// free ends what would outlive the soak.
func (l *leaks) free() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.files {
		_ = f.Close()
	}
	if l.wait != nil {
		close(l.wait)
	}
	l.joined.Wait()
	l.memory, l.files, l.wait = nil, nil, nil
}
