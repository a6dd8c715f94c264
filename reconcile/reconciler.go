package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/watch"
)

// The defaults of a Config.
const (
	DefaultResync      = watch.DefaultResync
	DefaultRemovalRate = 500
	DefaultWorkers     = 64
)

// ErrRunning: a Reconciler runs once at a time.
var ErrRunning = errors.New("the reconciler runs already")

// Config says what to reconcile. Cluster and Nodes are needed; the zero value
// of every other field has a default. The waits, the node identity and the
// grace are those of the Cluster's ledger.
type Config struct {
	// Cluster is the ledger opened as the cluster.
	Cluster *state.Cluster
	// Nodes is the cluster's Node list, for the live check and, where Watcher
	// is nil, for the watch.
	Nodes watch.NodeSource
	// Watcher is a join that the caller runs, shared with a Keeper. With nil
	// the Reconciler runs one of its own.
	Watcher *watch.Watcher
	// StaleAfter and Resync are those of a Watcher of its own; defaults 2 and 5 minutes.
	StaleAfter, Resync time.Duration

	// Fencer has to succeed before an orphan is removed; nil means none.
	Fencer Fencer
	// Brake says how many nodes may be missing before removals stop.
	Brake BrakeConfig
	// RemovalRate bounds removals a second; default 500.
	RemovalRate float64
	// Workers is how many nodes are judged at a time; default 64. They wait for
	// answers most of the time: the API server's and etcd's.
	Workers int
	// DryRun decides and logs, and writes nothing: no departure, no removal,
	// no candidacy.
	DryRun bool
	// ID says who leads, for whoever looks at the election; default the
	// ledger's By.
	ID string
	// Reporter is told of what happens while this Reconciler leads; nil means
	// nobody is. A dry run tells nobody.
	Reporter Reporter

	// Witness is the store, outside etcd, that tells a restored etcd from the one it
	// was. nil means none: then only a process's own memory does.
	Witness WitnessStore

	// Logger gets what no caller is told; default slog.Default().
	Logger *slog.Logger
	// Registerer gets the metrics while the Reconciler runs; nil means none.
	Registerer prometheus.Registerer
}

