package history

import (
	"slices"
	"sync"
	"time"
)

// CallKind says what a call may do to the ledger.
type CallKind string

// The kinds of calls that etcd's history does not explain by itself.
const (
	// CallEnd may end the hold of a place: detach, detach-all, commit (of the
	// source), abort (of the target).
	CallEnd CallKind = "end"
	// CallEvict may end lapsed holds of a cluster.
	CallEvict CallKind = "evict"
	// CallClear may delete detachments of a cluster.
	CallClear CallKind = "clear"
	// CallAttach and CallMigrate may put a hold of a place, the target's in a
	// migration. They explain holds where Checks.AttachesTold says so.
	CallAttach  CallKind = "attach"
	CallMigrate CallKind = "migrate"
)

// Call is a call that the run makes, or lets a process make. An empty volume
// or node stands for all of the cluster's.
type Call struct {
	Kind                  CallKind
	Volume, Cluster, Node string
	// Token is the only hold's that the call may end; 0: any.
	Token uint64
}

func (c Call) covers(o Call) bool {
	return c.Kind == o.Kind && (c.Volume == "" || c.Volume == o.Volume) && c.Cluster == o.Cluster &&
		(c.Node == "" || c.Node == o.Node) && (c.Token == 0 || c.Token == o.Token)
}

// Told is what the run says of its own doing. It is safe for concurrent use.
// Say it before doing it, so that no revision arrives unexplained.
type Told struct {
	now func() time.Duration

	mu      sync.Mutex
	calls   map[string][]*Begun // by volume, "" for those of all volumes
	nodes   map[place][]presence
	revoked map[int64]bool
	stood   map[stand]*Begun // the latest attach that succeeded
}

// stand is what an attach that succeeds stands by.
type stand struct {
	volume string
	place  place
}

type presence struct {
	from, to time.Duration // to: 0 while it lasts
}

// NewTold returns a Told whose times are now's.
func NewTold(now func() time.Duration) *Told {
	return &Told{now: now, calls: map[string][]*Begun{}, nodes: map[place][]presence{}, revoked: map[int64]bool{}, stood: map[stand]*Begun{}}
}

// Begun is a call under way, or one that has returned.
type Begun struct {
	told     *Told
	call     Call
	from     time.Duration
	returned time.Duration // 0 until it has
	known    bool          // what it was to do it has done, or never will
}

// Begin says that a call is about to be made.
func (t *Told) Begin(c Call) *Begun {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := &Begun{told: t, call: c, from: t.now()}
	t.calls[c.Volume] = append(t.calls[c.Volume], b)
	return b
}

// Done says that the call has returned, or its process was killed. known: what
// it did it has done, also if that is nothing. Not known: it may still do it, at
// any time, but to nothing that it could not know of yet.
func (b *Begun) Done(known bool) {
	b.told.mu.Lock()
	defer b.told.mu.Unlock()
	b.known, b.returned = known, b.told.now()
}

// Succeeded says that the call has done what it was to do.
func (b *Begun) Succeeded() {
	b.Done(true)
	b.told.mu.Lock()
	defer b.told.mu.Unlock()
	at := stand{b.call.Volume, place{b.call.Cluster, b.call.Node}}
	if last := b.told.stood[at]; b.call.Kind == CallAttach && (last == nil || last.from < b.from) {
		b.told.stood[at] = b
	}
}

// stoodBy finds an attach that began after a time, and had succeeded before another.
func (t *Told) stoodBy(volume string, p place, after, before time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.stood[stand{volume, p}]
	return b != nil && b.from > after && b.returned < before
}

// Present says that the node is there, after whatever made it so: in the node
// file, under the UID that it was attached under, not out of service. Saying so
// again changes nothing.
func (t *Told) Present(cluster, node string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := t.nodes[place{cluster, node}]
	if len(at) == 0 || at[len(at)-1].to != 0 {
		t.nodes[place{cluster, node}] = append(at, presence{from: t.now()})
	}
}

// Leaving says that the node is about to leave: say it before the file changes.
func (t *Told) Leaving(cluster, node string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := t.nodes[place{cluster, node}]
	if len(at) > 0 && at[len(at)-1].to == 0 {
		at[len(at)-1].to = t.now()
	}
}

// Revoked says that leases are about to be revoked by hand.
func (t *Told) Revoked(leases ...int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range leases {
		t.revoked[id] = true
	}
}

func (t *Told) wasRevoked(lease int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.revoked[lease]
}

// wasPresent: the node was there throughout.
func (t *Told) wasPresent(p place, from, to time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(t.nodes[p], func(at presence) bool {
		return at.from <= from && (at.to == 0 || at.to >= to)
	})
}

// explains finds a call that may have done, within the bounds, what c would do
// to something that was there since a time.
func (t *Told) explains(c Call, when Bounds, since time.Duration) bool {
	return t.find(c, when, func(b *Begun) bool { return b.returned == 0 || b.returned >= since })
}

// untold finds a call which may have done what c would do, and whose caller
// does not know that it did.
func (t *Told) untold(c Call, when Bounds) bool {
	return t.find(c, when, func(b *Begun) bool { return !b.known })
}

// find also forgets the calls that were over before: no later revision is theirs.
func (t *Told) find(c Call, when Bounds, fits func(*Begun) bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := false
	for _, volume := range []string{c.Volume, ""} {
		t.calls[volume] = slices.DeleteFunc(t.calls[volume], func(b *Begun) bool { return b.known && b.returned < when.Lower })
		if len(t.calls[volume]) == 0 {
			delete(t.calls, volume)
		}
		found = found || slices.ContainsFunc(t.calls[volume], func(b *Begun) bool {
			return b.call.covers(c) && b.from <= when.Upper && fits(b)
		})
	}
	return found
}
