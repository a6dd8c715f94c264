package watch

import (
	"sync"
	"time"

	"k8s.io/client-go/util/workqueue"
)

// A node whose decision failed is tried again after retryFirst, and then after
// twice as long each time, up to retryMost.
const (
	retryFirst = 50 * time.Millisecond
	retryMost  = time.Minute
)

type nodeQueue = workqueue.TypedRateLimitingInterface[string]

// newQueue makes a work queue whose waiting nodes order can tell of. The queue
// has a goroutine, which its ShutDown ends.
func newQueue(order *order) nodeQueue {
	limit := workqueue.NewTypedItemExponentialFailureRateLimiter[string](retryFirst, retryMost)
	return workqueue.NewTypedRateLimitingQueueWithConfig(limit, workqueue.TypedRateLimitingQueueConfig[string]{
		DelayingQueue: workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[string]{
			Queue: workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[string]{Queue: order}),
		}),
	})
}

// order is a work queue's first-in-first-out order, which also knows how long
// each has waited. The work queue calls it under a lock of its own; mu is for
// those who measure.
type order struct {
	waited func(time.Duration) // nil: no one asks

	mu    sync.Mutex
	items []waiting
}

type waiting struct {
	name  string
	since time.Time
}

var _ workqueue.Queue[string] = (*order)(nil)

// Touch leaves a node that is put on again in its place.
func (o *order) Touch(string) {}

// Push puts a node at the end.
func (o *order) Push(name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.items = append(o.items, waiting{name: name, since: time.Now()})
}

// Len counts the nodes that wait.
func (o *order) Len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.items)
}

// Pop takes the node that has waited for the longest time.
func (o *order) Pop() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	first := o.items[0]
	o.items[0] = waiting{} // lets go of the name
	o.items = o.items[1:]
	if o.waited != nil {
		o.waited(time.Since(first.since))
	}
	return first.name
}

// oldest is how long the first in the order has waited.
func (o *order) oldest() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.items) == 0 {
		return 0
	}
	return time.Since(o.items[0].since)
}
