package statetest_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-storage/holdfast/state/statetest"
)

func ctx(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// brief is a context for a request that is not to be answered.
func brief(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func put(t *testing.T, client *clientv3.Client, key, value string) int64 {
	t.Helper()
	answer, err := client.Put(ctx(t), key, value)
	if err != nil {
		t.Fatal(err)
	}
	return answer.Header.Revision
}

func TestShared_PrefixesAreApartAndCleanedUp(t *testing.T) {
	e := statetest.Shared(t)
	var first string
	t.Run("one", func(t *testing.T) {
		first = statetest.Prefix(t)
		put(t, statetest.Shared(t).Client(t), first+"a", "1")
	})
	t.Run("two", func(t *testing.T) {
		second := statetest.Prefix(t)
		if second == first {
			t.Errorf("the same prefix twice: %s", first)
		}
		if got := e.Dump(t, second); len(got) != 0 {
			t.Errorf("a new prefix holds %v", got)
		}
	})
	if got := e.Dump(t, first); len(got) != 0 {
		t.Errorf("left below the first test's prefix: %v", got)
	}
}

func TestDumpAndHistory(t *testing.T) {
	e, prefix := statetest.Shared(t), statetest.Prefix(t)
	client := e.Client(t)
	lease, err := client.Grant(ctx(t), 60)
	if err != nil {
		t.Fatal(err)
	}
	first := put(t, client, prefix+"a", "1")
	if _, err := client.Put(ctx(t), prefix+"a", "2", clientv3.WithLease(lease.ID)); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Delete(ctx(t), prefix+"a"); err != nil {
		t.Fatal(err)
	}
	put(t, client, prefix+"b", "3")

	one := statetest.KV{Key: prefix + "a", Value: "1", CreateRevision: first, ModRevision: first, Version: 1}
	two := statetest.KV{Key: prefix + "a", Value: "2", CreateRevision: first, ModRevision: first + 1, Version: 2, Lease: int64(lease.ID)}
	three := statetest.KV{Key: prefix + "b", Value: "3", CreateRevision: first + 3, ModRevision: first + 3, Version: 1}
	if diff := cmp.Diff([]statetest.KV{three}, e.Dump(t, prefix)); diff != "" {
		t.Errorf("dump (-want +got):\n%s", diff)
	}
	history := []statetest.Event{
		{KV: one},
		{KV: two, Previous: &one},
		{Deleted: true, KV: statetest.KV{Key: prefix + "a", ModRevision: first + 2}, Previous: &two},
		{KV: three},
	}
	if diff := cmp.Diff(history, e.History(t, prefix, first)); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(history[3:], e.History(t, prefix, first+3)); diff != "" {
		t.Errorf("history from its last revision (-want +got):\n%s", diff)
	}
}

func TestRestartKeepsDataAndAddress(t *testing.T) {
	e := statetest.Start(t)
	client := e.Client(t)
	put(t, client, "a", "1")
	before := e.Endpoint()

	e.Stop(t)
	if _, err := client.Get(brief(t), "a"); err == nil {
		t.Error("a stopped server answers")
	}
	e.Restart(t)
	if e.Endpoint() != before {
		t.Errorf("endpoint %s after the restart, %s before", e.Endpoint(), before)
	}
	if got := e.Dump(t, "a"); len(got) != 1 || got[0].Value != "1" {
		t.Errorf("after the restart: %v", got)
	}
	put(t, client, "a", "2") // the client from before finds it again
}

func TestWithElectionTimeout_LowersTheSmallestTTL(t *testing.T) {
	for _, test := range []struct {
		name string
		opts []statetest.Option
		want int64
	}{
		{name: "default", want: 2},
		{name: "short", opts: []statetest.Option{statetest.WithElectionTimeout(500 * time.Millisecond)}, want: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			lease, err := statetest.Start(t, test.opts...).Client(t).Grant(ctx(t), 1)
			if err != nil {
				t.Fatal(err)
			}
			if lease.TTL != test.want {
				t.Errorf("smallest TTL is %d s, want %d s", lease.TTL, test.want)
			}
		})
	}
}
