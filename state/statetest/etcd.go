// Package statetest gives tests a real etcd: one member, three members, or
// the etcd binary as a process, each with faults to order. Nothing is faked:
// a fault is made where it would happen, on the wire, on the disk quota, or
// in the process.
//
// The usual way is one server a package and one prefix a test:
//
//	func TestMain(m *testing.M) { os.Exit(statetest.Main(m)) }
//
//	func TestAttach(t *testing.T) {
//		endpoints, prefix := statetest.Shared(t).Endpoints(), statetest.Prefix(t)
//		...
//	}
//
// A test that stops the server, fills it up, switches authentication on or
// compacts starts one of its own with Start. Data lies in memory where the
// system has a place for that, and is never synced to a disk.
package statetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/storage/wal"

	"github.com/holdfast-storage/holdfast/state/embedded"
)

// startTimeout is generous: race detector, two cores, several packages at once.
const startTimeout = time.Minute

// etcd preallocates two log segments of 64 MB, and in a memory-backed folder
// that is memory. It must be set before any server of the process starts.
func init() { wal.SegmentSizeBytes = 4 << 20 }

// Option changes a server that Start or StartCluster starts.
type Option func(*embedded.Config)

// WithElectionTimeout sets the election timeout. It takes the smallest TTL of
// a lease with it, 1.5 election timeouts in whole seconds: the default of 1 s
// makes that 2 s, as on a default etcd, and anything up to 666 ms makes it 1 s.
func WithElectionTimeout(d time.Duration) Option {
	return func(c *embedded.Config) { c.ElectionTimeout, c.HeartbeatInterval = d, d/10 }
}

// WithQuota sets the size of the database, in bytes, at which etcd raises
// NOSPACE. A new database is some 20 kB.
func WithQuota(bytes int64) Option {
	return func(c *embedded.Config) { c.QuotaBytes = bytes }
}

// WithLogger leads etcd's warnings to l. By default they go nowhere: a slow
// machine makes etcd warn a lot.
func WithLogger(l *slog.Logger) Option {
	return func(c *embedded.Config) { c.Logger = l }
}

// WithTune changes etcd's own configuration, last of all.
func WithTune(tune func(*embed.Config)) Option {
	return func(c *embedded.Config) {
		before := c.Tune
		c.Tune = func(ec *embed.Config) {
			before(ec)
			tune(ec)
		}
	}
}

// Etcd is a real etcd of one member, in this process.
type Etcd struct {
	Access
	cfg    embedded.Config
	shared bool

	mu      sync.Mutex
	server  *embedded.Server // nil while it is stopped
	proxies []*Proxy
}

// Start starts an etcd of one member. It is stopped, and its data removed,
// when the test ends.
func Start(tb testing.TB, opts ...Option) *Etcd {
	tb.Helper()
	e, err := start(opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := e.discard(); err != nil {
			tb.Error(err)
		}
	})
	return e
}

func start(opts []Option) (*Etcd, error) {
	dir, err := dataFolder()
	if err != nil {
		return nil, err
	}
	e := &Etcd{cfg: config(dir, opts)}
	for attempt := 0; ; attempt++ {
		e.cfg.ListenClient = loopback(FreePort())
		err = e.run()
		if err == nil {
			e.Access.endpoints = e.server.Endpoints()
			return e, nil
		}
		if attempt == 5 || !errors.Is(err, syscall.EADDRINUSE) {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
	}
}

func config(dir string, opts []Option) embedded.Config {
	cfg := embedded.Config{
		Dir:           dir,
		UnsafeNoFsync: true,
		Logger:        slog.New(slog.DiscardHandler),
		Tune:          func(ec *embed.Config) { ec.BcryptCost = 4 }, // bcrypt's least: hashing is no part of any test
	}
	for _, opt := range opts {
		opt(&cfg)
	}
	return cfg
}

func (e *Etcd) run() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	server, err := embedded.Start(ctx, e.cfg)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.server = server
	return nil
}

func (e *Etcd) stop() error {
	e.mu.Lock()
	server, proxies := e.server, e.proxies
	e.server = nil
	e.mu.Unlock()
	if server == nil {
		return nil
	}
	for _, p := range proxies {
		p.DropConnections() // a paused one would hold up the shutdown
	}
	return server.Close()
}

func (e *Etcd) discard() error {
	return errors.Join(e.stop(), os.RemoveAll(e.cfg.Dir))
}

// Stop stops the server and keeps its data and its address. Clients see a
// connection that breaks and is refused.
func (e *Etcd) Stop(tb testing.TB) {
	tb.Helper()
	e.refuseShared(tb)
	if err := e.stop(); err != nil {
		tb.Fatal(err)
	}
}

// Restart stops the server where it runs, and starts it again on its data and
// at its address.
func (e *Etcd) Restart(tb testing.TB) {
	tb.Helper()
	e.Stop(tb)
	if err := untilFree(e.run); err != nil {
		tb.Fatal(err)
	}
}

// Endpoint is the URL that clients reach the server at, past all proxies.
func (e *Etcd) Endpoint() string { return e.endpoints[0] }

// Proxy puts a new proxy in front of the server, to make faults with. Clients
// that are to suffer them are given its endpoint in place of the server's.
func (e *Etcd) Proxy(tb testing.TB) *Proxy {
	tb.Helper()
	p := NewProxy(tb, e.Endpoint())
	e.mu.Lock()
	defer e.mu.Unlock()
	e.proxies = append(e.proxies, p)
	return p
}

func (e *Etcd) refuseShared(tb testing.TB) {
	tb.Helper()
	if e.shared {
		tb.Fatal("statetest: the shared server is other tests' too: start one of your own with statetest.Start")
	}
}

// untilFree runs a start that needs certain ports, again where one is taken:
// most likely for a moment only, by someone who looks whether it is free.
func untilFree(run func() error) error {
	err := run()
	for deadline := time.Now().Add(10 * time.Second); errors.Is(err, syscall.EADDRINUSE) && time.Now().Before(deadline); err = run() {
		time.Sleep(10 * time.Millisecond)
	}
	return err
}

// dataFolder makes a folder in memory where the system has /dev/shm.
func dataFolder() (string, error) {
	const memory, pattern = "/dev/shm", "holdfast-etcd-"
	if dir, err := os.MkdirTemp(memory, pattern); err == nil {
		return dir, nil
	}
	dir, err := os.MkdirTemp("", pattern)
	if err != nil {
		return "", fmt.Errorf("statetest: make a data folder: %w", err)
	}
	return dir, nil
}

func loopback(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

func httpURL(address string) url.URL { return url.URL{Scheme: "http", Host: address} }
