package history

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// Config of an Observer. The zero value of every field but Now and Etcd has a default.
type Config struct {
	// Etcd says how to reach all members, directly. Keep-alives and logging are
	// set where they are not.
	Etcd clientv3.Config
	// Now is the time since the run's begin, on the monotonic clock.
	Now func() time.Duration
	// BeaconKey is outside of the ledger; default "/beacon". BeaconEvery is
	// 50 ms, BeaconTimeout 500 ms.
	BeaconKey                  string
	BeaconEvery, BeaconTimeout time.Duration
	// StuckAfter is how long the watch may lag behind a beacon before it is
	// begun anew; default 3 s.
	StuckAfter time.Duration
	// Log gets the whole history as lines of JSON; nil means none. Keep is how
	// many of the last revisions Last returns; default 4000.
	Log  io.Writer
	Keep int
	// Checks is what to hold the history against.
	Checks Checks
}

func (c Config) withDefaults() Config {
	if c.BeaconKey == "" {
		c.BeaconKey = "/beacon"
	}
	for d, fallback := range map[*time.Duration]time.Duration{
		&c.BeaconEvery: 50 * time.Millisecond, &c.BeaconTimeout: 500 * time.Millisecond, &c.StuckAfter: 3 * time.Second,
		&c.Etcd.DialTimeout: 2 * time.Second, &c.Etcd.DialKeepAliveTime: 2 * time.Second, &c.Etcd.DialKeepAliveTimeout: 2 * time.Second,
	} {
		if *d == 0 {
			*d = fallback
		}
	}
	if c.Keep == 0 {
		c.Keep = 4000
	}
	if c.Etcd.Logger == nil {
		c.Etcd.Logger = zap.NewNop() // the faults are the run's own, and it knows of them
	}
	return c
}

// Observer watches all of etcd and feeds its checker.
type Observer struct {
	cfg                  Config
	told                 *Told
	log                  *log
	client, beaconClient *clientv3.Client
	restored             chan struct{}

	mu      sync.Mutex
	checker *Checker
	life    *life         // the present one; nil between two
	changed chan struct{} // closed and made anew whenever life, its revision or err changes
	err     error         // what ended Run
	segment int
}

// life is one etcd's, from its begin or a restore to the next restore.
type life struct {
	segment int
	beacons *beacons
	mirror  *mirror // nil until the first list is in
	end     context.CancelFunc
}

// New returns an observer of the ledger, which Run runs. Close it in the end.
func New(cfg Config, told *Told) (*Observer, error) {
	cfg = cfg.withDefaults()
	client, err := clientv3.New(cfg.Etcd)
	if err != nil {
		return nil, err
	}
	// Beacons have a connection of their own: a watch that floods is no reason for doubt about time.
	beaconClient, err := clientv3.New(cfg.Etcd)
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	o := &Observer{
		cfg: cfg, told: told, log: newLog(cfg.Log, cfg.Keep), client: client, beaconClient: beaconClient,
		restored: make(chan struct{}), changed: make(chan struct{}), checker: NewChecker(cfg.Checks, told),
	}
	return o, nil
}

// Close closes the observer's clients, once Run has returned.
func (o *Observer) Close() error {
	return errors.Join(o.client.Close(), o.beaconClient.Close(), o.log.flush())
}

// Run observes until ctx ends, which is no error. ErrMissed: something was
// missed, and the run's result counts for nothing.
func (o *Observer) Run(ctx context.Context) (err error) {
	defer func() {
		o.update(func() { o.err = errors.Join(err, errEnded) })
	}()
	for {
		if err := o.live(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return o.log.flush()
		case <-o.restored:
		}
	}
}

var errEnded = errors.New("the observer has ended")

// live observes one life of etcd, until it is cut or ctx ends.
func (o *Observer) live(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var joined sync.WaitGroup
	defer joined.Wait()
	defer cancel()

	o.mu.Lock()
	o.segment++
	l := &life{segment: o.segment, beacons: &beacons{}, end: cancel}
	o.mu.Unlock()
	revision, kvs, err := o.begin(ctx, l)
	if err != nil {
		return err
	}
	o.update(func() {
		o.life, l.mirror = l, newMirror(revision, kvs)
		o.checker.Begin(l.segment, revision, kvs, l.beacons.bounds)
	})
	defer o.update(func() { o.life = nil })
	joined.Go(func() { o.beacon(ctx, l) })
	err = o.watch(ctx, l)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// begin lists all of etcd at one revision. The list is the first beacon.
func (o *Observer) begin(ctx context.Context, l *life) (int64, []KV, error) {
	for {
		start := o.cfg.Now()
		revision, kvs, err := o.list(ctx, 0)
		if err == nil {
			l.beacons.add(Beacon{Segment: l.segment, Revision: revision, Start: start, Answered: o.cfg.Now()})
			o.log.write(struct {
				Segment int   `json:"segment"`
				Base    int64 `json:"base"`
				KVs     []KV  `json:"kvs"`
			}{l.segment, revision, kvs})
			return revision, kvs, nil
		}
		if err := pause(ctx); err != nil {
			return 0, nil, fmt.Errorf("listing etcd: %w", err)
		}
	}
}

func (o *Observer) update(do func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	do()
	close(o.changed)
	o.changed = make(chan struct{})
}

// until waits for a condition of the observer's state, under its mutex.
func (o *Observer) until(ctx context.Context, met func() bool) error {
	for {
		o.mu.Lock()
		ok, err, changed := met(), o.err, o.changed
		o.mu.Unlock()
		switch {
		case ok:
			return nil
		case err != nil:
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the observer: %w", ctx.Err())
		case <-changed:
		}
	}
}

// pause is between two tries.
func pause(ctx context.Context) error {
	timer := time.NewTimer(100 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
