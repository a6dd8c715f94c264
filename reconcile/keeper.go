package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/watch"
)

// KeeperConfig says whose leases to keep alive.
type KeeperConfig struct {
	// Cluster is the ledger opened as the cluster.
	Cluster *state.Cluster
	// Watcher is the cluster's join, which the caller runs.
	Watcher *watch.Watcher
	// Reporter is told of holds that had lapsed; nil means nobody is.
	Reporter LapseReporter
	// Logger gets what no caller is told; default slog.Default().
	Logger *slog.Logger
	// Registerer gets the metrics while Run runs; nil means none.
	Registerer prometheus.Registerer
}

// Keeper stands by the holds of a cluster for as long as it runs: it keeps
// alive every lease that the watcher sees on the cluster's attachments, whoever
// granted it, puts again the attachments of holds that have lapsed, and gathers
// thinly filled leases. It needs no lead; every replica runs one. It frees
// nothing, and when it stops its holds stay, and lapse.
type Keeper struct {
	cfg     KeeperConfig
	log     *slog.Logger
	metrics *keeperMetrics
	// session is the TTL that the ledger's own attachments are given.
	session time.Duration
	running atomic.Bool
	lapses  lapsedSet
	news    *lapseNews // nil without a Reporter
	sumUp   time.Duration
}

const (
	// keepersAtOnce bounds the keep-alives under way: each is one round trip
	// and no raft entry.
	keepersAtOnce = 16
	// The keeper looks for leases that are due thirty times a session, but
	// within these bounds.
	looksASession = 30
	minKeeperLook = 50 * time.Millisecond
	maxKeeperLook = 10 * time.Second
)

