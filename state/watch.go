package state

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-storage/holdfast/failpoint"
)

// EventType is what happened to a record.
type EventType string

// The types of an Event.
const (
	Put    EventType = "put"
	Delete EventType = "delete"
)

// Event is one change of a record.
type Event struct {
	Type EventType
	Key  string
	// Revision is that of the change.
	Revision int64
	// Record is a Hold, Attachment, Detachment, Migration, Departure,
	// Quarantine, Pause, LedgerRecord, ClusterRecord, RestoreFreeze, Witness or Entry. For a Delete it
	// has its names and, where the scope says so, what was deleted.
	Record any
	// Broken is why a record does not decode; its names are there all the same.
	Broken error
}

// Batch is what a watch has to tell at a time.
type Batch struct {
	// Reset begins a list: what is not put again before Synced is gone.
	Reset bool
	// Synced ends a list. From here on the view is complete up to Revision.
	Synced   bool
	Events   []Event
	Revision int64
	// Contact is when the batch came, on the monotonic clock. A batch without
	// events says no more than that.
	Contact time.Time
}

const (
	// progressEvery is how often a quiet watch is asked for a sign of life.
	progressEvery = 5 * time.Second
	// watchBackoffAfter is how long a watch must have lasted for its end not to
	// count as one of a row of failures.
	watchBackoffAfter = 10 * time.Second
)

// Watch lists the records of a scope at one revision and then follows their
// changes, in order, calling handle from one goroutine. Where the changes since
// cannot be had (compaction, a member cut off from its leader), it lists anew.
// It returns when ctx ends, when handle fails, or when etcd refuses the role.
//
// handle must be quick: etcd's client keeps what it has not taken in memory.
func (l *Ledger) Watch(ctx context.Context, s Scope, handle func(Batch) error) error {
	var wait backoff
	for {
		begun := time.Now()
		err := l.watchOnce(ctx, s, handle)
		var stop *handlerError
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &stop):
			return stop.error
		case errors.Is(err, ErrPermission), errors.Is(err, ErrRestored):
			return fmt.Errorf("watching %s: %w", s.kind, err)
		}
		l.log.Warn("watch broken off, listing again", "kind", string(s.kind), "error", err)
		if time.Since(begun) > watchBackoffAfter {
			wait = backoff{}
		}
		if err := wait.wait(ctx); err != nil {
			return err
		}
	}
}

// handlerError is the caller's own.
type handlerError struct{ error }

