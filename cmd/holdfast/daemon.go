package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"k8s.io/klog/v2"

	"github.com/holdfast-storage/holdfast/reconcile"
	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/state/embedded"
)

// daemon is a controller that runs: the ledger, what shows it to others, and
// the clusters that it serves on that ledger, one or, as a hub, several.
type daemon struct {
	waiting
	flags  *controllerFlags
	ledger state.Config
	fencer reconcile.Fencer
	// registry has holdfast's own metrics, process those of Go and the process.
	registry   registry
	process    *prometheus.Registry
	clusters   []*served
	identities identities
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
	cfg.MatchNodeUID = f.nodeIdentity == identityUID
	d := &daemon{
		waiting: waiting{log: cfg.Logger}, flags: f, ledger: cfg,
		registry: prometheus.NewRegistry(), process: prometheus.NewRegistry(),
	}
	if d.fencer, err = f.fencer(); err != nil {
		return nil, err
	}
	for _, spec := range f.clusters {
		open, err := d.opener(spec)
		if err != nil {
			return nil, err
		}
		d.clusters = append(d.clusters, &served{
			waiting: waiting{log: d.log.With("cluster", spec.name)}, d: d, name: spec.name, uid: f.clusterUID, open: open,
		})
	}
	return d, nil
}

func (d *daemon) hub() bool { return d.flags.clusters.hub() }

// opener is how a cluster finds its nodes. Where it is the only one, what is
// wrong with that is said before anything is begun.
func (d *daemon) opener(spec clusterSpec) (func() (origin, error), error) {
	if !d.hub() {
		from, err := d.flags.origin(d.flags.clusterUID, d.log)
		return func() (origin, error) { return from, nil }, err
	}
	return func() (origin, error) {
		config, err := readKubeconfig(spec.kubeconfig, spec.context)
		if err != nil {
			return origin{}, fmt.Errorf("%s: %w: expected a kubeconfig; it is read again at the next try", spec.place(), err)
		}
		return kubernetes(config)
	}, nil
}

// register registers what is there for as long as the process is.
func (d *daemon) register() {
	d.process.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	up := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "holdfast_cluster_up", Help: "1 while the cluster's watcher, reconciler and keeper run in this process.",
	}, []string{"cluster"})
	d.registry.MustRegister(buildInfo(), up)
	for _, s := range d.clusters {
		s.up = up.WithLabelValues(s.name)
	}
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
	d.register()
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
		d.log.Info("the controller has ended, and leaves its records as they are", "cluster", d.flags.clusters.String())
	}
	return err
}

func (d *daemon) serve(ctx context.Context, listener net.Listener) error {
	d.log.Info("serving /metrics, /healthz and /readyz", "address", listener.Addr().String())
	handler := monitoring(prometheus.Gatherers{d.registry, d.process}, &d.ready, d.log)
	if d.flags.pprof {
		d.log.Warn("serving profiles at /debug/pprof/ too, to whoever reaches the address", "address", listener.Addr().String())
		handler = profiling(handler)
	}
	return serve(ctx, listener, handler, d.log)
}

// control opens etcd and runs the rest on it.
func (d *daemon) control(ctx context.Context) error {
	if d.flags.embeddedDir == "" {
		return d.serveClusters(ctx)
	}
	d.ready.waitFor("the embedded etcd to start")
	server, err := embedded.Start(ctx, embedded.Config{Dir: d.flags.embeddedDir, ListenClient: d.flags.embeddedListen, Logger: d.log})
	if err != nil {
		return err
	}
	d.log.Info("an etcd runs in this process", "folder", d.flags.embeddedDir, "endpoint", server.Endpoint())
	d.ledger.Endpoints = server.Endpoints()
	err = together(ctx, d.serveClusters, func(ctx context.Context) error {
		select {
		case err := <-server.Err():
			return err
		case <-ctx.Done():
			return nil
		}
	})
	return errors.Join(err, server.Close())
}

// serveClusters opens the ledger and serves the clusters on it.
func (d *daemon) serveClusters(ctx context.Context) (err error) {
	ledger, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ledger.Close()) }()
	d.ready.follow(d.missing)
	var parts []part
	for _, s := range d.clusters {
		serve := s.run
		if d.hub() {
			serve = s.keepServed
		}
		parts = append(parts, func(ctx context.Context) error { return serve(ctx, ledger) })
	}
	return together(ctx, parts...)
}

// missing lists what each cluster waits for.
func (d *daemon) missing() []string {
	var out []string
	for _, s := range d.clusters {
		for _, what := range s.ready.list() {
			if d.hub() {
				what = s.name + ": " + what
			}
			out = append(out, what)
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
