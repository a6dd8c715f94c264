package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-storage/holdfast/state"
)

// WitnessStore keeps outside etcd what the next leader compares etcd with. A
// cluster's replicas share one, or have one each.
type WitnessStore interface {
	// Load returns what was stored last, nil if nothing was, and its version.
	Load(ctx context.Context) (data []byte, version string, err error)
	// Store puts data in the place of what has the version, and returns its own.
	// ErrWitnessMoved if something else is there by now.
	Store(ctx context.Context, data []byte, version string) (next string, err error)
}

// ErrWitnessMoved: the witness outside etcd is not the one that was read.
var ErrWitnessMoved = errors.New("the witness is not the one that was read before")

const (
	// witnessEvery is how often a leader renews its witness: what an etcd may
	// lose without anybody noticing, where no header tells.
	witnessEvery = 10 * time.Second
	// witnessTimeout bounds one renewal, which is two writes outside etcd, and a
	// read and a write inside.
	witnessTimeout = 10 * time.Second
)

// errRestoreNoticed: etcd contradicts what is outside it.
var errRestoreNoticed = errors.New("etcd was restored or replaced, by the witness outside it")

// outside is what is stored: what etcd was like, and the nonce that it has. While
// a renewal is under way it may have the next one already.
type outside struct {
	Store string `json:"store"`
	Nonce string `json:"nonce"`
	Next  string `json:"next,omitempty"`
	state.Known
	By    string    `json:"by"`
	Since time.Time `json:"since"`
}

// contradicts says how etcd differs from what is known of it, in a phrase; empty
// if it does not, or if an operator has accepted it as it is.
func (o outside) contradicts(s state.Sight) string {
	now, nonce := s.Known, s.Witness.Of(o.Store)
	switch {
	case s.Ledger.Accepted(o.Known):
	case now.LedgerUUID != o.LedgerUUID:
		return fmt.Sprintf("the ledger's UUID is %s and was %s", now.LedgerUUID, o.LedgerUUID)
	case now.EtcdID != o.EtcdID:
		return fmt.Sprintf("etcd's cluster ID is %s and was %s", now.EtcdID, o.EtcdID)
	case now.Epoch < o.Epoch:
		return fmt.Sprintf("the ledger's epoch is %d and was %d", now.Epoch, o.Epoch)
	case now.Revision < o.Revision:
		return fmt.Sprintf("etcd is at revision %d and was at %d", now.Revision, o.Revision)
	case nonce != o.Nonce && (o.Next == "" || nonce != o.Next):
		return fmt.Sprintf("etcd does not have the witness that %s put at %s, but an older or another one", o.By, o.Since.UTC().Format(time.RFC3339))
	}
	return ""
}

func parseOutside(data []byte) (*outside, error) {
	var o outside
	err := json.Unmarshal(data, &o)
	if err == nil && (o.Store == "" || o.Nonce == "" && o.Next == "" || o.LedgerUUID == "" || o.EtcdID == "") {
		err = errors.New("something is missing in it")
	}
	if err != nil {
		return nil, fmt.Errorf("the witness outside etcd does not decode: %w; delete it only if you know that etcd is the one it was", err)
	}
	return &o, nil
}

