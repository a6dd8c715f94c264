package chaos

import "sync"

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
