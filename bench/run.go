package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/client-go/rest"

	"github.com/holdfast-storage/holdfast/state"
)

// Config says what a run measures, and on what.
type Config struct {
	// Etcd is how the etcd is reached, and its Prefix what the run writes below:
	// nothing may be there.
	Etcd state.Config
	// Own says that nobody else uses the etcd: its history is compacted after each
	// workload, which is no part of the next then.
	Own   bool
	Sizes Sizes
	// LedgerUser makes the etcd user that the ledger at a prefix is opened as; nil
	// for Etcd's own.
	LedgerUser func(ctx context.Context, prefix string) (name, password string, err error)
	// Kube is an API server to compare with, and whose Nodes the orphans' come
	// from; nil for none. One with Nodes of somebody's is refused, but for
	// AllowUsedCluster.
	Kube             *rest.Config
	AllowUsedCluster bool
	// Holdfast is the path of the holdfast binary, for what is about a process of
	// its own; empty skips that.
	Holdfast string
	// Temp is a folder for what a run needs on disk.
	Temp string
	Seed uint64
	// Step is told what the run is at; Log the rest.
	Step func(what string)
	Log  *slog.Logger
}

// Run is what a workload gets to work with. Its methods may be called from
// several goroutines.
type Run struct {
	Config
	// Rand is seeded with the run's seed; one goroutine at a time.
	Rand *rand.Rand

	client *clientv3.Client
	mu     sync.Mutex
	result *Result
	opened int
}

// Measure runs the workloads, one after the other, and gives what they came to,
// also if one fails or ctx ends. The prefix is empty again when it returns.
func Measure(ctx context.Context, cfg Config, workloads []Workload) (result *Result, err error) {
	client, err := connect(ctx, cfg.Etcd)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	if cfg.Kube != nil && !cfg.AllowUsedCluster {
		if err := refuseUsedCluster(ctx, cfg.Kube); err != nil {
			return nil, err
		}
	}
	if err := claim(ctx, client, cfg.Etcd.Prefix); err != nil {
		return nil, err
	}
	if cfg.Step == nil {
		cfg.Step = func(string) {}
	}
	r := &Run{
		Config: cfg, Rand: rand.New(rand.NewPCG(cfg.Seed, 0)), client: client, //nolint:gosec // a schedule, no secret
		result: &Result{Summary: map[string]float64{}, Figures: map[string]Figure{}, Skipped: map[string]string{}},
	}
	defer func() {
		r.Step("cleaning up")
		// Also when ctx is over: that is when it matters.
		cleaning, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Minute)
		defer cancel()
		if werr := Wipe(cleaning, client, cfg.Etcd.Prefix); werr != nil {
			err = errors.Join(err, fmt.Errorf("cleaning up %s: %w", cfg.Etcd.Prefix, werr))
		}
		if cfg.Kube != nil {
			err = errors.Join(err, wipeCluster(cleaning, cfg.Kube))
		}
	}()
	began := time.Now()
	if r.result.Header, err = r.header(ctx); err != nil {
		return nil, err
	}
	err = r.each(ctx, workloads)
	r.result.Header.Took = time.Since(began).Seconds()
	if err != nil {
		r.result.Partial = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return r.result, err
}

// each runs the workloads. One that fails is no reason not to run the others.
func (r *Run) each(ctx context.Context, workloads []Workload) error {
	var errs []error
	for _, w := range workloads {
		err := w.Run(ctx, r)
		if ctx.Err() != nil {
			return errors.Join(append(errs, fmt.Errorf("stopped at workload %s: %w", w.Name, context.Cause(ctx)))...)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("workload %s: %w", w.Name, err))
		}
		if err := r.empty(ctx); err != nil {
			return errors.Join(append(errs, fmt.Errorf("after workload %s: %w", w.Name, err))...)
		}
	}
	return errors.Join(errs...)
}

// empty deletes what was written, so that it is no part of what is measured next.
func (r *Run) empty(ctx context.Context) error {
	r.Step("emptying %s", r.Etcd.Prefix)
	err := Wipe(ctx, r.client, r.Etcd.Prefix)
	if err == nil && r.Own {
		err = compact(ctx, r.client)
	}
	if err == nil {
		err = claim(ctx, r.client, r.Etcd.Prefix)
	}
	if err != nil {
		return fmt.Errorf("emptying %s: %w", r.Etcd.Prefix, err)
	}
	return nil
}

// Ledger opens a ledger of its own below the run's prefix, changed by tune where
// it is given, and a cluster in it.
func (r *Run) Ledger(ctx context.Context, name string, tune func(*state.Config)) (*state.Ledger, *state.Cluster, error) {
	cfg := r.Etcd
	r.mu.Lock()
	r.opened++
	cfg.Prefix = path.Join(cfg.Prefix, fmt.Sprintf("%s-%d", name, r.opened)) + "/"
	r.mu.Unlock()
	cfg.Logger = r.Log
	if err := r.login(ctx, &cfg); err != nil {
		return nil, nil, err
	}
	if tune != nil {
		tune(&cfg)
	}
	ledger, err := state.Open(ctx, cfg)
	if err != nil {
		return nil, nil, err
	}
	cluster, err := ledger.Cluster(ctx, state.Identity{Name: ClusterName, UID: ClusterUID})
	if err != nil {
		return nil, nil, errors.Join(err, ledger.Close())
	}
	return ledger, cluster, nil
}

// login makes the ledger, as an operator would, and the user for whom it is.
func (r *Run) login(ctx context.Context, cfg *state.Config) error {
	if r.LedgerUser == nil {
		return nil
	}
	ledger, err := state.Open(ctx, *cfg)
	if err != nil {
		return err
	}
	if err := ledger.Close(); err != nil {
		return err
	}
	cfg.PasswordFile = ""
	cfg.Username, cfg.Password, err = r.LedgerUser(ctx, cfg.Prefix)
	return err
}

// The cluster that workloads attach for.
const (
	ClusterName = "bench"
	ClusterUID  = "00000000-0000-4000-8000-00000000be7c"
)

// Client is a plain etcd client, as a peer has: shared, and open for the run.
func (r *Run) Client() *clientv3.Client { return r.client }

// NewClient is another plain etcd client; whoever asks closes it.
func (r *Run) NewClient(ctx context.Context) (*clientv3.Client, error) { return connect(ctx, r.Etcd) }

// Step says what the run is at.
func (r *Run) Step(format string, args ...any) { r.Config.Step(fmt.Sprintf(format, args...)) }

// Add adds a row. A metric that is no number is left out.
func (r *Run) Add(row Row) {
	row.Metrics = slices.DeleteFunc(row.Metrics, func(m Metric) bool { return math.IsNaN(m.Value) || math.IsInf(m.Value, 0) })
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Rows = append(r.result.Rows, row)
}

// Curve adds a line to a plot.
func (r *Run) Curve(c Curve) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Curves = append(r.result.Curves, c)
}

// Skip says that something could not be measured, and why.
func (r *Run) Skip(what, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Skipped[what] = why
}

// Figure puts a figure of Goals into the summary, with what it comes from. A
// value that is no number is none.
func (r *Run) Figure(name string, value float64, samples []float64) {
	g, known := Goals[name]
	if !known {
		panic("bench: no figure " + name)
	}
	if math.IsNaN(value) || math.IsInf(value, 0) {
		r.Skip(name, "nothing was measured")
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Summary[name] = value
	r.result.Figures[name] = Figure{Value: value, Unit: g.Unit, Samples: samples, About: g.About, Goal: g.Goal}
}
