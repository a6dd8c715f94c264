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
// compacts starts one of its own with Start. Where HOLDFAST_TEST_ETCD names an
// etcd binary, all of them are processes of that: see Env. Data lies in memory where the
// system has a place for that, and is never synced to a disk.
package statetest

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"testing"

	"go.etcd.io/etcd/server/v3/storage/wal"
)

// etcd preallocates two log segments of 64 MB, and in a memory-backed folder
// that is memory. It must be set before any server of the process starts.
func init() { wal.SegmentSizeBytes = 4 << 20 }

// Etcd is a real etcd of one member: in this process, or where Env says so in
// one of its own.
type Etcd struct {
	Access
	with   settings
	shared bool

	mu      sync.Mutex
	server  server // nil while it is stopped
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
	with, err := newSettings(opts)
	if err != nil {
		return nil, err
	}
	e := &Etcd{with: with}
	for attempt := 0; ; attempt++ {
		e.with.client = loopback(FreePort())
		e.endpoints = []string{e.with.endpoint()}
		err := e.run()
		if err == nil {
			return e, nil
		}
		if attempt == 5 || !errors.Is(err, syscall.EADDRINUSE) {
			return nil, errors.Join(err, os.RemoveAll(with.dir))
		}
	}
}

func (e *Etcd) run() error {
	server, err := e.with.start()
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.server = server
	return nil
}

func (e *Etcd) stop(end func(server) error) error {
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
	return end(server)
}

func (e *Etcd) discard() error {
	return errors.Join(e.stop(server.kill), os.RemoveAll(e.with.dir))
}

// Stop stops the server and keeps its data and its address. Clients see a
// connection that breaks and is refused.
func (e *Etcd) Stop(tb testing.TB) {
	tb.Helper()
	e.refuseShared(tb)
	if err := e.stop(server.Close); err != nil {
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
