package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"k8s.io/klog/v2"

	"github.com/holdfast-storage/holdfast/reconcile"
	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/state/embedded"
	"github.com/holdfast-storage/holdfast/watch"
)

// daemon is a controller that runs.
type daemon struct {
	flags  *controllerFlags
	ledger state.Config
	nodes  watch.NodeSource
	fencer reconcile.Fencer
	log    *slog.Logger
	ready  readiness
	// registry has holdfast's own metrics, process those of Go and the process.
	registry registry
	process  *prometheus.Registry
}

// registry takes metrics and gives them out.
type registry interface {
	prometheus.Registerer
	prometheus.Gatherer
}

// daemon checks all that can be checked before anything is begun.
func (f *controllerFlags) daemon(logs io.Writer) (*daemon, error) {
	cfg, err := f.config(logs)
	if err != nil {
		return nil, err
	}
	d := &daemon{flags: f, log: cfg.Logger, registry: prometheus.NewRegistry(), process: prometheus.NewRegistry()}
	d.registry.MustRegister(buildInfo())
	d.process.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if d.nodes, err = f.source(f.clusterFlags.uid, d.log); err != nil {
		return nil, err
	}
	if d.fencer, err = f.fencer(); err != nil {
		return nil, err
	}
	cfg.MatchNodeUID = f.nodeIdentity == identityUID
	cfg.Registerer = d.registry
	d.ledger = cfg
	return d, nil
}

func buildInfo() prometheus.Collector {
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "holdfast_build_info", Help: "1, labelled with the version of holdfast and of Go.",
	}, []string{"version", "go"})
	v := buildVersion(debug.ReadBuildInfo())
	info.WithLabelValues(v.Version, v.Go).Set(1)
	return info
}

// leadLogs gives the process one log: also of what logs for itself, which is
// client-go and the standard library. etcd's client and server are given theirs.
func leadLogs(log *slog.Logger) {
	klog.SetSlogLogger(log)
	slog.SetDefault(log)
}

// run runs the controller until ctx ends, which is no error.
func (d *daemon) run(ctx context.Context) error {
	parts := []part{d.control}
	if d.flags.listen != "" {
		listener, err := listen(d.flags.listen)
		if err != nil {
			return err
		}
		parts = append(parts, func(ctx context.Context) error { return d.serve(ctx, listener) })
	}
	err := together(ctx, parts...)
	if err == nil {
		d.log.Info("the controller has ended, and leaves its records as they are", "cluster", d.flags.clusterFlags.name)
	}
	return err
}

func (d *daemon) serve(ctx context.Context, listener net.Listener) error {
	d.log.Info("serving /metrics, /healthz and /readyz", "address", listener.Addr().String())
	return serve(ctx, listener, monitoring(prometheus.Gatherers{d.registry, d.process}, &d.ready, d.log), d.log)
}

// control opens etcd and runs the rest on it.
func (d *daemon) control(ctx context.Context) error {
	if d.flags.embeddedDir == "" {
		return d.reconcile(ctx)
	}
	d.ready.waitFor("the embedded etcd to start")
	server, err := embedded.Start(ctx, embedded.Config{Dir: d.flags.embeddedDir, ListenClient: d.flags.embeddedListen, Logger: d.log})
	if err != nil {
		return err
	}
	d.log.Info("an etcd runs in this process", "folder", d.flags.embeddedDir, "endpoint", server.Endpoint())
	d.ledger.Endpoints = server.Endpoints()
	err = together(ctx, d.reconcile, func(ctx context.Context) error {
		select {
		case err := <-server.Err():
			return err
		case <-ctx.Done():
			return nil
		}
	})
	return errors.Join(err, server.Close())
}

// reconcile opens the ledger as the cluster, and runs watcher, reconciler and
// keeper.
func (d *daemon) reconcile(ctx context.Context) (err error) {
	ledger, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ledger.Close()) }()
	cluster, err := d.join(ctx, ledger)
	if err != nil {
		return err
	}
	waits := d.flags.waits
	watcher, err := watch.New(watch.Config{
		Cluster: cluster, Nodes: d.nodes, StaleAfter: waits.staleAfter, Resync: waits.resync,
		MatchNodeUID: d.ledger.MatchNodeUID, Logger: d.log, Registerer: d.registry,
	})
	if err != nil {
		return err
	}
	reconciler, err := reconcile.New(reconcile.Config{
		Cluster: cluster, Nodes: d.nodes, Watcher: watcher, Fencer: d.fencer, Brake: d.flags.braking(),
		RemovalRate: d.flags.removalRate, DryRun: d.flags.dryRun, ID: replica(ledger.Config().By),
		Logger: d.log, Registerer: d.registry,
	})
	if err != nil {
		return err
	}
	keeper, err := reconcile.NewKeeper(reconcile.KeeperConfig{Cluster: cluster, Watcher: watcher, Logger: d.log, Registerer: d.registry})
	if err != nil {
		return err
	}
	d.ready.follow(func() []string { return notLoaded(watcher.Sources()) })
	d.log.Info("the controller runs", "cluster", cluster.Name(), "uid", cluster.UID(), "dryRun", d.flags.dryRun,
		"etcd", strings.Join(d.ledger.Endpoints, ","), "prefix", ledger.Config().Prefix)
	return together(ctx, watcher.Run, reconciler.Run, keeper.Run)
}

// replica tells one process from another where several run for one cluster.
func replica(host string) string { return fmt.Sprintf("%s/%d", host, os.Getpid()) }

// notLoaded lists which of the two sources has not been loaded, and why.
func notLoaded(s watch.Sources) []string {
	var out []string
	for _, source := range []struct {
		name string
		watch.Source
	}{{"the Node list", s.Nodes}, {"the records in etcd", s.Etcd}} {
		switch {
		case source.Loaded:
		case source.Err != nil:
			out = append(out, source.name+": "+oneLine(source.Err.Error()))
		default:
			out = append(out, source.name)
		}
	}
	return out
}

// part is what runs until its context ends.
type part = func(context.Context) error

// together runs parts until ctx ends or one of them does, and returns the first
// failure when all have ended. That ctx has ended is none.
func together(ctx context.Context, parts ...part) error {
	running, stop := context.WithCancel(ctx)
	defer stop()
	var first error
	var once sync.Once
	var all sync.WaitGroup
	for _, part := range parts {
		all.Go(func() {
			defer stop()
			err := part(running)
			switch {
			case running.Err() != nil && (err == nil || errors.Is(err, context.Canceled)):
				return
			case err == nil:
				err = errors.New("a part of the controller has ended by itself")
			}
			once.Do(func() { first = err })
		})
	}
	all.Wait()
	return first
}

// retryPauses are the pauses between the tries to reach what is away.
const (
	firstRetryPause = 500 * time.Millisecond
	lastRetryPause  = 15 * time.Second
)

// patiently tries until it succeeds, fails for good, or ctx ends.
func (d *daemon) patiently(ctx context.Context, what string, forNow func(error) bool, try func(context.Context) error) error {
	d.ready.waitFor(what)
	for pause := firstRetryPause; ; pause = min(2*pause, lastRetryPause) {
		err := try(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !forNow(err):
			return err
		}
		d.log.Warn("waiting for "+what, "error", oneLine(err.Error()), "again_in", pause)
		d.ready.waitFor(what + ": " + oneLine(err.Error()))
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}
