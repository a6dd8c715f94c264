package chaos

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-storage/holdfast/e2e/chaos/cluster"
	"github.com/holdfast-storage/holdfast/e2e/chaos/history"
	"github.com/holdfast-storage/holdfast/e2e/chaos/model"
	"github.com/holdfast-storage/holdfast/failpoint"
	"github.com/holdfast-storage/holdfast/state"
)

const prefix = state.DefaultPrefix + "v1/"

// run is one run: an etcd, two clusters' controllers and drivers, an operator,
// an observer, and a schedule of faults.
type run struct {
	cfg      Config
	begin    time.Time
	quietLog *slog.Logger

	etcd     *cluster.Cluster
	raw      *clientv3.Client // past every proxy, and every role
	facts    *history.Told
	observer *history.Observer
	recorder *model.Recorder

	lists       map[string]*nodeList
	controllers []*controller
	operator    *state.Ledger
	alone       alone
	calm        sync.RWMutex       // held by all who call, and by a restore alone
	stop        context.CancelFunc // ends the faults early

	mu       sync.Mutex
	counts   map[string]int
	problems []error
	timers   []*time.Timer
	given    map[string]bool // nodes that are away for good
	found    time.Duration   // when the first violation was seen
}

// Run makes one run and checks it. The error says that it could not be made;
// what the checks found is in the report.
func Run(ctx context.Context, cfg Config) (report *Report, err error) {
	if !failpoint.Enabled {
		return nil, errors.New("chaos: built without the tag failpoints")
	}
	r := newRun(cfg)
	defer failpoint.SetOffset(0)
	end, err := r.prepare(ctx)
	defer func() { err = errors.Join(err, end()) }()
	if err != nil {
		return nil, fmt.Errorf("preparing the run: %w", err)
	}
	return r.all(ctx)
}

func newRun(cfg Config) *run {
	r := &run{
		cfg: cfg.withDefaults(), begin: time.Now(), counts: map[string]int{}, lists: map[string]*nodeList{},
		quietLog: slog.New(slog.DiscardHandler), given: map[string]bool{},
	}
	r.facts, r.recorder = history.NewTold(r.now), model.NewRecorder(r.now)
	return r
}

func (r *run) now() time.Duration { return time.Since(r.begin) }

// prepare starts etcd, the observer's connection and the node files.
func (r *run) prepare(ctx context.Context) (end func() error, err error) {
	var ends []func() error
	end = func() error {
		var errs []error
		for _, e := range slices.Backward(ends) {
			errs = append(errs, e())
		}
		return errors.Join(errs...)
	}
	data := filepath.Join(r.cfg.Folder, "etcd")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return end, err
	}
	r.etcd, err = cluster.Start(ctx, cluster.Options{
		Etcd: r.cfg.Etcd, Etcdutl: r.cfg.Etcdutl, Dir: data, Log: r.cfg.Log, Now: r.now, Sides: 3,
		Users: []cluster.User{{Name: user, Password: password}},
	})
	if err != nil {
		return end, err
	}
	ends = append(ends, r.etcd.Close)
	direct := clientv3.Config{
		Endpoints: r.etcd.DirectEndpoints(), Username: cluster.Root.Name, Password: cluster.Root.Password,
		DialKeepAliveTime: 2 * time.Second, DialKeepAliveTimeout: 2 * time.Second,
	}
	if r.raw, err = clientv3.New(direct); err != nil {
		return end, err
	}
	ends = append(ends, r.raw.Close)
	log, err := os.Create(filepath.Join(r.cfg.Folder, "history.jsonl"))
	if err != nil {
		return end, err
	}
	ends = append(ends, log.Close)
	if r.observer, err = history.New(history.Config{Etcd: direct, Now: r.now, Log: log, Checks: history.Checks{
		Prefix: state.DefaultPrefix, AttachesTold: true, Retention: retention,
		LeastLapse: attachmentTTL/3 - requestWithin, OnViolation: func(history.Violation) { r.violated() },
	}}, r.facts); err != nil {
		return end, err
	}
	ends = append(ends, r.observer.Close)
	for _, name := range clusterNames {
		var nodes []string
		for i := range nodesEach {
			nodes = append(nodes, nodeName(name, i))
		}
		if r.lists[name], err = newNodeList(name, filepath.Join(r.cfg.Folder, "nodes-"+name+".json"), r.facts, nodes...); err != nil {
			return end, err
		}
	}
	return end, nil
}

// violated ends the faults where a violation is all that the run is for.
func (r *run) violated() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.found == 0 {
		r.found = r.now()
	}
	if r.cfg.EndEarly && r.stop != nil {
		r.stop()
	}
}

