package main

import (
	"context"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/reconcile"
	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/watch"
)

// served is one cluster that a controller serves, with all that is the
// cluster's own. What the clusters of a hub share is the daemon's.
type served struct {
	waiting
	d    *daemon
	name string
	// uid is what the cluster's kube-system UID has to be; empty for any.
	uid string
	// open finds out where the cluster's nodes come from. A hub asks anew at each try.
	open func() (origin, error)
	up   prometheus.Gauge
}

// run opens the ledger as the cluster and runs all that is its own, until ctx
// ends or something of it fails. When it returns nothing of it is left, and it
// can be called again.
func (s *served) run(ctx context.Context, ledger *state.Ledger) error {
	from, err := s.open()
	if err != nil {
		return err
	}
	cluster, err := s.join(ctx, ledger, from.nodes)
	if err != nil {
		return err
	}
	parts, err := s.parts(cluster, from)
	if err != nil {
		return &settingError{err}
	}
	cfg := ledger.Config()
	s.log.Info("the controller runs", "uid", cluster.UID(), "dryRun", s.d.flags.dryRun,
		"etcd", strings.Join(cfg.Endpoints, ","), "prefix", cfg.Prefix)
	s.up.Set(1)
	defer s.up.Set(0)
	return together(ctx, parts...)
}

// parts makes what runs for the cluster; nothing of it has begun. Each registers
// its metrics while it runs, so that a later run can do so again.
func (s *served) parts(cluster *state.Cluster, from origin) ([]part, error) {
	f, log, registry := s.d.flags, s.d.log, s.d.registry
	watcher, err := watch.New(watch.Config{
		Cluster: cluster, Nodes: from.nodes, StaleAfter: f.waits.staleAfter, Resync: f.waits.resync,
		MatchNodeUID: s.d.ledger.MatchNodeUID, Logger: log, Registerer: registry,
	})
	if err != nil {
		return nil, err
	}
	outside, err := f.witness(s.name, from)
	if err != nil {
		return nil, err
	}
	reconciling := reconcile.Config{
		Cluster: cluster, Nodes: from.nodes, Watcher: watcher, Fencer: s.d.fencer, Brake: f.braking(),
		RemovalRate: f.removalRate, DryRun: f.dryRun, ID: replica(cluster.Ledger().Config().By), Witness: outside,
		Logger: log, Registerer: registry,
	}
	keeping := reconcile.KeeperConfig{Cluster: cluster, Watcher: watcher, Logger: log, Registerer: registry}
	parts := []part{watcher.Run}
	if tell := s.teller(cluster, watcher, from.api); tell != nil {
		reconciling.Reporter, keeping.Reporter = tell, tell
		parts = append(parts, tell.run)
	}
	reconciler, err := reconcile.New(reconciling)
	if err != nil {
		return nil, err
	}
	keeper, err := reconcile.NewKeeper(keeping)
	if err != nil {
		return nil, err
	}
	allowed := &permissions{nodes: from.nodes, sources: watcher.Sources, log: s.log}
	granted := newRole(cluster, s.log)
	s.ready.follow(func() []string {
		return slices.Concat(unreadable(watcher.Sources(), watcher.Config().StaleAfter), allowed.missing(), granted.missing(), unproven(reconciler))
	})
	return append(parts, reconciler.Run, keeper.Run, allowed.run, granted.run), nil
}

// join opens the ledger as the cluster whose nodes are watched.
func (s *served) join(ctx context.Context, ledger *state.Ledger, nodes watch.NodeSource) (*state.Cluster, error) {
	uid := ""
	// Whatever keeps a cluster from telling its identity may pass: an API
	// server that starts, a role that is still to be given.
	always := func(error) bool { return true }
	err := s.await(ctx, "the cluster's identity", always, func(ctx context.Context) (err error) {
		uid, err = nodes.ClusterUID(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	if s.uid != "" && uid != s.uid {
		return nil, cli.Usagef("invalid --cluster-uid %q: the cluster that the nodes come from has the kube-system UID %q", s.uid, uid)
	}
	giveBack, err := s.d.identities.claim(s.name, uid)
	if err != nil {
		return nil, err
	}
	var cluster *state.Cluster
	err = s.await(ctx, "the cluster's record in etcd", comesBack, func(ctx context.Context) (err error) {
		cluster, err = ledger.Cluster(ctx, state.Identity{Name: s.name, UID: uid})
		return err
	})
	if err != nil {
		giveBack()
	}
	return cluster, err
}

// await tries patiently. In a hub it tries once: there whoever runs the cluster
// tries all of it again, so that its kubeconfig is read anew.
func (s *served) await(ctx context.Context, what string, forNow func(error) bool, try func(context.Context) error) error {
	if s.d.hub() {
		return try(ctx)
	}
	return s.patiently(ctx, what, forNow, try)
}

// replica tells one process from another where several run for one cluster.
func replica(host string) string { return host + "/" + strconv.Itoa(os.Getpid()) }

// unreadable lists which of the two sources has not been loaded, was not heard
// of for longer than it is relied on, or is one that its server lets nobody read
// any more, and why.
func unreadable(s watch.Sources, staleAfter time.Duration) []string {
	var out []string
	for _, source := range []struct {
		name string
		watch.Source
	}{{"the Node list", s.Nodes}, {"the records in etcd", s.Etcd}} {
		switch {
		case source.Loaded && !turnedAway(source.Err) && time.Since(source.LastContact) < staleAfter:
		case source.Err != nil:
			out = append(out, source.name+": "+advised(source.Err))
		case source.Loaded:
			out = append(out, source.name+", last heard of "+age(source.LastContact)+" ago")
		default:
			out = append(out, source.name)
		}
	}
	return out
}