// NewKeeper makes a Keeper. It starts nothing: Run does.
func NewKeeper(cfg KeeperConfig) (*Keeper, error) {
	if cfg.Cluster == nil {
		return nil, fmt.Errorf("%w keeper: expected a cluster of an open ledger", state.ErrInvalid)
	}
	if cfg.Watcher == nil {
		return nil, fmt.Errorf("%w keeper: expected the cluster's watcher", state.ErrInvalid)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	k := &Keeper{
		cfg: cfg, log: cfg.Logger.With("cluster", cfg.Cluster.Name()),
		session: cfg.Cluster.Ledger().Config().AttachmentTTL, sumUp: lapsesSummedUp,
	}
	k.metrics = newKeeperMetrics(&k.lapses)
	return k, nil
}

// Run keeps until ctx ends, and then returns ctx's error once all its
// goroutines are done. It ends for good with state.ErrClusterMismatch when the
// cluster's name is found to be another's: no transaction guards a keep-alive,
// so the record is read before each round.
func (k *Keeper) Run(ctx context.Context) error {
	if !k.running.CompareAndSwap(false, true) {
		return errors.New("the keeper runs already")
	}
	defer k.running.Store(false)
	unregister, err := register(k.cfg.Registerer, k.cfg.Cluster.Name(), k.metrics.collectors())
	if err != nil {
		return err
	}
	defer unregister()
	parts := []func(context.Context) error{k.keep, k.rearm, k.gather}
	if k.cfg.Reporter != nil {
		k.news = newLapseNews(k.cfg.Reporter, k.log)
		defer k.news.end()
		parts = append(parts, k.tellNews)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var joined sync.WaitGroup
	for _, part := range parts {
		joined.Go(func() { cancel(part(ctx)) })
	}
	joined.Wait()
	err = context.Cause(ctx)
	if errors.Is(err, state.ErrClusterMismatch) {
		k.log.Error("keeping no more leases alive: the cluster's name is another cluster's", "error", err)
	}
	return err
}

// keep keeps the leases alive, each at about a third of its TTL.
func (k *Keeper) keep(ctx context.Context) error {
	look := time.NewTicker(min(max(k.session/looksASession, minKeeperLook), maxKeeperLook))
	defer look.Stop()
	schedule := map[state.LeaseID]time.Time{}
	for {
		due := dueLeases(schedule, k.cfg.Watcher.Leases(), time.Now())
		if len(due) > 0 {
			err := k.round(ctx, due, schedule)
			if err != nil && ctx.Err() == nil {
				if forGood(err) {
					return err
				}
				k.log.Warn("a round of keep-alives failed; trying again", "leases", len(due), "error", err)
			}
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// dueLeases brings the schedule up to date with the leases there are, and takes
// those whose time has come. A lease that was not seen before is due at once:
// nobody here knows how much of it is left.
func dueLeases(schedule map[state.LeaseID]time.Time, leases map[state.LeaseID]int, now time.Time) []state.LeaseID {
	for id := range schedule {
		if leases[id] == 0 {
			delete(schedule, id)
		}
	}
	var due []state.LeaseID
	for id := range leases {
		if at, known := schedule[id]; id != 0 && (!known || !now.Before(at)) {
			due = append(due, id)
		}
	}
	return due
}

// round keeps leases alive once each. What fails stays due; once etcd does not
// answer, the rest of the round is left for the next.
func (k *Keeper) round(ctx context.Context, due []state.LeaseID, schedule map[state.LeaseID]time.Time) error {
	if err := k.cfg.Cluster.CheckIdentity(ctx); err != nil {
		k.metrics.rounds.WithLabelValues(resultError).Inc()
		return err
	}
	var (
		mu     sync.Mutex
		failed error
		joined sync.WaitGroup
		next   = make(chan state.LeaseID)
	)
	for range min(keepersAtOnce, len(due)) {
		joined.Go(func() {
			for id := range next {
				ttl, err := k.cfg.Cluster.KeepAlive(ctx, id)
				mu.Lock()
				switch {
				case err == nil:
					schedule[id] = time.Now().Add(keepAgain(ttl))
				case errors.Is(err, state.ErrNotFound):
					// Its attachments go, and are put again on another lease.
					schedule[id] = time.Now().Add(keepAgain(k.session))
				default:
					failed = err
				}
				mu.Unlock()
			}
		})
	}
	for _, id := range due {
		mu.Lock()
		stop := failed != nil
		mu.Unlock()
		if stop {
			break
		}
		next <- id
	}
	close(next)
	joined.Wait()
	result := resultOK
	if failed != nil {
		result = resultError
	}
	k.metrics.rounds.WithLabelValues(result).Inc()
	return failed
}

// keepAgain is about a third of a TTL, spread so that the leases of a cluster
// that started at one moment do not stay together.
func keepAgain(ttl time.Duration) time.Duration {
	return time.Duration(float64(ttl) / 3 * (0.75 + rand.Float64()/2))
}

// keeperMetrics are the Keeper's. Keep-alives themselves are counted by the ledger.
type keeperMetrics struct {
	rounds, rearms *prometheus.CounterVec
	gathered       prometheus.Counter
	lapsed         prometheus.GaugeFunc
}

// What came of an attachment that was found to be gone.
const (
	rearmed    = "rearmed"
	notLapsed  = "not_lapsed"
	rearmError = "error"
)

func newKeeperMetrics(lapsed *lapsedSet) *keeperMetrics {
	m := &keeperMetrics{
		lapsed: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "holdfast_lapsed_holds",
			Help: "Holds of the cluster that were found lapsed and could not be armed again yet.",
		}, lapsed.count),
		rounds: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_keepalive_rounds_total", Help: "Rounds of keep-alives, each after a look at the cluster's identity, by result.",
		}, []string{"result"}),
		rearms: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_rearms_total",
			Help: "Attachments found gone and looked at, by result: rearmed (the hold had lapsed), not_lapsed (it had ended), error.",
		}, []string{"result"}),
		gathered: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_attachments_gathered_total", Help: "Attachments moved from thinly filled leases to others.",
		}),
	}
	for _, r := range []string{resultOK, resultError} {
		m.rounds.WithLabelValues(r)
	}
	for _, r := range []string{rearmed, notLapsed, rearmError} {
		m.rearms.WithLabelValues(r)
	}
	return m
}

func (m *keeperMetrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.rounds, m.rearms, m.gathered, m.lapsed}
}