// all runs the parts: the observer from the first revision on to the last,
// within it the controllers, within them drivers and faults.
func (r *run) all(ctx context.Context) (*Report, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	observing, stopObserving := context.WithCancel(ctx)
	observed := make(chan error, 1)
	go func() { observed <- r.observer.Run(observing) }()
	defer stopObserving()
	if err := r.observer.Ready(ctx); err != nil {
		return nil, err
	}
	var err error
	if r.operator, err = state.Open(ctx, ledgerConfig(r.etcd.DirectEndpoints(), "operator", r.quietLog)); err != nil {
		return nil, err
	}
	defer func() { _ = r.operator.Close() }() // the one that a restore has put in its place

	controlling, stopControlling := context.WithCancel(ctx)
	defer stopControlling()
	var working sync.WaitGroup
	if err := r.startControllers(controlling, &working); err != nil {
		return nil, err
	}
	r.driveAndBreak(ctx)
	quiet := r.settle(ctx)
	stopControlling()
	working.Wait()
	r.stopTimers()

	report := r.report()
	if quiet != nil {
		report.Problems = append(report.Problems, quiet)
	}
	invariants, err := r.observer.Finish(ctx, clusterNames...)
	stopObserving()
	report.take(invariants, err)
	report.add(<-observed)
	if !r.cfg.EndEarly || len(invariants.Violations) == 0 {
		report.check(r.recorder.History(), r.cfg.Folder)
	}
	return report, nil
}

func (r *run) startControllers(ctx context.Context, working *sync.WaitGroup) error {
	for i, name := range clusterNames {
		for replica := range 2 {
			c := newController(fmt.Sprintf("%s-controller-%d", name, replica), r.cfg.Holdfast, r.cfg.Folder, r.environment, r.arguments(name, 2*i+replica)...)
			at := newPoints(r, c, r.lists[name])
			control, err := newControl(c.control(), func(p failpoint.Point) { at.at(ctx, p) })
			if err != nil {
				return err
			}
			r.controllers = append(r.controllers, c)
			working.Go(func() {
				defer control.close()
				if err := c.run(ctx); err != nil {
					r.problem(err)
				}
			})
		}
	}
	return nil
}

func (r *run) arguments(name string, i int) []string {
	flags := map[string]string{
		"cluster": name, "cluster-uid": uidOf(name), "nodes": r.lists[name].path, "listen": "127.0.0.1:0",
		"endpoints": strings.Join(r.etcd.ClientEndpoints(i%r.etcd.Sides()), ","), "user": user,
		"grace-period": grace.String(), "quarantine": quarantine.String(), "attachment-ttl": attachmentTTL.String(),
		"migration-window": window.String(), "journal-retention": retention.String(), "election-ttl": electionTTL.String(),
		"stale-after": staleAfter.String(), "request-timeout": requestWithin.String(),
		"brake-fraction": "1", "fence-command": "true",
	}
	args := []string{"controller"}
	for _, k := range slices.Sorted(maps.Keys(flags)) {
		args = append(args, "--"+k+"="+flags[k])
	}
	return args
}

func (r *run) of(name string) []*controller {
	return slices.DeleteFunc(slices.Clone(r.controllers), func(c *controller) bool { return !strings.HasPrefix(c.name, name+"-") })
}

// driveAndBreak lets the drivers work while the schedule is played.
func (r *run) driveAndBreak(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Time+time.Minute)
	defer cancel()
	r.mu.Lock()
	r.stop = cancel
	r.mu.Unlock()
	steps := schedule(r.cfg.Seed, r.cfg.Time, r.tracks())
	r.cfg.Log.Info("schedule", "seed", r.cfg.Seed, "steps", "\n"+describe(steps))
	var driving sync.WaitGroup
	working, stop := context.WithCancel(ctx)
	for i := range clusterNames {
		for j := range r.cfg.Drivers {
			d := newDriver(r, i*r.cfg.Drivers+j, clusterNames[i])
			driving.Go(func() {
				if err := d.drive(working); err != nil {
					r.problem(err)
				}
			})
		}
	}
	if r.cfg.Restore {
		driving.Go(func() {
			if err := r.setBack(working); err != nil {
				r.problem(err)
			}
		})
	}
	from := r.now()
	play(ctx, func() time.Duration { return r.now() - from }, steps, func(s step, err error) {
		r.count("fault "+s.kind.name, 1)
		if err != nil && ctx.Err() == nil {
			r.problem(fmt.Errorf("fault %s: %w", s.kind.name, err))
		}
	})
	sleep(ctx, r.cfg.Time-(r.now()-from))
	stop()
	driving.Wait()
}

// wait and session are what a client may count on, where nobody revokes leases.
func (r *run) wait(d time.Duration) time.Duration {
	if r.cfg.Revoke {
		return 0
	}
	return d
}

func (r *run) session() time.Duration { return r.wait(attachmentTTL / 3) }

func (r *run) count(what string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[what] += n
}

// problem is something that is wrong with the run or with Holdfast, and no
// matter of one volume.
func (r *run) problem(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.problems = append(r.problems, fmt.Errorf("at %.1fs: %w", r.now().Seconds(), err))
}

// unexpected looks for errors that no fault of a run explains.
func (r *run) unexpected(ctx context.Context, what string, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	for _, e := range []error{state.ErrPermission, state.ErrInvalid, state.ErrClusterMismatch, state.ErrReadOnly} {
		if errors.Is(err, e) {
			r.problem(fmt.Errorf("%s: %w", what, err))
		}
	}
	if errors.Is(err, state.ErrRestored) && !r.cfg.Restore {
		r.problem(fmt.Errorf("%s: nothing was restored: %w", what, err))
	}
}

// later calls do after d, unless the run has ended by then.
func (r *run) later(d time.Duration, do func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.timers = append(r.timers, time.AfterFunc(d, do))
}

func (r *run) stopTimers() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.timers {
		t.Stop()
	}
}

func (r *run) lost(node string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.given[node]
}

func placeOf(cluster, node string) state.Place { return state.Place{Cluster: cluster, Node: node} }
