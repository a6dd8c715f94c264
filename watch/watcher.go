package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-storage/holdfast/state"
)

// The defaults of a Config.
const (
	DefaultStaleAfter = 2 * time.Minute
	DefaultResync     = 5 * time.Minute
)

// Config says what to join.
type Config struct {
	// Cluster is the ledger opened as the cluster whose nodes are watched.
	Cluster *state.Cluster
	// Nodes is the cluster's Node list.
	Nodes NodeSource
	// StaleAfter is how long after its last sign of life a source is no longer
	// relied on; default 2 min. Kubernetes gives one about once a minute, etcd
	// every few seconds.
	StaleAfter time.Duration
	// Resync is how often all suspects are put on the queue, whatever
	// happened; default 5 min. It is a backstop: nothing waits for it.
	Resync time.Duration
	// MatchNodeUID makes a suspect of a node that has attachments from under
	// another UID.
	MatchNodeUID bool
	// Logger gets what no caller is told; default slog.Default().
	Logger *slog.Logger
	// Registerer gets the metrics while Run runs; nil means none.
	Registerer prometheus.Registerer
}

func (c Config) withDefaults() (Config, error) {
	for _, d := range []struct {
		name     string
		value    *time.Duration
		fallback time.Duration
	}{{"stale-after", &c.StaleAfter, DefaultStaleAfter}, {"resync", &c.Resync, DefaultResync}} {
		if *d.value < 0 {
			return c, fmt.Errorf("%w %s %s: expected a duration above zero", state.ErrInvalid, d.name, *d.value)
		}
		if *d.value == 0 {
			*d.value = d.fallback
		}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

// recordWatcher is what the Watcher needs of a Ledger.
type recordWatcher interface {
	Watch(ctx context.Context, s state.Scope, handle func(state.Batch) error) error
	Revision(ctx context.Context) (int64, error)
}

// Watcher keeps the join of a cluster's records and its Node list. Its methods
// are safe for concurrent use, and what they return is the caller's.
type Watcher struct {
	cfg     Config
	cluster string
	records recordWatcher
	log     *slog.Logger
	metrics *metrics
	lapsed  chan struct{}
	// awaitQuarantine: see index.
	awaitQuarantine bool

	mu      sync.Mutex
	running bool
	index   *index
	fresh   freshness
	said    map[string]struct{} // errors of the Node list's outage that were logged
	graces  graces
	queue   nodeQueue     // nil until someone asks for it
	order   *order        // the queue's
	loaded  chan struct{} // closed once both sources have loaded
}

// New makes a Watcher. It starts nothing: Run does.
func New(cfg Config) (*Watcher, error) {
	if cfg.Cluster == nil {
		return nil, fmt.Errorf("%w watcher: expected a cluster of an open ledger", state.ErrInvalid)
	}
	ledger := cfg.Cluster.Ledger()
	return newWatcher(cfg, cfg.Cluster.Name(), ledger, ledger.Config().Quarantine != state.NoQuarantine)
}

func newWatcher(cfg Config, cluster string, records recordWatcher, awaitQuarantine bool) (*Watcher, error) {
	if cfg.Nodes == nil {
		return nil, fmt.Errorf("%w watcher: expected a source of nodes, Kubernetes or a file", state.ErrInvalid)
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	w := &Watcher{
		cfg: cfg, cluster: cluster, records: records, log: cfg.Logger.With("cluster", cluster),
		lapsed: make(chan struct{}, 1), awaitQuarantine: awaitQuarantine,
	}
	w.metrics = newMetrics(w)
	w.order = &order{}
	w.reset()
	return w, nil
}

// reset forgets everything: what a Run saw does not count for the next.
func (w *Watcher) reset() {
	w.index = newIndex(w.cluster, w.cfg.MatchNodeUID, w.awaitQuarantine)
	w.fresh = freshness{after: w.cfg.StaleAfter}
	w.said = make(map[string]struct{})
	w.graces = newGraces()
	w.loaded = make(chan struct{})
}

// Config is the configuration, defaults filled in.
func (w *Watcher) Config() Config { return w.cfg }

// Run watches both sources until ctx ends, and then returns ctx's error once
// all its goroutines are done. Any other error is for good: etcd refuses the
// role, or the metrics are registered already. It can be called again when it
// has returned; it then begins with nothing.
func (w *Watcher) Run(ctx context.Context) error {
	if err := w.begin(); err != nil {
		return err
	}
	defer w.end()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	var all sync.WaitGroup
	start := func(run func(context.Context) error) {
		all.Go(func() {
			if err := run(ctx); ctx.Err() == nil {
				cancel(err)
			}
		})
	}
	start(w.runNodes)
	for p := range parts {
		start(func(ctx context.Context) error {
			return w.records.Watch(ctx, p.scope(w.cluster), func(b state.Batch) error {
				w.takeBatch(p, b)
				return nil
			})
		})
	}
	start(w.runGraces)
	start(w.runClock)
	all.Wait()
	return context.Cause(ctx)
}

func (w *Watcher) begin() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running {
		return errors.New("the watcher runs already")
	}
	if err := w.metrics.register(w.cfg.Registerer, w.cluster); err != nil {
		return err
	}
	w.running = true
	return nil
}

func (w *Watcher) end() {
	w.metrics.unregister()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.queue != nil {
		w.queue.ShutDown()
	}
	w.running = false
	w.reset()
}

func (w *Watcher) runNodes(ctx context.Context) error {
	err := w.cfg.Nodes.Run(ctx, w.records.Revision, nodeSink{w})
	if err == nil {
		err = errors.New("their source ended by itself")
	}
	return fmt.Errorf("watching nodes: %w", err)
}

// runClock notices that a source has become stale, and that it is time for the backstop.
func (w *Watcher) runClock(ctx context.Context) error {
	stale := time.NewTimer(w.cfg.StaleAfter)
	defer stale.Stop()
	resync := time.NewTicker(w.cfg.Resync)
	defer resync.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-resync.C:
			w.Rejoin()
		case <-stale.C:
			// A contact does not move the timer on: it fires in vain at most
			// once in StaleAfter, and finds out when to look again.
			var next time.Duration
			w.update(func() changes {
				next = w.fresh.next(time.Now())
				return changes{}
			})
			stale.Reset(next)
		}
	}
}

