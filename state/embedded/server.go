// Package embedded runs an etcd server inside the process, on a data folder:
// for one machine that has no etcd of its own. It is etcd itself, unchanged,
// with its quota set and compacting by itself, so that nothing needs to tend
// it. It is one member: it survives restarts and crashes of the process, not
// the loss of the machine's disk.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"

	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc"
)

// Server is an etcd that runs in this process. Its methods may be called from
// several goroutines.
type Server struct {
	etcd     *embed.Etcd
	lock     io.Closer
	streams  *streams
	endpoint string

	errs    chan error
	closing chan struct{}
	watched chan struct{}
	close   func() error
}

// Start starts an etcd on cfg.Dir and returns once it serves clients. Errors
// are one line each: the folder is used by another process or cannot be
// written, the port is taken, a field is wrong. It never waits for another
// process to leave the folder. What etcd cannot recover from (a corrupt log
// of its own) ends the process with a log line: that is etcd's way.
//
// When ctx ends before the server is ready, Start returns ctx's cause at once,
// and the half-started server is taken down in the background, since etcd's
// own start cannot be interrupted. After that ctx has no more effect: the
// server runs until Close.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	// A free port is found by listening on it and letting it go, so another
	// process can be faster; it will not be so often.
	const attempts = 5
	for attempt := 1; ; attempt++ {
		s, err := start(ctx, cfg)
		if err == nil || attempt == attempts || !errors.Is(err, syscall.EADDRINUSE) || !anyPort(cfg.ListenClient) {
			return s, err
		}
	}
}

func start(ctx context.Context, cfg Config) (*Server, error) {
	listen, err := resolveListen(cfg.ListenClient)
	if err != nil {
		return nil, err
	}
	lock, err := lockFolder(cfg.Dir)
	if err != nil {
		return nil, err
	}
	ec := cfg.etcd(listen)
	streams := newStreams()
	ec.GRPCAdditionalServerOptions = append(ec.GRPCAdditionalServerOptions, grpc.StreamInterceptor(streams.intercept))
	etcd, err := launch(ctx, ec, lock)
	if err != nil {
		return nil, fmt.Errorf("embedded etcd: start on %s: %w", cfg.Dir, err)
	}
	if !listen.Addr().IsLoopback() {
		cfg.Logger.Warn("embedded etcd is open to the network, with neither TLS nor passwords", "listen", listen.String())
	}
	s := &Server{
		etcd:     etcd,
		lock:     lock,
		streams:  streams,
		endpoint: ec.AdvertiseClientUrls[0].String(),
		errs:     make(chan error, 1),
		closing:  make(chan struct{}),
		watched:  make(chan struct{}),
	}
	s.close = sync.OnceValue(s.shutDown)
	go s.watch()
	return s, nil
}

// launch starts etcd and waits until it is ready. It takes over lock: where
// it returns an error, the lock is released as soon as etcd is down.
func launch(ctx context.Context, ec *embed.Config, lock io.Closer) (*embed.Etcd, error) {
	type outcome struct {
		etcd *embed.Etcd
		err  error
	}
	launched := make(chan outcome, 1)
	go func() {
		etcd, err := embed.StartEtcd(ec)
		launched <- outcome{etcd, err}
	}()
	takeDown := func(o outcome) {
		if o.etcd != nil {
			o.etcd.Close()
		}
		lock.Close()
	}

	var started outcome
	select {
	case started = <-launched:
	case <-ctx.Done():
		go func() { takeDown(<-launched) }()
		return nil, context.Cause(ctx)
	}
	if started.err != nil {
		takeDown(started)
		return nil, started.err
	}
	select {
	case <-started.etcd.Server.ReadyNotify():
		return started.etcd, nil
	case <-ctx.Done():
		go takeDown(started)
		return nil, context.Cause(ctx)
	case err := <-started.etcd.Err():
		takeDown(started)
		return nil, err
	case <-started.etcd.Server.StopNotify():
		takeDown(started)
		return nil, errStopped
	}
}

var errStopped = errors.New("etcd stopped by itself")

// watch hands on the one error that matters: that the server is down though
// nobody closed it.
func (s *Server) watch() {
	defer close(s.watched)
	defer close(s.errs)
	var err error
	select {
	case <-s.closing:
		return
	case err = <-s.etcd.Err():
	case <-s.etcd.Server.StopNotify():
	}
	if err == nil {
		err = errStopped
	}
	s.errs <- fmt.Errorf("embedded etcd: %w", err)
}

// Endpoint is the URL at which clients reach the server.
func (s *Server) Endpoint() string { return s.endpoint }

// Endpoints is Endpoint, in the form that clients are configured with.
func (s *Server) Endpoints() []string { return []string{s.endpoint} }

// Err delivers at most one error, when the server has gone down by itself,
// and is closed then, or by Close. The server still needs its Close.
func (s *Server) Err() <-chan error { return s.errs }

// Etcd is the server itself, for what Server has no method for. It must not be
// closed past Server.
func (s *Server) Etcd() *embed.Etcd { return s.etcd }

// Close stops the server and returns once all of it has ended and the folder
// can be used by another. Clients that are still connected are cut off: close
// them first for a quiet end. Later calls return what the first one did.
func (s *Server) Close() error { return s.close() }

func (s *Server) shutDown() error {
	close(s.closing)
	s.streams.end()
	s.etcd.Close()
	<-s.watched
	if err := s.lock.Close(); err != nil {
		return fmt.Errorf("embedded etcd: release the lock of the data folder: %w", err)
	}
	return nil
}

func anyPort(listen string) bool {
	_, port, err := net.SplitHostPort(listen)
	return err == nil && port == "0"
}
