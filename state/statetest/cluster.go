package statetest

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Cluster is a real etcd of several members: all of them in this process, or
// where Env says so each in one of its own.
type Cluster struct {
	Access
	members []*Member
}

// Member is one member of a Cluster.
type Member struct {
	with settings

	mu     sync.Mutex
	server server // nil while it is stopped
}

// StartCluster starts an etcd of size members, and returns once all of them
// serve. They are stopped, and their data removed, when the test ends.
func StartCluster(tb testing.TB, size int, opts ...Option) *Cluster {
	tb.Helper()
	c := &Cluster{}
	tb.Cleanup(func() {
		if err := c.discard(); err != nil {
			tb.Error(err)
		}
	})
	var peers, initial []string
	for range size {
		peer := loopback(FreePort())
		peers = append(peers, peer)
		initial = append(initial, memberName(peer)+"=http://"+peer)
	}
	token := uuid.NewString()
	for i, peer := range peers {
		with, err := newSettings(opts)
		if err != nil {
			tb.Fatal(err)
		}
		with.peer, with.initial, with.token = peer, strings.Join(initial, ","), token
		with.client = loopback(FreePort())
		with.versions = with.versions[min(i, len(with.versions)):]
		c.members = append(c.members, &Member{with: with})
		c.endpoints = append(c.endpoints, with.endpoint())
	}
	if err := c.each(func(m *Member) error { return untilFree(m.run) }); err != nil {
		tb.Fatal(err)
	}
	return c
}

// each calls do for every member at once: none of the first ones is ready
// before there is a majority of them.
func (c *Cluster) each(do func(*Member) error) error {
	errs := make([]error, len(c.members))
	var all sync.WaitGroup
	for i, m := range c.members {
		all.Go(func() { errs[i] = do(m) })
	}
	all.Wait()
	return errors.Join(errs...)
}

func (c *Cluster) discard() error {
	return c.each(func(m *Member) error {
		return errors.Join(m.stop(server.kill), os.RemoveAll(m.with.dir))
	})
}

// Members is how many members there are, running or not.
func (c *Cluster) Members() int { return len(c.members) }

// Member returns the i-th member, from 0.
func (c *Cluster) Member(i int) *Member { return c.members[i] }

// Leader waits until every running member names the same running leader, and
// returns its index. It needs a majority of running members.
func (c *Cluster) Leader(tb testing.TB) int {
	tb.Helper()
	client, done := c.briefClient(tb)
	defer done()
	for deadline := time.Now().Add(requestTimeout); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if i := c.agreedLeader(client); i >= 0 {
			return i
		}
	}
	tb.Fatalf("statetest: no leader that all of %v agree on within %v", c.endpoints, requestTimeout)
	return -1
}

// agreedLeader is -1 where there is none.
func (c *Cluster) agreedLeader(client *clientv3.Client) int {
	leader, named := -1, make(map[uint64]bool)
	for i, m := range c.members {
		if !m.Running() {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		status, err := client.Status(ctx, m.Endpoint())
		cancel()
		if err != nil {
			return -1
		}
		named[status.Leader] = true
		if status.Leader == status.Header.MemberId {
			leader = i
		}
	}
	if len(named) != 1 {
		return -1
	}
	return leader
}

// Endpoint is the URL that clients reach the member at.
func (m *Member) Endpoint() string { return m.with.endpoint() }

// Proxy puts a new proxy in front of the member's clients, to make faults with.
func (m *Member) Proxy(tb testing.TB) *Proxy {
	tb.Helper()
	return NewProxy(tb, m.Endpoint())
}

// Running tells whether the member runs.
func (m *Member) Running() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.server != nil
}

// Stop stops the member and keeps its data and its addresses. A leader hands
// over to another member first, where one is up to date.
func (m *Member) Stop(tb testing.TB) {
	tb.Helper()
	if err := m.stop(server.Close); err != nil {
		tb.Fatal(err)
	}
}

// Kill stops the member as a crash would, as far as the others can see: a
// leader hands over to nobody, and is missed when the election timeout ends.
func (m *Member) Kill(tb testing.TB) {
	tb.Helper()
	if err := m.stop(server.kill); err != nil {
		tb.Fatal(err)
	}
}

// Start starts the member again after Stop or Kill, and returns once it serves, which
// takes a majority of running members.
func (m *Member) Start(tb testing.TB) {
	tb.Helper()
	if m.Running() {
		return
	}
	if err := untilFree(m.run); err != nil {
		tb.Fatal(err)
	}
}

func (m *Member) run() error {
	server, err := m.with.start()
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.server = server
	return nil
}

func (m *Member) stop(end func(server) error) error {
	m.mu.Lock()
	server := m.server
	m.server = nil
	m.mu.Unlock()
	if server == nil {
		return nil
	}
	return end(server)
}
