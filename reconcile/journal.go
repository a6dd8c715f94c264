package reconcile

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

// journalReader tells a term's brake what was removed, and released.
type journalReader struct {
	t *term
	// before is what stood in the journal when the term began: how long, is
	// asked of etcd once all of it is there.
	before []state.Entry
	listed bool
	// read is the revision up to which all was taken in. A list that begins
	// anew tells the old entries again, and they are no younger for it.
	read    int64
	listing bool
}

func newJournalReader(t *term) *journalReader { return &journalReader{t: t} }

// follow rebuilds the brake's window and then takes in what others write: a
// release above all. It reads the whole journal, for a release that is older
// than the window may cover a departure that waits still.
func (j *journalReader) follow(ctx context.Context, loaded chan<- struct{}) error {
	cluster := j.t.run.cfg.Cluster
	return cluster.Ledger().Watch(ctx, state.ScopeJournal(cluster.Name(), time.Time{}), func(b state.Batch) error {
		j.listing = j.listing || b.Reset
		for _, e := range b.Events {
			if entry, ok := e.Record.(state.Entry); ok && e.Type == state.Put {
				j.take(entry)
			}
		}
		j.listing = j.listing && !b.Synced
		if !j.listing {
			j.read = max(j.read, b.Revision)
		}
		if b.Synced && !j.listed {
			j.listed = true
			if err := j.rebuild(ctx); err != nil {
				return err
			}
			close(loaded)
		}
		return nil
	})
}

func (j *journalReader) take(e state.Entry) {
	switch {
	case !j.listed:
		j.before = append(j.before, e)
	case e.ModRevision > j.read:
		if j.t.brake.note(e, time.Now()) {
			j.t.run.log.Info("brake released", "by", e.By, "why", e.Why, "revision", e.ModRevision)
			j.t.wake()
		}
	}
}

// rebuild takes in what was there before, the newest first, and asks etcd for
// the age of their leases. From one on that is older than the window, by far,
// all are.
func (j *journalReader) rebuild(ctx context.Context) error {
	slices.SortFunc(j.before, func(a, b state.Entry) int { return cmp.Compare(b.ModRevision, a.ModRevision) })
	ledger, window := j.t.run.cfg.Cluster.Ledger(), j.t.brake.cfg.Window
	ages := map[state.LeaseID]time.Time{}
	passed := false
	for _, e := range j.before {
		at, known := ages[e.Lease]
		if e.Action == state.ActionRemoved && !known && !passed {
			age, err := ledger.LeaseAge(ctx, e.Lease)
			switch {
			case errors.Is(err, state.ErrNotFound):
				passed = true // its end came between: the journal keeps an entry for longer than the window
			case err != nil:
				return err
			default:
				at = time.Now().Add(-age)
				ages[e.Lease] = at
				passed = age > window+windowSlack
			}
		}
		j.t.brake.note(e, at)
	}
	j.before = nil
	return nil
}

// windowSlack is more than the entries of one lease are apart.
const windowSlack = time.Minute
