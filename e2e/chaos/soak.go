package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/holdfast-storage/holdfast/e2e/chaos/cluster"
	"github.com/holdfast-storage/holdfast/e2e/chaos/history"
	"github.com/holdfast-storage/holdfast/state"
)

// SoakConfig says what one soak is like. Programs, Folder and Time must be set.
type SoakConfig struct {
	// Seed is what the faults and the drivers' choices follow from.
	Seed uint64
	// Time is how long there is churn. The rests between the rounds, and what is
	// waited for at the end, come on top.
	Time time.Duration
	// Rate is how many calls a second are offered, whatever became of those
	// before; default 100. Volumes is over how many; default 500.
	Rate    float64
	Volumes int
	// Rounds is how often the churn rests and is measured; default 10, fewer in a
	// time that is too short for them. The first rest is what the others are
	// compared with.
	Rounds int
	// Retention is the journal's; default half of a round and at most a minute, so
	// that as many entries end as are made by the first rest.
	Retention time.Duration
	// Etcd, Etcdutl and Holdfast are the programs. Holdfast is built as it ships.
	Etcd, Etcdutl, Holdfast string
	// Folder takes everything that the soak writes.
	Folder string
	// Log hears of the faults, Progress of how it stands, once a minute.
	Log      *slog.Logger
	Progress func(string)
	// Leaks has the drivers leak on purpose, to see that it is found.
	Leaks bool
}

func (c SoakConfig) withDefaults() SoakConfig {
	c.Rate = cmp.Or(c.Rate, 100)
	c.Volumes = cmp.Or(c.Volumes, 500)
	c.Rounds = cmp.Or(c.Rounds, min(10, max(3, int(c.Time/leastRound))))
	c.Retention = cmp.Or(c.Retention, min(time.Minute, (c.Time/time.Duration(2*c.Rounds)).Round(time.Second)))
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	return c
}

const (
	// leastRound is about how long it takes until as many volumes are held as
	// will be from then on.
	leastRound = 15 * time.Second
	// soakQuota is etcd's, far above what a soak's ledger needs: what grows
	// without bound is to be seen in the table, not as a refusal.
	soakQuota = 2 << 30
	// soakNodes are each cluster's. More than in a chaos run, so that a node that
	// goes takes a small part of the volumes along.
	soakNodes = 10
)

// soak is one soak: etcd, controllers that live as long as it does, drivers at
// a fixed rate, and gentle faults. Of run it uses the faults and the settling.
type soak struct {
	*run
	cfg     SoakConfig
	drivers map[string]*soakDriver
	volumes []*soakVolume
	calls   chan struct{} // one for each call that is due
	gauges  []gauge
	leaks   leaks

	tell   sync.Mutex
	series map[string]*Series
	order  []string
}

// Soak makes one soak and measures it. The error says that it could not be
// made; what the measurements say is in the report.
func Soak(ctx context.Context, cfg SoakConfig) (report *SoakReport, err error) {
	cfg = cfg.withDefaults()
	s := &soak{
		cfg: cfg, calls: make(chan struct{}, int(cfg.Rate)), drivers: map[string]*soakDriver{}, series: map[string]*Series{},
		run: newRun(Config{
			Seed: cfg.Seed, Time: cfg.Time, Folder: cfg.Folder, Log: cfg.Log, Etcd: cfg.Etcd, Etcdutl: cfg.Etcdutl, Holdfast: cfg.Holdfast,
		}),
	}
	for i := range cfg.Volumes {
		s.volumes = append(s.volumes, &soakVolume{name: volumeName(i), shared: i%5 == 0})
	}
	var closers []func() error
	defer func() {
		for _, c := range slices.Backward(closers) {
			err = errors.Join(err, c())
		}
	}()
	if err := s.prepare(ctx, &closers); err != nil {
		return nil, fmt.Errorf("preparing the soak: %w", err)
	}
	return s.all(ctx)
}

// prepare starts etcd, and makes what needs no more than that.
func (s *soak) prepare(ctx context.Context, closers *[]func() error) (err error) {
	closing := func(c func() error) { *closers = append(*closers, c) }
	data := filepath.Join(s.cfg.Folder, "etcd")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	if s.etcd, err = cluster.Start(ctx, cluster.Options{
		Etcd: s.cfg.Etcd, Etcdutl: s.cfg.Etcdutl, Dir: data, Log: s.cfg.Log, Now: s.now, Sides: 3,
		Users: []cluster.User{{Name: user, Password: password}},
		Args:  []string{fmt.Sprintf("--quota-backend-bytes=%d", soakQuota)},
	}); err != nil {
		return err
	}
	closing(s.etcd.Close)
	direct := clientv3.Config{
		Endpoints: s.etcd.DirectEndpoints(), Username: cluster.Root.Name, Password: cluster.Root.Password,
		DialKeepAliveTime: 2 * time.Second, DialKeepAliveTimeout: 2 * time.Second,
		Logger: zap.NewNop(), // the faults are the soak's own
	}
	if s.raw, err = clientv3.New(direct); err != nil {
		return err
	}
	closing(s.raw.Close)
	// No file of the history, and few beacons: the observer's own memory is to
	// stand still, and each beacon stays.
	if s.observer, err = history.New(history.Config{
		Etcd: direct, Now: s.now, Keep: 200, BeaconEvery: 250 * time.Millisecond,
		Checks: history.Checks{Prefix: state.DefaultPrefix, Retention: s.cfg.Retention},
	}, s.facts); err != nil {
		return err
	}
	closing(s.observer.Close)
	for _, name := range clusterNames {
		var nodes []string
		for i := range soakNodes {
			nodes = append(nodes, nodeName(name, i))
		}
		if s.lists[name], err = newNodeList(name, filepath.Join(s.cfg.Folder, "nodes-"+name+".json"), s.facts, nodes...); err != nil {
			return err
		}
	}
	return nil
}

