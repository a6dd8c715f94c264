package cluster_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/holdfast-storage/holdfast/e2e/chaos/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds a test: generous, for a machine that is busy.
const patience = 2 * time.Minute

// program is a path in the repository's bin folder. A test needs what make
// builds there, and does not do without.
func program(t *testing.T, name, target string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../../../bin", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run make %s", err, target)
	}
	return path
}

// start starts a cluster that ends with the test, and wants no member to have
// ended by itself.
func start(t *testing.T, opts cluster.Options) (context.Context, *cluster.Cluster) {
	t.Helper()
	ctx, c := begin(t, opts)
	t.Cleanup(func() {
		for _, crash := range c.Crashes() {
			t.Error(crash)
		}
	})
	return ctx, c
}

// begin is start for a test that has a member end.
func begin(t *testing.T, opts cluster.Options) (context.Context, *cluster.Cluster) {
	t.Helper()
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	if opts.Etcd == "" {
		opts.Etcd = program(t, "etcd", "etcd")
	}
	opts.Etcdutl = program(t, "etcdutl", "etcd")
	if opts.Dir == "" {
		opts.Dir = t.TempDir()
	}
	opts.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	c, err := cluster.Start(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return ctx, c
}

// dial makes a client that sends each request once.
func dial(t *testing.T, endpoints []string, user ...string) *clientv3.Client {
	t.Helper()
	cfg := clientv3.Config{Endpoints: endpoints, MaxUnaryRetries: 1, DialTimeout: 5 * time.Second, Logger: zap.NewNop()}
	if len(user) == 2 {
		cfg.Username, cfg.Password = user[0], user[1]
	}
	client, err := clientv3.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// put puts once, within d.
func put(ctx context.Context, client *clientv3.Client, d time.Duration, key string) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	_, err := client.Put(ctx, key, "")
	return err
}

// eventually waits until is says nothing is wrong any more.
func eventually(ctx context.Context, t *testing.T, what string, is func() error) {
	t.Helper()
	for {
		err := is()
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func apply(ctx context.Context, t *testing.T, c *cluster.Cluster, f cluster.Fault) {
	t.Helper()
	if err := f.Apply(ctx, c); err != nil {
		t.Fatalf("%v: %v", f, err)
	}
	t.Logf("applied: %v", f)
}

func heal(ctx context.Context, t *testing.T, c *cluster.Cluster, f cluster.Fault) {
	t.Helper()
	if err := f.Heal(ctx, c); err != nil {
		t.Fatalf("heal: %v: %v", f, err)
	}
	if err := c.Healthy(ctx); err != nil {
		t.Fatalf("healed: %v: %v", f, err)
	}
}

func leader(ctx context.Context, t *testing.T, c *cluster.Cluster) int {
	t.Helper()
	i, err := c.Leader(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// leads is nil once the cluster's leader is a member that wanted says yes to.
func leads(ctx context.Context, c *cluster.Cluster, wanted func(int) bool) error {
	for i := range cluster.Size {
		s, err := c.Status(ctx, i)
		if err == nil && s.Leader == s.Header.MemberId && wanted(i) {
			return nil
		}
	}
	return fmt.Errorf("no such leader")
}

// never fails the test if is says yes within half a second.
func never(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if is() {
			t.Fatalf("%s, which is not to be", what)
		}
	}
}
