package watch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/holdfast-storage/holdfast/state"
)

// maxGraceWatches bounds the volumes whose detachments are watched at a time.
// Each asks etcd for a sign of life every few seconds, and etcd answers to all
// of a connection at once, so their cost grows with the square. The volumes
// past it wait for one to end. A grace goes on meanwhile, so those that come
// later mostly find it over.
const maxGraceWatches = 64

// graces follows the detachments of the volumes that a node waits for.
type graces struct {
	bound    int
	wanted   map[string]map[string]struct{} // volume: the nodes that wait for it
	watching map[string]context.CancelFunc
	queued   []string // volumes that wait for a place; some may be wanted no more
	signal   chan struct{}
}

func newGraces() graces {
	return graces{
		bound:  maxGraceWatches,
		wanted: make(map[string]map[string]struct{}), watching: make(map[string]context.CancelFunc),
		signal: make(chan struct{}, 1),
	}
}

func (g *graces) wake() {
	select {
	case g.signal <- struct{}{}:
	default: // one is on its way
	}
}

func (g *graces) add(at waiter) {
	nodes := g.wanted[at.volume]
	if nodes == nil {
		nodes = make(map[string]struct{}, 1)
		g.wanted[at.volume] = nodes
		g.queued = append(g.queued, at.volume)
		g.wake()
	}
	nodes[at.node] = struct{}{}
}

// remove forgets a wait. The watch of a volume that no node waits for ends.
func (g *graces) remove(at waiter) {
	nodes := g.wanted[at.volume]
	delete(nodes, at.node)
	if nodes == nil || len(nodes) > 0 {
		return
	}
	delete(g.wanted, at.volume)
	if cancel := g.watching[at.volume]; cancel != nil {
		cancel()
	}
}

// next takes the next volume to watch, "" if there is none or no place.
func (g *graces) next() string {
	for len(g.watching) < g.bound && len(g.queued) > 0 {
		volume := g.queued[0]
		g.queued = g.queued[1:]
		if g.watching[volume] == nil && len(g.wanted[volume]) > 0 {
			return volume
		}
	}
	return ""
}

// WatchGrace follows the detachments of a volume until the node has none, and
// then puts the node on the queue; it is how a decision waits for a grace
// without asking again and again. NodeView.InGrace has the volume meanwhile. It
// does nothing where the node has no attachment of the volume, or waits
// already. The wait ends with the attachment, and with Run.
func (w *Watcher) WatchGrace(node, volume string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running && w.index.awaitGrace(node, volume) {
		w.graces.add(waiter{node: node, volume: volume})
	}
}

// runGraces keeps the watches that graces asks for.
func (w *Watcher) runGraces(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-w.graces.signal:
		}
		for {
			w.mu.Lock()
			volume := w.graces.next()
			if volume == "" {
				w.mu.Unlock()
				break
			}
			one, stop := context.WithCancel(ctx)
			w.graces.watching[volume] = stop
			w.mu.Unlock()
			all.Go(func() {
				if err := w.followGrace(one, volume); err != nil && one.Err() == nil {
					cancel(err)
				}
				stop()
				w.graceDone(volume)
			})
		}
	}
}

// graceDone gives the place of a watch to the next, or to the same volume if a
// node came to wait for it while its watch was ending.
func (w *Watcher) graceDone(volume string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.graces.watching, volume)
	if len(w.graces.wanted[volume]) > 0 {
		w.graces.queued = append(w.graces.queued, volume)
	}
	w.graces.wake()
}

var errNoOneWaits = errors.New("no one waits")

func (w *Watcher) followGrace(ctx context.Context, volume string) error {
	there := make(map[string]string) // key of a detachment: its node
	under := true
	err := w.records.Watch(ctx, state.ScopeDetachments(volume), func(b state.Batch) error {
		if b.Reset {
			clear(there)
			under = true
		}
		for _, e := range b.Events {
			d, ok := e.Record.(state.Detachment)
			switch {
			case !ok || d.Cluster != w.cluster:
			case e.Type == state.Delete:
				delete(there, e.Key)
			default:
				there[e.Key] = d.Node
			}
		}
		if b.Synced {
			under = false
		}
		if under {
			return nil
		}
		return w.graceIs(volume, slices.Collect(maps.Values(there)))
	})
	if errors.Is(err, errNoOneWaits) {
		return nil
	}
	return fmt.Errorf("detachments of volume %q: %w", volume, err)
}

// graceIs ends the waits of the nodes that have no detachment of a volume.
func (w *Watcher) graceIs(volume string, nodes []string) error {
	var left int
	w.update(func() (c changes) {
		for node := range w.graces.wanted[volume] {
			if slices.Contains(nodes, node) {
				continue
			}
			delete(w.graces.wanted[volume], node)
			if ended := w.index.endGrace(node, volume); ended.nodes != nil {
				c.touch(node)
			}
		}
		if left = len(w.graces.wanted[volume]); left == 0 {
			delete(w.graces.wanted, volume)
		}
		return c
	})
	if left == 0 {
		return errNoOneWaits
	}
	return nil
}
