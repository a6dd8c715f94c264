package cluster_test

import (
	"errors"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-storage/holdfast/e2e/chaos/cluster"
)

// A client with a user gets through before, during and after; one without is
// shut out meanwhile; and a user may do no more than was granted.
func TestAuth(t *testing.T) {
	ctx, c := start(t, cluster.Options{Users: []cluster.User{
		{Name: "all", Password: "p"},
		{Name: "some", Password: "p", Grants: []cluster.Grant{{Key: "a", Type: clientv3.PermissionType(clientv3.PermReadWrite)}}},
	}})
	all, some := dial(t, c.ClientEndpoints(0), "all", "p"), dial(t, c.ClientEndpoints(0), "some", "p")
	nobody := dial(t, c.ClientEndpoints(0))
	writes := func(client *clientv3.Client, key string) {
		t.Helper()
		eventually(ctx, t, "a write of "+key, func() error { return put(ctx, client, 2*time.Second, key) })
	}
	for range 2 {
		writes(nobody, "b")
		writes(some, "b")
		apply(ctx, t, c, cluster.Auth{})
		writes(all, "b")
		writes(some, "a")
		if err := put(ctx, some, 10*time.Second, "b"); !errors.Is(err, rpctypes.ErrPermissionDenied) {
			t.Errorf("more than was granted: %v", err)
		}
		if err := put(ctx, nobody, 10*time.Second, "b"); !errors.Is(err, rpctypes.ErrUserEmpty) {
			t.Errorf("a client without a user: %v", err)
		}
		if err := c.Healthy(ctx); err != nil {
			t.Error(err)
		}
		heal(ctx, t, c, cluster.Auth{})
	}
	writes(nobody, "b")
}

// A login ends after its time, however busy the client.
func TestTokensEnd(t *testing.T) {
	ctx, c := start(t, cluster.Options{TokenTTL: time.Second, Users: []cluster.User{{Name: "all", Password: "p"}}})
	apply(ctx, t, c, cluster.Auth{})
	client := dial(t, c.ClientEndpoints(0), "all", "p")
	for range 2 {
		eventually(ctx, t, "a login that has ended", func() error {
			if err := put(ctx, client, 2*time.Second, "a"); !errors.Is(err, rpctypes.ErrInvalidAuthToken) {
				return errors.Join(errors.New("it goes on"), err)
			}
			return nil
		})
		eventually(ctx, t, "a write by a login of its own", func() error { return put(ctx, client, 2*time.Second, "a") })
	}
	heal(ctx, t, c, cluster.Auth{})
}
