// Package cluster runs a real etcd of three members for a chaos run or a
// deterministic test, and makes every fault that an etcd is known for.
//
// Each member is a process of the etcd binary. Its clients reach it through a
// proxy for each of their sides, so that one of Holdfast's processes can lose
// etcd while another keeps it; the other members reach it through a proxy that
// tells senders apart, so that a partition can have one direction. An observer
// goes past all of that, to DirectEndpoints.
//
// A fault is a value of one of the types that Cluster.Kinds lists: Apply makes
// it, Heal takes it back, and Cluster.HealAll takes everything back.
package cluster

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-storage/holdfast/state/statetest"
)

// Size is how many members there are.
const Size = 3

// Options of a cluster. Etcd, Etcdutl and Dir must be set.
type Options struct {
	// Etcd and Etcdutl are paths of the programs: bin/etcd or bin/etcd-gofail,
	// which SlowDisk takes, and bin/etcdutl.
	Etcd, Etcdutl string
	// Dir takes data, logs and snapshots: some 130 MB a member. It must exist,
	// and stays when the cluster is closed.
	Dir string
	// Log hears of processes and faults. Nil: nothing does.
	Log *slog.Logger
	// Now is the time since the run's begin. Nil: since Start.
	Now func() time.Duration
	// Sides is how many groups of clients can lose etcd apart from each other;
	// default 1.
	Sides int
	// Users stand in etcd from the start, each with a role of its own, and
	// count for nothing until Auth is applied.
	Users []User
	// TokenTTL has etcd issue JWT tokens that end after it, used or not. 0:
	// simple tokens, which last while they are used.
	TokenTTL time.Duration
	// Fsync makes etcd sync its disk. Off, nothing that it acknowledged is
	// lost either: a process that is killed leaves its writes to the kernel.
	Fsync bool
	// Args are added to every member's command line.
	Args []string
}

// Cluster is a running etcd. All of its methods may be called from any
// goroutine; two faults may stand at a time unless their Kind says Alone.
type Cluster struct {
	opts    Options
	log     *slog.Logger
	members [Size]*Member
	net     *network
	front   [][]*statetest.Proxy // of side and member

	failpoints bool // this etcd has them

	mu       sync.Mutex
	token    string
	restores int
	last     Snapshot
	revoked  []Revocation
}

// Start starts a cluster, and returns once it is healthy. The processes end
// with this process, however that ends, and by Close.
func Start(ctx context.Context, opts Options) (*Cluster, error) {
	begin := time.Now()
	opts.Sides = cmp.Or(opts.Sides, 1)
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Now == nil {
		opts.Now = func() time.Duration { return time.Since(begin) }
	}
	for _, path := range []string{opts.Etcd, opts.Etcdutl, opts.Dir} {
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("cluster: %w", err)
		}
	}
	c := &Cluster{opts: opts, log: opts.Log, token: newToken(), net: newNetwork()}
	if err := c.assemble(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if err := c.boot(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// assemble makes members and proxies, and starts no process.
func (c *Cluster) assemble() error {
	for i := range Size {
		m, err := newMember(c, i)
		if err != nil {
			return err
		}
		c.members[i] = m
	}
	for side := range c.opts.Sides {
		c.front = append(c.front, nil)
		for _, m := range c.members {
			proxy := statetest.OpenProxy(m.Endpoint(), func(err error) { c.log.Error("client proxy", "member", m.name, "error", err) })
			c.front[side] = append(c.front[side], proxy)
		}
	}
	return nil
}

func (c *Cluster) boot(ctx context.Context) error {
	if c.opts.TokenTTL > 0 {
		if err := c.writeKey(); err != nil {
			return err
		}
	}
	for _, m := range c.members {
		m.proxy.serve()
	}
	for _, m := range c.members {
		if err := m.launch(); err != nil {
			return err
		}
	}
	if err := c.Healthy(ctx); err != nil {
		return err
	}
	c.failpoints = c.members[0].SetFailpoint(ctx, slowPoint, "") == nil
	return c.addUsers(ctx)
}

// Close kills the members and ends the proxies. The data stays.
func (c *Cluster) Close() error {
	var errs []error
	for _, m := range c.members {
		if m != nil {
			m.Kill()
			errs = append(errs, m.proxy.close())
		}
	}
	for _, side := range c.front {
		for _, proxy := range side {
			proxy.Close()
		}
	}
	return errors.Join(errs...)
}

// DirectEndpoints are the members' own URLs, past every proxy, for an observer.
func (c *Cluster) DirectEndpoints() []string {
	var urls []string
	for _, m := range c.members {
		urls = append(urls, m.Endpoint())
	}
	return urls
}

// ClientEndpoints are the URLs for the clients of a side, from 0, each through
// a proxy of its own. They stay the same for the cluster's life.
func (c *Cluster) ClientEndpoints(side int) []string {
	var urls []string
	for _, proxy := range c.front[side] {
		urls = append(urls, proxy.Endpoint())
	}
	return urls
}

// Proxy stands between a side's clients and a member, for what no fault does.
func (c *Cluster) Proxy(side, member int) *statetest.Proxy { return c.front[side][member] }

// Sides is how many sides there are.
func (c *Cluster) Sides() int { return len(c.front) }

// Member returns the i-th member, from 0.
func (c *Cluster) Member(i int) *Member { return c.members[i] }

// initial is the list of members in the form that etcd wants it in.
func (c *Cluster) initial() string {
	var list []string
	for _, m := range c.members {
		list = append(list, m.name+"="+m.proxy.url())
	}
	return strings.Join(list, ",")
}

func (c *Cluster) path(names ...string) string {
	return filepath.Join(append([]string{c.opts.Dir}, names...)...)
}

func newToken() string {
	var random [8]byte
	rand.Read(random[:])
	return hex.EncodeToString(random[:])
}
