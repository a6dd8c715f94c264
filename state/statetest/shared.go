package statetest

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
)

// theShared is the one server that a package's tests have in common.
var theShared struct {
	sync.Mutex
	inMain bool
	etcd   *Etcd
	client *clientv3.Client // cleans up after prefixes
}

// Main runs a package's tests, stops the shared server where one was started,
// and looks for goroutines that are still there. It returns the exit code:
//
//	func TestMain(m *testing.M) { os.Exit(statetest.Main(m)) }
func Main(m *testing.M, opts ...goleak.Option) int {
	theShared.Lock()
	theShared.inMain = true
	theShared.Unlock()

	code := m.Run()
	if err := stopShared(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	if code != 0 {
		return code // a test that failed half-way leaves goroutines: no news
	}
	if err := leaks(opts); err != nil {
		fmt.Fprintln(os.Stderr, "statetest: goroutines outlived the tests:", err)
		return 1
	}
	return 0
}

// leaks looks again for as long as goroutines may take that are on their way
// out: when a member of a cluster stops, the connections between the members
// end at the read timeout of five seconds.
func leaks(opts []goleak.Option) error {
	const patience = 15 * time.Second
	deadline := time.Now().Add(patience)
	for {
		err := goleak.Find(opts...)
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

func stopShared() error {
	theShared.Lock()
	defer theShared.Unlock()
	if theShared.etcd == nil {
		return nil
	}
	theShared.client.Close()
	err := theShared.etcd.discard()
	theShared.etcd, theShared.client = nil, nil
	return err
}

// Shared returns the server that all tests of the package share, and starts
// it if this is the first to ask. It needs a TestMain that calls Main. Keep to
// keys below Prefix, and leave the server as it is.
func Shared(tb testing.TB) *Etcd {
	tb.Helper()
	theShared.Lock()
	defer theShared.Unlock()
	if !theShared.inMain {
		tb.Fatal("statetest: Shared needs a TestMain that calls statetest.Main, which stops the server in the end")
	}
	if theShared.etcd != nil {
		return theShared.etcd
	}
	e, err := start(nil)
	if err != nil {
		tb.Fatal(err)
	}
	client, err := newRawClient(clientv3.Config{Endpoints: e.Endpoints()})
	if err != nil {
		tb.Fatal(err)
	}
	e.shared = true
	theShared.etcd, theShared.client = e, client
	return e
}

var (
	prefixes     atomic.Int64
	notInAPrefix = regexp.MustCompile(`[^A-Za-z0-9]+`)
)

// Prefix returns a prefix of keys that no other test has, ending in a slash.
// What lies below it on the shared server is deleted when the test ends.
func Prefix(tb testing.TB) string {
	tb.Helper()
	prefix := fmt.Sprintf("/%s-%d/", notInAPrefix.ReplaceAllString(tb.Name(), "-"), prefixes.Add(1))
	tb.Cleanup(func() {
		theShared.Lock()
		defer theShared.Unlock()
		if theShared.client == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
		defer cancel()
		if _, err := theShared.client.Delete(ctx, prefix, clientv3.WithPrefix()); err != nil {
			tb.Errorf("statetest: clean up %s: %v", prefix, err)
		}
	})
	return prefix
}