// WitnessError is why this Reconciler, which leads, cannot tell whether etcd is
// the one it was, and so removes nothing. nil where it can, where it noticed a
// restore, which is said elsewhere, and where it does not lead.
func (r *Reconciler) WitnessError() error {
	one := r.current()
	if one == nil {
		return nil
	}
	t := one.term.Load()
	if t == nil || t.witness == nil {
		return nil
	}
	if err := t.witness.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// witness renews a leader's witness for one term, and compares. Until its first
// success, and after a failure, nothing is removed: whether etcd is the one it
// was is not known.
type witness struct {
	store   WitnessStore
	cluster *state.Cluster
	lead    *state.Leadership
	every   time.Duration
	log     *slog.Logger
	metrics *metrics
	changed func() // it is proven again
	poke    chan struct{}

	proven  atomic.Bool
	failed  atomic.Pointer[error] // why it is not, but for a restore
	last    *outside              // what this term knows; nil before the first look
	version string
	loaded  bool         // version is the store's
	said    string       // the failure that was logged last
	noticed *atomic.Bool // a run's: a restore ends terms too
}

// witnessing makes the witness of a term; nil where none is kept.
func (r *run) witnessing(lead *state.Leadership) *witness {
	if r.cfg.Witness == nil || lead == nil {
		return nil
	}
	return &witness{
		store: r.cfg.Witness, cluster: r.cfg.Cluster, lead: lead, every: r.witnessEvery, log: r.log, metrics: r.metrics,
		changed: r.watcher.Rejoin, poke: make(chan struct{}, 1), noticed: &r.restored,
	}
}

// run renews until ctx ends.
func (w *witness) run(ctx context.Context) {
	again := time.NewTicker(w.every)
	defer again.Stop()
	for {
		one, cancel := context.WithTimeout(ctx, witnessTimeout)
		err := w.round(one)
		cancel()
		if ctx.Err() != nil {
			return
		}
		w.note(err)
		select {
		case <-again.C:
		case <-w.poke:
		case <-ctx.Done():
			return
		}
	}
}

// look has run look at once.
func (w *witness) look() {
	select {
	case w.poke <- struct{}{}:
	default: // it will
	}
}

// round compares and renews once. While it leads, a leader goes by what it knows
// itself, so that nothing that happens to the store counts as a restore.
func (w *witness) round(ctx context.Context) error {
	if !w.loaded {
		if err := w.load(ctx); err != nil {
			return err
		}
	}
	s, err := w.cluster.Sight(ctx)
	if err != nil {
		return fmt.Errorf("looking for the witness in etcd: %w", err)
	}
	if w.last != nil {
		if why := w.last.contradicts(s); why != "" {
			return w.notice(ctx, why)
		}
	}
	w.noticed.Store(false)
	return w.renew(ctx, s)
}

func (w *witness) load(ctx context.Context) error {
	data, version, err := w.store.Load(ctx)
	if err != nil {
		return fmt.Errorf("reading the witness outside etcd: %w", err)
	}
	if w.last == nil && len(data) > 0 {
		if w.last, err = parseOutside(data); err != nil {
			return err
		}
	} else if err := w.lead.Confirm(ctx); err != nil {
		// Only a leader may write over what it did not read.
		return fmt.Errorf("before writing the witness outside etcd: %w", err)
	}
	w.version, w.loaded = version, true
	return nil
}

// renew puts a new nonce: outside first, then into etcd, then outside that it is
// there. So whoever dies in between leaves nothing that looks like a restore.
func (w *witness) renew(ctx context.Context, s state.Sight) error {
	next := outside{Store: uuid.NewString(), Next: uuid.NewString(), Known: s.Known, By: w.cluster.Ledger().Config().By, Since: time.Now().UTC()}
	if w.last != nil {
		next.Store = w.last.Store
	}
	next.Nonce = s.Witness.Of(next.Store)
	if w.last != nil && w.last.Next != "" && w.last.Next != next.Nonce {
		next.Next = w.last.Next // its put may still arrive, and is to be known then
	}
	if err := w.keep(ctx, next); err != nil {
		return err
	}
	revision, err := w.lead.PutWitness(ctx, s.Witness, next.Store, next.Next)
	if err != nil {
		return err
	}
	next.Nonce, next.Next, next.Revision = next.Next, "", revision
	return w.keep(ctx, next)
}

func (w *witness) keep(ctx context.Context, next outside) error {
	data, err := json.Marshal(next)
	if err != nil {
		return err
	}
	w.last = &next
	w.version, err = w.store.Store(ctx, data, w.version)
	if err != nil {
		w.loaded = false
		return fmt.Errorf("writing the witness outside etcd: %w", err)
	}
	return nil
}

// notice freezes the ledger. What is outside stays as it is, for it is the proof.
func (w *witness) notice(ctx context.Context, why string) error {
	w.proven.Store(false)
	if w.noticed.CompareAndSwap(false, true) {
		w.metrics.restores.Inc()
		w.log.Error("etcd was restored or replaced: the ledger is frozen until 'holdfast unfreeze --restored'; docs/backup.md tells what comes before it",
			"why", why, "known", w.last.Known, "written", w.last.Since)
	}
	if err := w.cluster.FreezeRestored(ctx, w.last.Known, why); err != nil {
		w.log.Error("the ledger could not be frozen; trying again", "error", err)
	}
	return errRestoreNoticed
}

// note takes in what came of a round, and says it where it is news.
func (w *witness) note(err error) {
	said, result := "", resultOK
	switch {
	case errors.Is(err, errRestoreNoticed): // notice has said so
		result = resultRestored
	case err != nil:
		said, result = err.Error(), resultError
	}
	w.metrics.witness.WithLabelValues(result).Inc()
	if said != "" && said != w.said {
		w.log.Warn("whether etcd is the one it was is not known: nothing is removed until it is", "error", said)
	}
	if w.said != "" && said == "" && err == nil {
		w.log.Info("etcd is the one it was, by the witness outside it")
	}
	w.said = said
	w.failed.Store(nil)
	if said != "" {
		w.failed.Store(&err)
	}
	if was := w.proven.Swap(err == nil); !was && err == nil {
		w.changed()
	}
}
