package watch

import (
	"context"
	"errors"
	"iter"
	"slices"
	"time"

	"k8s.io/client-go/util/workqueue"

	"github.com/holdfast-storage/holdfast/state"
)

// Queue has the names of the nodes to decide about: suspects whose evidence
// changed, and nodes that have just ceased to be suspects. A suspect has
// attachments and is not in the Node list, or is out of service, or has another
// UID (with Config.MatchNodeUID); or it has a departure or a quarantine. A
// healthy node never goes on the queue, whatever is attached to it, and no node
// does before both sources have loaded.
//
// Who takes the queue shuts it down when done with it. Run does so too when it
// returns. After that Queue gives a new one, with all suspects on it.
func (w *Watcher) Queue() workqueue.TypedRateLimitingInterface[string] {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.queue == nil || w.queue.ShuttingDown() {
		// An order of its own: someone may still be emptying the old queue.
		w.order = &order{waited: w.metrics.waited}
		w.queue = newQueue(w.order)
		if loaded, _ := w.hasLoaded(); loaded {
			for _, name := range w.index.suspects.list() {
				w.queue.Add(name)
			}
		}
	}
	return w.queue
}

// Rejoin puts all suspects on the queue, as is due when something that concerns
// all of them changed and the Watcher does not see it: this process has come to
// lead, the brake was released. It does so by itself when the pause, the
// ledger's or the cluster's record change, and when a source is synced, becomes
// stale or becomes fresh.
func (w *Watcher) Rejoin() {
	w.update(func() changes { return changes{all: true} })
}

// WaitSynced returns nil once both sources have given a whole list. When ctx
// ends before, its error says which has not and why, and is an ErrNotSynced.
func (w *Watcher) WaitSynced(ctx context.Context) error {
	w.mu.Lock()
	loaded := w.loaded
	w.mu.Unlock()
	select {
	case <-loaded:
		return nil
	default:
	}
	select {
	case <-loaded:
		return nil
	case <-ctx.Done():
		return errors.Join(w.Sources().notLoaded(), ctx.Err())
	}
}

// Sources says how far each source can be relied on just now.
func (w *Watcher) Sources() Sources {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sources(time.Now())
}

func (w *Watcher) sources(now time.Time) Sources {
	source := func(c contact) Source {
		return Source{Loaded: true, Synced: true, Fresh: w.fresh.fresh(c, now), LastContact: c.at, Err: c.err}
	}
	out := Sources{
		Nodes: source(w.fresh.nodes), Etcd: source(w.fresh.worst()), ContinuousSince: w.index.nodes.revision,
	}
	out.Nodes.Loaded, out.Nodes.Synced = w.index.nodes.loaded, w.index.nodes.loaded
	for _, v := range w.index.parts {
		out.Etcd.Loaded = out.Etcd.Loaded && v.loaded
		out.Etcd.Synced = out.Etcd.Synced && v.loaded && !v.under
	}
	return out
}

// Node is all there is of a node. A name that nothing is known of gives a view
// of a node that is not present.
func (w *Watcher) Node(name string) NodeView {
	w.mu.Lock()
	out, all := w.index.glance(name)
	w.mu.Unlock()
	out.Attachments = attachmentsOf(w.cluster, name, all)
	return out
}

// HasAttachment says whether a node has an attachment of a volume.
func (w *Watcher) HasAttachment(node, volume string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.index.entries[node]
	return e != nil && e.records[volume] != nil
}

// Departure is a node's departure, and whether there is one.
func (w *Watcher) Departure(node string) (state.Departure, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e := w.index.entries[node]; e != nil && e.departure != nil {
		return *e.departure, true
	}
	return state.Departure{}, false
}

// Attached says whether a node has attachments.
func (w *Watcher) Attached(node string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.index.entries[node]
	return e != nil && len(e.records) > 0
}

// Suspects are the nodes that there is something to decide about, sorted. See Queue.
func (w *Watcher) Suspects() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.index.suspects.list())
}

// Cluster is what concerns all nodes. It costs nothing that grows with the
// number of attachments.
func (w *Watcher) Cluster() ClusterView {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.index.counts()
	out.Sources = w.sources(time.Now())
	return out
}

// Attachments yields all attachments of the cluster, one node after the other.
// Each node's are of one moment; between the nodes time goes on. It holds no
// lock while it yields.
func (w *Watcher) Attachments() iter.Seq[state.Attachment] {
	return func(yield func(state.Attachment) bool) {
		w.mu.Lock()
		names := make([]string, 0, len(w.index.entries))
		for name := range w.index.entries {
			names = append(names, name)
		}
		w.mu.Unlock()
		for _, name := range names {
			for _, a := range w.Node(name).Attachments {
				if !yield(a) {
					return
				}
			}
		}
	}
}

// Leases counts the attachments under each lease. Those without a lease, which
// nothing of ours puts, are under none.
func (w *Watcher) Leases() map[state.LeaseID]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make(map[state.LeaseID]int, len(w.index.leases))
	for id, n := range w.index.leases {
		out[id] = n
	}
	return out
}

// Lapses receives when there is something for TakeLapses to take.
func (w *Watcher) Lapses() <-chan struct{} { return w.lapsed }

// TakeLapses takes at most limit of the attachments that were deleted while the
// Watcher looked on and were not put again since. Each is given once. Plain
// detaches are among them. Take until there are none: Lapses receives for the
// first of many.
//
// overflowed: more than 100,000 waited to be taken and some were forgotten; a
// walk of the holds (state.Ledger.HoldKeys) finds them.
func (w *Watcher) TakeLapses(limit int) (lapses []Lapse, overflowed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.index.lapses.take(limit, w.index.leases)
}