func (c Config) withDefaults() (Config, error) {
	if c.Cluster == nil {
		return c, fmt.Errorf("%w reconciler: expected a cluster of an open ledger", state.ErrInvalid)
	}
	if c.Nodes == nil {
		return c, fmt.Errorf("%w reconciler: expected a source of nodes, Kubernetes or a file", state.ErrInvalid)
	}
	if c.RemovalRate == 0 {
		c.RemovalRate = DefaultRemovalRate
	}
	if !(c.RemovalRate > 0) || math.IsInf(c.RemovalRate, 0) {
		return c, fmt.Errorf("%w removal rate %v: expected a number of removals a second, above zero", state.ErrInvalid, c.RemovalRate)
	}
	if c.Workers == 0 {
		c.Workers = DefaultWorkers
	}
	if c.Workers < 0 {
		return c, fmt.Errorf("%w number of workers %d: expected at least 1", state.ErrInvalid, c.Workers)
	}
	ledger := c.Cluster.Ledger().Config()
	c.Brake = c.Brake.withDefaults()
	if err := c.Brake.validate(ledger.JournalRetention); err != nil {
		return c, err
	}
	if c.ID == "" {
		c.ID = ledger.By
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

// Reconciler removes the orphans of one cluster. Several may run for one
// cluster, in several processes: one of them leads and removes, and the others
// watch, so that they can take over without waiting anew. It is safe for
// concurrent use.
type Reconciler struct {
	cfg     Config
	ledger  state.Config
	watcher *watch.Watcher
	owned   bool // the watcher is ours to run
	metrics *metrics
	log     *slog.Logger
	// good is liveGood, aside standAside, overdueLook and witnessEvery the constants,
	// but for tests of what comes after them.
	good, aside, overdueLook, witnessEvery time.Duration

	mu      sync.Mutex
	running *run // nil while it does not run
}

// New makes a Reconciler. It starts nothing: Run and Start do. ErrInvalid names
// what is missing or cannot be used.
func New(cfg Config) (*Reconciler, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	r := &Reconciler{
		cfg: cfg, ledger: cfg.Cluster.Ledger().Config(), watcher: cfg.Watcher, metrics: newMetrics(),
		log: cfg.Logger.With("cluster", cfg.Cluster.Name()), good: liveGood, aside: standAside, overdueLook: overdueLook,
		witnessEvery: witnessEvery,
	}
	if r.watcher == nil {
		r.owned = true
		r.watcher, err = watch.New(watch.Config{
			Cluster: cfg.Cluster, Nodes: cfg.Nodes, StaleAfter: cfg.StaleAfter, Resync: cfg.Resync,
			MatchNodeUID: r.ledger.MatchNodeUID, Logger: cfg.Logger, Registerer: cfg.Registerer,
		})
		if err != nil {
			return nil, err
		}
	}
	if got := r.watcher.Config().MatchNodeUID; got != r.ledger.MatchNodeUID {
		return nil, fmt.Errorf("%w watcher: it matches Node UIDs: %v; expected %v, as the ledger was opened", state.ErrInvalid, got, r.ledger.MatchNodeUID)
	}
	return r, nil
}

// GracePeriod is the configured grace period.
func (r *Reconciler) GracePeriod() time.Duration { return r.ledger.GracePeriod }

// Resync is how often all suspects are judged again, whatever happened.
func (r *Reconciler) Resync() time.Duration { return r.watcher.Config().Resync }

// Leading says whether this Reconciler leads its cluster's.
func (r *Reconciler) Leading() bool {
	one := r.current()
	if one == nil {
		return false
	}
	t := one.term.Load()
	return t != nil && t.lead != nil
}

// Run reconciles until ctx ends, and then returns ctx's error once all its
// goroutines are done and the lead is given up. Any other error is for good:
// the cluster's name is another's, the ledger is opened read-only, etcd was
// restored. ErrRunning if it runs already. It can be called again when it has
// returned.
func (r *Reconciler) Run(ctx context.Context) error {
	ctx, one, err := r.begin(ctx)
	if err != nil {
		return err
	}
	defer r.end(one)
	return one.all(ctx)
}

// Start is Run in a goroutine of its own, until Stop or the end of ctx. What
// ends it before that is logged. ErrRunning if it runs already.
func (r *Reconciler) Start(ctx context.Context) error {
	ctx, one, err := r.begin(ctx)
	if err != nil {
		return err
	}
	go func() {
		defer r.end(one)
		if err := one.all(ctx); ctx.Err() == nil {
			r.log.Error("reconciling has ended", "error", err)
		}
	}()
	return nil
}

// Stop ends what Start, Run or Reconcile began, and returns when it has ended.
// It does nothing where nothing runs.
func (r *Reconciler) Stop() {
	if one := r.current(); one != nil {
		one.stop()
		<-one.ended
	}
}

// Reconcile judges every suspect once, and returns all that failed, gathered.
// It waits until both sources are loaded and it leads, or returns why not when
// ctx ends or the Node list cannot be read. It does not wait for a quarantine
// or a grace to end: what they hold back is left to a later pass, and so is
// what changes while it is judged.
//
// Where the Reconciler does not run, it runs for the one pass.
func (r *Reconciler) Reconcile(ctx context.Context) error {
	if one := r.current(); one != nil {
		return one.pass(ctx)
	}
	ctx, one, err := r.begin(ctx)
	if err != nil {
		return err
	}
	defer r.end(one)
	return one.once(ctx)
}

func (r *Reconciler) current() *run {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.running
}

// begin makes the one run there is, and its context. A run that is being
// stopped is waited for.
func (r *Reconciler) begin(ctx context.Context) (context.Context, *run, error) {
	for {
		r.mu.Lock()
		before := r.running
		if before == nil {
			defer r.mu.Unlock()
			ctx, one, err := newRun(ctx, r)
			r.running = one
			return ctx, one, err
		}
		r.mu.Unlock()
		select {
		case <-before.stopping:
			<-before.ended
		default:
			return nil, nil, ErrRunning
		}
	}
}

func (r *Reconciler) end(one *run) {
	one.stop()
	one.reports.end()
	one.unregister()
	r.metrics.zero()
	r.mu.Lock()
	r.running = nil
	r.mu.Unlock()
	close(one.ended)
}
