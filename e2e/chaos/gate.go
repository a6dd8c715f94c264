package chaos

import (
	"context"
	"sync"
)

// gate lets drivers pass while it is open.
type gate struct {
	mu     sync.Mutex
	opened chan struct{} // closed while the gate is open
}

func (g *gate) channel() chan struct{} {
	if g.opened == nil {
		g.opened = make(chan struct{})
	}
	return g.opened
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.channel())
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.opened = nil
}

// pass waits until the gate is open. It is false where ctx ends before.
func (g *gate) pass(ctx context.Context) bool {
	g.mu.Lock()
	opened := g.channel()
	g.mu.Unlock()
	select {
	case <-opened:
		return true
	case <-ctx.Done():
		return false
	}
}

// alone lets faults stand side by side, but for those that need etcd whole.
type alone struct{ mu sync.RWMutex }

func (a *alone) enter(alone bool) (done func()) {
	if alone {
		a.mu.Lock()
		return a.mu.Unlock
	}
	a.mu.RLock()
	return a.mu.RUnlock
}
