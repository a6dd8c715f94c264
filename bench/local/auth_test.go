package local_test

import (
	"context"
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/bench/local"
	"github.com/holdfast-storage/holdfast/state"
)

func TestEnableAuth_LedgerUserHasItsRoleAndNoMore(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	etcd, err := local.Start(ctx, 1, t.TempDir(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = etcd.Close() }()
	auth, err := etcd.EnableAuth(ctx, "east")
	if err != nil {
		t.Fatal(err)
	}
	open := func(user, password, prefix string) (*state.Ledger, error) {
		return state.Open(ctx, state.Config{Endpoints: etcd.Endpoints, Username: user, Password: password, Prefix: prefix})
	}
	if _, err := open("", "", "/mine/"); err == nil {
		t.Error("nobody has opened a ledger")
	}
	for _, prefix := range []string{"/mine/", "/others/"} { // root makes them, as an operator does
		ledger, err := open(auth.User, auth.Password, prefix)
		if err != nil {
			t.Fatal(err)
		}
		_ = ledger.Close()
	}
	user, password, err := auth.LedgerUser(ctx, "/mine/")
	if err != nil {
		t.Fatal(err)
	}
	ledger, err := open(user, password, "/mine/")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ledger.Close() }()
	cluster, err := ledger.Cluster(ctx, state.Identity{Name: "east", UID: "uid-east"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.Attach(ctx, state.AttachRequest{Volume: "v", Node: "node-1"}); err != nil {
		t.Error(err)
	}
	if other, err := open(user, password, "/others/"); err == nil {
		_ = other.Close()
		t.Error("the user has opened a ledger that its role is not for")
	}
}
