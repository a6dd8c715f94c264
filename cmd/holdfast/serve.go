package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof" // its handlers; the mux that it registers them in is not served
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Bounds of the server that a controller is watched through. Its answers come
// from memory, so whoever is slower than this is not a scraper.
const (
	readHeaderTimeout = 5 * time.Second
	answerTimeout     = 30 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 64 << 10
	maxScrapes        = 8
	// shutdownTimeout is what a scrape that is under way gets at the end. The
	// controller has stopped by then, and its process should too.
	shutdownTimeout = time.Second
)

// readiness is what a controller still waits for. The zero value waits for the
// controller to begin. It is safe for concurrent use.
type readiness struct {
	missing atomic.Pointer[func() []string]
}

// waitFor sets what is waited for until the next call.
func (r *readiness) waitFor(what string) {
	r.follow(func() []string { return []string{what} })
}

// follow asks missing from now on. It lists what is waited for, a line each,
// and nothing once the controller is ready.
func (r *readiness) follow(missing func() []string) { r.missing.Store(&missing) }

func (r *readiness) list() []string {
	if missing := r.missing.Load(); missing != nil {
		return (*missing)()
	}
	return []string{"the controller has not begun"}
}

// monitoring answers /metrics, /healthz and /readyz. /healthz says that the
// process serves and nothing more: etcd being away is no reason to restart it.
func monitoring(metrics prometheus.Gatherer, ready *readiness, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		// A collector that fails should not hide all the others.
		ErrorHandling: promhttp.ContinueOnError,
		Timeout:       answerTimeout,
		// Each answer is made in memory before it is sent.
		MaxRequestsInFlight: maxScrapes,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		plainText(w, http.StatusOK, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if missing := ready.list(); len(missing) > 0 {
			plainText(w, http.StatusServiceUnavailable, "not ready: waiting for\n  "+strings.Join(missing, "\n  "))
			return
		}
		plainText(w, http.StatusOK, "ok")
	})
	return mux
}

// profiling adds the profiler to what is served, for when it was asked for. It
// leaves out the command line: it is not ours to know what is in there.
func profiling(rest http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", rest)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	mux.Handle("GET /debug/pprof/cmdline", http.NotFoundHandler())
	return mux
}

func plainText(w http.ResponseWriter, code int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	io.WriteString(w, body+"\n") //nolint:errcheck // whoever asked has gone
}

// listen takes the address that a controller is watched at, before anything
// else is begun.
func listen(address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot serve metrics: --listen %q: %w: expected a free host:port, port 0 for any, or an empty one for none", address, err)
	}
	return listener, nil
}

// serve answers on listener until ctx ends, and closes it.
func serve(ctx context.Context, listener net.Listener, handler http.Handler, log *slog.Logger) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       answerTimeout,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serving metrics on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	short, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(short); err != nil {
		server.Close()
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving metrics on %s: %w", listener.Addr(), err)
	}
	return nil
}
