package bench

import (
	"context"
	"os"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/state/statetest"
)

func TestMain(m *testing.M) { os.Exit(statetest.Main(m)) }

// quick are sizes of which a test can afford several rounds.
var quick = Sizes{Name: "quick", Rounds: 4}

// configFor is a run on the shared etcd, below a prefix of the test's own.
func configFor(t *testing.T) (Config, *clientv3.Client) {
	t.Helper()
	etcd := statetest.Shared(t)
	return Config{
		Etcd: state.Config{Endpoints: etcd.Endpoints(), Prefix: statetest.Prefix(t)}, Sizes: quick, Seed: 1,
	}, etcd.Client(t)
}

func workload(name string, run func(context.Context, *Run) error) Workload {
	return Workload{Name: name, About: "a test", Run: run}
}

// below is the keys below a prefix.
func below(t *testing.T, client *clientv3.Client, prefix string) []string {
	t.Helper()
	found, err := client.Get(context.Background(), prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, kv := range found.Kvs {
		keys = append(keys, string(kv.Key))
	}
	return keys
}