func (l *Ledger) watchOnce(ctx context.Context, s Scope, handle func(Batch) error) error {
	// Without a leader the member that serves the watch would stay silent.
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	revision, err := l.watchList(ctx, s, handle)
	if err != nil {
		return err
	}
	changes := l.changes(ctx, s, revision)
	ask := time.NewTicker(progressEvery)
	defer ask.Stop()
	for {
		select {
		case resp, open := <-changes:
			if !open {
				return errors.New("etcd ended the watch")
			}
			if resp.CompactRevision != 0 && failpoint.Planted(failpoint.SkipRelist) {
				changes = l.changes(ctx, s, resp.CompactRevision)
				break
			}
			batch, err := l.watchBatch(resp, revision)
			if err != nil {
				return err
			}
			revision = batch.Revision
			if err := handle(batch); err != nil {
				return &handlerError{err}
			}
		case <-ask.C:
			asked := time.Now()
			alive := l.askProgress(ctx, s, revision)
			if err := l.halted(); err != nil {
				return err
			}
			if !alive {
				break
			}
			if err := handle(Batch{Revision: revision, Contact: asked}); err != nil {
				return &handlerError{err}
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// changes follows a scope from the revision after the given one on.
func (l *Ledger) changes(ctx context.Context, s Scope, after int64) clientv3.WatchChan {
	opts := []clientv3.OpOption{
		clientv3.WithRange(s.end(l.keys)), clientv3.WithRev(after + 1),
		clientv3.WithProgressNotify(), clientv3.WithFragment(),
	}
	if s.previous {
		opts = append(opts, clientv3.WithPrevKV())
	}
	return l.client.Watch(ctx, s.begin(l.keys), opts...)
}

// askProgress asks a watch for a sign of life, or finds that it needs none: while
// etcd as a whole is at a revision that the watch has shown, nothing is missing.
// Then it returns true. (Until something is written after a watch's start, etcd
// answers no question about its progress.)
func (l *Ledger) askProgress(ctx context.Context, s Scope, shown int64) bool {
	reading, cancel := context.WithTimeout(ctx, progressEvery)
	defer cancel()
	current, err := l.Revision(reading)
	if err == nil && current <= shown {
		return true
	}
	if err == nil && l.asks.allow(time.Now()) {
		err = l.client.RequestProgress(ctx)
	}
	if err != nil && ctx.Err() == nil {
		l.log.Debug("asking a watch for its progress", "kind", string(s.kind), "error", err)
	}
	return false
}

// asking keeps the watches of a ledger from asking each for itself: etcd answers
// one question to every watch of the connection.
type asking struct {
	mu   sync.Mutex
	last time.Time
}

func (a *asking) allow(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Sub(a.last) < progressEvery/2 {
		return false
	}
	a.last = now
	return true
}

// watchList hands over the list that a watch begins with.
func (l *Ledger) watchList(ctx context.Context, s Scope, handle func(Batch) error) (int64, error) {
	l.metrics.relist(s.kind)
	revision, first := int64(0), true
	for p, err := range l.pages(ctx, s.begin(l.keys), s.end(l.keys), 0) {
		if err != nil {
			return 0, err
		}
		revision = p.revision
		batch := Batch{Reset: first, Revision: revision, Contact: time.Now(), Events: make([]Event, 0, len(p.kvs))}
		first = false
		for _, kv := range p.kvs {
			batch.Events = l.event(batch.Events, Put, kv, nil)
		}
		if err := handle(batch); err != nil {
			return 0, &handlerError{err}
		}
	}
	if err := handle(Batch{Synced: true, Revision: revision, Contact: time.Now()}); err != nil {
		return 0, &handlerError{err}
	}
	return revision, nil
}

// watchBatch makes a batch of a response. During catch-up the header's revision
// may be ahead of the events delivered, so the view counts from the events, or
// from a progress notification.
func (l *Ledger) watchBatch(resp clientv3.WatchResponse, revision int64) (Batch, error) {
	if err := resp.Err(); err != nil {
		if resp.CompactRevision != 0 {
			return Batch{}, fmt.Errorf("revision %d is compacted: %w", revision, err)
		}
		_, err = l.classify(err)
		return Batch{}, err
	}
	if resp.Header != nil && resp.Header.ClusterId != l.etcdID.Load() {
		return Batch{}, l.observe(resp.Header, 0)
	}
	batch := Batch{Revision: revision, Contact: time.Now()}
	if resp.IsProgressNotify() {
		batch.Revision = max(revision, resp.Header.Revision)
		return batch, nil
	}
	for _, e := range resp.Events {
		typ := Put
		if e.Type == clientv3.EventTypeDelete {
			typ = Delete
		}
		batch.Events = l.event(batch.Events, typ, e.Kv, e.PrevKv)
		batch.Revision = max(batch.Revision, e.Kv.ModRevision)
	}
	l.noteSeen(batch.Revision)
	return batch, nil
}

// noteSeen moves R on to what a watch has shown.
func (l *Ledger) noteSeen(revision int64) {
	_ = l.observe(&pb.ResponseHeader{ClusterId: l.etcdID.Load(), Revision: max(revision, l.seen.Load())}, 0)
}

// event adds one change, decoded. A key that is not ours is passed over, and a
// journal entry of several orphans makes an event for each.
func (l *Ledger) event(events []Event, typ EventType, kv, previous *mvccpb.KeyValue) []Event {
	raw := string(kv.Key)
	k, ok := l.keys.parse(raw)
	if !ok {
		return events
	}
	e := Event{Type: typ, Key: raw, Revision: kv.ModRevision}
	if k.kind == kindJournal && typ == Put {
		for _, entry := range toEntries(k, kv) {
			e.Record, e.Broken = entry, entry.Broken
			events = append(events, e)
		}
		return events
	}
	value := kv
	if typ == Delete {
		value = previous
		if value == nil {
			value = &mvccpb.KeyValue{Key: kv.Key, Value: []byte("{}")}
		}
	}
	e.Record, e.Broken = decodeAny(k, value)
	if typ == Delete {
		if previous == nil {
			e.Broken = nil // names only: there is nothing to decode
		}
		if d, ok := e.Record.(Detachment); ok && previous != nil && e.Broken == nil {
			l.metrics.ended(failpoint.Now().Sub(d.At) - d.Grace)
		}
	}
	return append(events, e)
}

func decodeAny(k key, kv *mvccpb.KeyValue) (any, error) {
	switch k.kind {
	case kindLedger:
		r := toLedger(kv)
		return r, r.Broken
	case kindCluster:
		r := toCluster(k, kv)
		return r, r.Broken
	case kindPause:
		r := toPause(k, kv)
		return r, r.Broken
	case kindHold:
		r := toHold(k, kv)
		return r, r.Broken
	case kindAttachment:
		r := toAttachment(k, kv)
		return r, r.Broken
	case kindDetachment:
		r := toDetachment(k, kv)
		return r, r.Broken
	case kindMigration:
		r := toMigration(k, kv)
		return r, r.Broken
	case kindDeparture:
		r := toDeparture(k, kv)
		return r, r.Broken
	case kindQuarantine:
		r := toQuarantine(k, kv)
		return r, r.Broken
	case kindFreeze:
		r := toFreeze(k, kv)
		return r, r.Broken
	case kindWitness:
		r := toWitness(k, kv)
		return r, r.Broken
	case kindJournal:
		r := toEntries(k, kv)[0]
		return r, r.Broken
	}
	return nil, nil // an election's key: the concurrency package's own
}
