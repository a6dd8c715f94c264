package cluster

import (
	"context"
	"sync"
	"time"
)

// nobody stands for a sender that is no member.
const nobody = -1

// network says what of the members' traffic passes, by sender and receiver.
type network struct {
	mu      sync.Mutex
	blocked [Size][Size]bool
	delay   [Size][Size]time.Duration
	changed chan struct{} // closed at the next change
	flights map[*flight]bool
}

// flight is one HTTP exchange between two members.
type flight struct {
	a, b   int
	cancel context.CancelFunc
}

func newNetwork() *network {
	return &network{changed: make(chan struct{}), flights: make(map[*flight]bool)}
}

func (n *network) change(do func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	do()
	close(n.changed)
	n.changed = make(chan struct{})
}

// block holds back, or lets go on, what from says to to. What is held back is
// late and not lost, as on a network that comes back; etcd gives up a
// connection after 5 s of silence, and then what it held is lost.
func (n *network) block(from, to int, blocked bool) {
	n.change(func() { n.blocked[from][to] = blocked })
}

// slow makes what from says to to arrive d later.
func (n *network) slow(from, to int, d time.Duration) {
	n.change(func() { n.delay[from][to] = d })
}

// heal lets everything pass.
func (n *network) heal() {
	n.change(func() {
		n.blocked = [Size][Size]bool{}
		n.delay = [Size][Size]time.Duration{}
	})
}

// due is when what from says to to now arrives, as long as nothing blocks it.
func (n *network) due(from, to int) time.Time {
	now := time.Now()
	if from == nobody || to == nobody {
		return now
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return now.Add(n.delay[from][to])
}

// pass waits until it is due and the way is open; false: the context has ended.
func (n *network) pass(ctx context.Context, from, to int, due time.Time) bool {
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return false
	}
	if from == nobody || to == nobody {
		return true
	}
	for {
		n.mu.Lock()
		blocked, changed := n.blocked[from][to], n.changed
		n.mu.Unlock()
		if !blocked {
			return ctx.Err() == nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// fly notes an exchange, so that reset finds it. The caller lands it.
func (n *network) fly(ctx context.Context, a, b int) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	f := &flight{a: a, b: b, cancel: cancel}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.flights[f] = true
	return ctx, func() {
		cancel()
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.flights, f)
	}
}

// reset ends every exchange that member takes part in, once.
func (n *network) reset(member int) (ended int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for f := range n.flights {
		if f.a == member || f.b == member {
			f.cancel()
			ended++
		}
	}
	return ended
}