// all runs the parts, each within the one that it needs.
func (s *soak) all(ctx context.Context) (*SoakReport, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	observing, stopObserving := context.WithCancel(ctx)
	defer stopObserving()
	observed := make(chan error, 1)
	go func() { observed <- s.observer.Run(observing) }()
	if err := s.observer.Ready(ctx); err != nil {
		return nil, err
	}
	var err error
	if s.operator, err = state.Open(ctx, s.ledgerConfig(s.etcd.DirectEndpoints(), "operator")); err != nil {
		return nil, err
	}
	defer s.operator.Close()

	controlling, stopControlling := context.WithCancel(ctx)
	var working sync.WaitGroup
	defer working.Wait()
	defer stopControlling()
	if err := s.startControllers(controlling, &working); err != nil {
		return nil, err
	}
	if err := s.openDrivers(ctx); err != nil {
		return nil, err
	}
	defer s.closeDrivers()
	report := &SoakReport{Seed: s.cfg.Seed, Rate: s.cfg.Rate, Volumes: s.cfg.Volumes}
	if err := s.churnAndRest(ctx); err != nil {
		report.Problems = append(report.Problems, err)
	} else if report.Left, err = s.end(ctx); err != nil {
		report.Problems = append(report.Problems, err)
	}
	report.Series = s.taken()
	if report.Err() != nil {
		s.keepProfiles(ctx)
	}
	s.leaks.free()
	stopControlling()
	working.Wait()
	s.stopTimers()

	checking, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	report.History, err = s.observer.Finish(checking, clusterNames...)
	stopObserving()
	s.finish(report, err, <-observed)
	return report, nil
}

// startControllers starts two replicas a cluster, which nobody kills.
func (s *soak) startControllers(ctx context.Context, working *sync.WaitGroup) error {
	environment := func(int) []string { return []string{"HOLDFAST_PASSWORD=" + password} }
	for i, name := range clusterNames {
		for replica := range 2 {
			args := append(s.arguments(name, 2*i+replica), "--pprof",
				"--journal-retention="+s.cfg.Retention.String(), "--brake-window="+(s.cfg.Retention/2).String()) // which reads the journal
			c := newController(fmt.Sprintf("%s-controller-%d", name, replica), s.cfg.Holdfast, s.cfg.Folder, environment, args...)
			s.controllers = append(s.controllers, c)
			working.Go(func() {
				if err := c.run(ctx); err != nil {
					s.problem(err)
				}
			})
		}
	}
	for _, c := range s.controllers {
		g, err := controllerGauge(ctx, c)
		if err != nil {
			return err
		}
		s.gauges = append(s.gauges, g)
	}
	s.gauges = append(s.gauges, gauge{"drivers", ownFigures}, gauge{"etcd", s.etcdFigures})
	return nil
}

func (s *soak) ledgerConfig(endpoints []string, by string) state.Config {
	c := ledgerConfig(endpoints, by, s.quietLog)
	c.JournalRetention = s.cfg.Retention
	return c
}

// oneLife fails where a controller has ended by itself: nobody kills one in a soak.
func (s *soak) oneLife() error {
	var errs []error
	for _, c := range s.controllers {
		c.mu.Lock()
		if c.starts != 1 {
			errs = append(errs, fmt.Errorf("controller %s was started %d times, and nobody has killed it: %s says why it ended", c.name, c.starts, c.log()))
		}
		c.mu.Unlock()
	}
	return errors.Join(errs...)
}

// finish adds what only the end of all processes shows.
func (s *soak) finish(report *SoakReport, errs ...error) {
	errs = append(errs, s.oneLife())
	for _, c := range s.controllers {
		if err := c.faults(); err != nil {
			s.problem(err)
		}
	}
	for _, crash := range s.etcd.Crashes() {
		s.problem(errors.New("etcd crashed: " + crash))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	report.Took, report.Counts = s.now(), s.counts
	report.Problems = slices.Concat(report.Problems, s.problems, slices.DeleteFunc(errs, func(err error) bool { return err == nil }))
}
