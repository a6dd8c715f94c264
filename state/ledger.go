package state

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// format is the version of the record format, beside the key layout's.
const format = 1

// Ledger is one open ledger. It is safe for concurrent use. Close it when no
// longer needed; what it wrote stays as it is.
type Ledger struct {
	cfg     Config
	keys    keys
	client  *clientv3.Client
	kv      pb.KVClient // client's, for what is built as etcd's own messages
	log     *slog.Logger
	metrics *metrics
	writer  *writer
	waits   *waitPool
	// removals has a place for each removal that is under way.
	removals chan struct{}
	asks     asking

	etcdID   atomic.Uint64
	seen     atomic.Int64  // the last revision seen: R of section 4
	epoch    atomic.Uint32 // the greatest that was ever read
	halting  atomic.Pointer[error]
	told     chan struct{} // closed once who halted has done what it does about it
	record   atomic.Pointer[LedgerRecord]
	floor    time.Duration
	warnings []string

	actingMu sync.Mutex
	acting   []string // the clusters that this process acts as

	// background are goroutines that end with the client at the latest.
	background sync.WaitGroup
}

// Open reaches etcd and reads the ledger's record, or makes it where there is
// none. It fails with ErrUnavailable, ErrPermission, ErrUnsafeEtcd or ErrInvalid,
// saying which setting to look at, within Config.DialTimeout or ctx's end.
func Open(ctx context.Context, cfg Config) (*Ledger, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, cfg.DialTimeout)
	defer cancel()
	client, err := dial(ctx, cfg)
	if err != nil {
		return nil, err
	}
	l := &Ledger{
		cfg: cfg, keys: newKeys(cfg.Prefix), client: client, kv: clientv3.RetryKVClient(client), log: cfg.Logger, told: make(chan struct{}),
		removals: make(chan struct{}, removalsAtOnce),
	}
	l.metrics = newMetrics(cfg.Registerer)
	l.writer = newWriter(l)
	l.waits = newWaitPool(l)
	if err := l.start(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Ledger) start(ctx context.Context) error {
	if err := l.probe(ctx); err != nil {
		return err
	}
	if !l.cfg.ReadOnly {
		if err := l.findFloor(ctx); err != nil {
			return err
		}
		if err := l.cfg.validateFloor(l.floor); err != nil {
			return err
		}
	}
	rec, err := l.Record(ctx)
	if errors.Is(err, ErrNotFound) && !l.cfg.ReadOnly {
		rec, err = l.create(ctx)
	}
	switch {
	case errors.Is(err, ErrNotFound) && l.cfg.ReadOnly:
		return fmt.Errorf("%w below prefix %q; 'holdfast init', or a controller's or an attach's first start, makes it", ErrNoLedger, l.cfg.Prefix)
	case err != nil:
		return err
	}
	if l.cfg.Driver != "" && rec.Driver != "" && rec.Driver != l.cfg.Driver {
		return invalid("driver", l.cfg.Driver, fmt.Sprintf("%q, whose volumes the ledger below %q covers", rec.Driver, l.cfg.Prefix))
	}
	return nil
}

// create puts the ledger's record, unless another process was faster.
func (l *Ledger) create(ctx context.Context) (LedgerRecord, error) {
	value := encode(ledgerValue{UUID: uuid.NewString(), Format: format, Driver: l.cfg.Driver, Created: now()})
	err := l.putOnce(ctx, l.keys.ledger(), value)
	switch {
	case errors.Is(err, ErrBeyondRole):
		return LedgerRecord{}, fmt.Errorf("%w below prefix %q, and etcd user %q may not make it; an operator does so once, with 'holdfast init': %w",
			ErrNoLedger, l.cfg.Prefix, user(l.cfg), err)
	case err != nil:
		return LedgerRecord{}, fmt.Errorf("making the ledger's record: %w", err)
	}
	return l.Record(ctx)
}

// putOnce puts a record where there is none. Which one is there afterwards, this
// one or a faster process's, has to be read: sent again after a lost answer it
// finds its own.
func (l *Ledger) putOnce(ctx context.Context, key, value string) error {
	return l.again(ctx, func(ctx context.Context) (*pb.ResponseHeader, error) {
		resp, err := l.transact(ctx, &pb.TxnRequest{Compare: []*pb.Compare{absent(key)}, Success: []*pb.RequestOp{opPut(key, value)}})
		if err != nil {
			return nil, err
		}
		return resp.Header, nil
	})
}

// Record reads the ledger's own record. ErrNotFound if there is none.
func (l *Ledger) Record(ctx context.Context) (LedgerRecord, error) {
	before := l.record.Load()
	resp, err := l.read(ctx, clientv3.OpGet(l.keys.ledger()))
	if err != nil {
		return LedgerRecord{}, err
	}
	kvs := resp.Responses[0].GetResponseRange().Kvs
	if len(kvs) == 0 {
		return LedgerRecord{}, fmt.Errorf("%w: the ledger's record %q", ErrNotFound, l.keys.ledger())
	}
	rec := toLedger(kvs[0])
	if before != nil && rec.ModRevision < before.ModRevision {
		// The one sign of a restore with a bumped revision that every process can see.
		return LedgerRecord{}, l.halt(fmt.Errorf("%w: the ledger's record is of revision %d, and was of %d", ErrRestored, rec.ModRevision, before.ModRevision))
	}
	if err := l.accept(rec); err != nil {
		return LedgerRecord{}, err
	}
	return rec, nil
}

// accept takes a record of the ledger as the one that requests compare.
func (l *Ledger) accept(rec LedgerRecord) error {
	if rec.Broken != nil {
		return rec.Broken
	}
	if rec.Format > format {
		return fmt.Errorf("%w format %d of the ledger: expected at most %d; this holdfast is too old for it", ErrInvalid, rec.Format, format)
	}
	if old := l.record.Load(); old != nil && old.UUID != rec.UUID {
		return l.halt(fmt.Errorf("%w: the ledger's UUID is %s and was %s", ErrRestored, rec.UUID, old.UUID))
	}
	l.record.Store(&rec)
	for {
		epoch := l.epoch.Load()
		if uint32(rec.Epoch) <= epoch || l.epoch.CompareAndSwap(epoch, uint32(rec.Epoch)) {
			return nil
		}
	}
}

// Close ends the connection and what is still under way, and returns once all
// of the ledger's goroutines have.
func (l *Ledger) Close() error {
	if l.halted() != nil {
		<-l.told
	}
	l.writer.close()
	l.metrics.close()
	err := l.client.Close()
	l.background.Wait()
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("closing etcd's client: %w", err)
	}
	return nil
}

// Config is the configuration that the ledger was opened with, defaults filled
// in and without the password.
func (l *Ledger) Config() Config {
	c := l.cfg
	c.Password = ""
	return c
}

// Warnings says, a line each, what about this etcd an operator should change.
func (l *Ledger) Warnings() []string { return l.warnings }

// ServerTTLFloor is this etcd's smallest lease TTL, or 0 if opened read-only.
func (l *Ledger) ServerTTLFloor() time.Duration { return l.floor }

// Revision is etcd's current revision, read past every member that lags.
func (l *Ledger) Revision(ctx context.Context) (int64, error) {
	resp, err := l.read(ctx, clientv3.OpGet(l.keys.ledger(), clientv3.WithKeysOnly()))
	if err != nil {
		return 0, err
	}
	return resp.Header.Revision, nil
}

// writable refuses a write that this process must not send.
func (l *Ledger) writable() error {
	if l.cfg.ReadOnly {
		return ErrReadOnly
	}
	return l.halted()
}