func (w *Watcher) takeBatch(p part, b state.Batch) {
	w.update(func() changes {
		w.metrics.batch(p, b)
		w.fresh.etcd[p] = contact{at: b.Contact}
		return w.index.apply(p, b)
	})
}

// update changes the index and does what follows from the change.
func (w *Watcher) update(change func() changes) {
	w.mu.Lock()
	before := w.fresh.told
	c := change()
	if w.fresh.changed(time.Now()) {
		c.all = true
	}
	after, failed := w.fresh.told, w.fresh.nodes.err != nil
	for _, at := range c.released {
		w.graces.remove(at)
	}
	loaded, first := w.hasLoaded()
	if !loaded || first {
		// Half a view makes suspects of all nodes: till now there was nothing to look at.
		c.nodes, c.all = nil, first
	}
	queue, suspects := w.queue, []string(nil)
	if c.all {
		suspects = w.index.suspects.list()
	}
	w.mu.Unlock()

	w.logFreshness(before, after, failed)
	for _, b := range c.broken {
		w.log.Warn("record does not decode; it is left alone, and counts as standing", "key", b.key, "error", b.err)
	}
	if c.lapsed {
		select {
		case w.lapsed <- struct{}{}:
		default: // one is on its way
		}
	}
	if queue == nil {
		return // who asks for it later gets all suspects
	}
	for name := range c.nodes {
		queue.Add(name)
	}
	for _, name := range suspects {
		queue.Add(name)
	}
}

// hasLoaded says whether both sources have given a whole list, and whether that
// was found for the first time.
func (w *Watcher) hasLoaded() (loaded, first bool) {
	select {
	case <-w.loaded:
		return true, false
	default:
	}
	if !w.sources(time.Now()).Loaded() {
		return false, false
	}
	close(w.loaded)
	return true, true
}

func (w *Watcher) logFreshness(before, after [2]bool, failed bool) {
	for i, name := range []string{sourceNodes, sourceEtcd} {
		switch {
		case before[i] && !after[i] && failed && name == sourceNodes:
			// Heard has logged why.
		case before[i] && !after[i]:
			w.log.Warn("source is stale: nothing is removed until it is heard of again", "source", name)
		case !before[i] && after[i]:
			w.log.Info("source is fresh", "source", name)
		}
	}
}
