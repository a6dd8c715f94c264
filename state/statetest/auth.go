package statetest

import (
	"context"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// The superuser that EnableAuth makes.
const (
	RootUser     = "root"
	RootPassword = "root-password"
)

// User is somebody whom EnableAuth lets in.
type User struct {
	Name, Password string
	// Prefix is what the user may read and write all keys below. Empty: nothing.
	Prefix string
	// ReadOnly takes the writing away.
	ReadOnly bool
}

// EnableAuth makes root and users, each with a role of its own, and switches
// authentication on. From then on Client is root's.
func (a *Access) EnableAuth(tb testing.TB, users ...User) {
	tb.Helper()
	client, done := a.briefClient(tb)
	defer done()
	err := request(func(ctx context.Context) error {
		if err := addRoot(ctx, client); err != nil {
			return err
		}
		for _, user := range users {
			if err := addUser(ctx, client, user); err != nil {
				return err
			}
		}
		_, err := client.AuthEnable(ctx)
		return err
	})
	if err != nil {
		tb.Fatalf("statetest: enable authentication: %v", err)
	}
	a.user, a.password = RootUser, RootPassword
}

func addRoot(ctx context.Context, client *clientv3.Client) error {
	if _, err := client.RoleAdd(ctx, "root"); err != nil {
		return err
	}
	if _, err := client.UserAdd(ctx, RootUser, RootPassword); err != nil {
		return err
	}
	_, err := client.UserGrantRole(ctx, RootUser, "root")
	return err
}

func addUser(ctx context.Context, client *clientv3.Client, user User) error {
	role, kind := "role-of-"+user.Name, clientv3.PermReadWrite
	if user.ReadOnly {
		kind = clientv3.PermRead
	}
	if _, err := client.RoleAdd(ctx, role); err != nil {
		return err
	}
	if user.Prefix != "" {
		end := clientv3.GetPrefixRangeEnd(user.Prefix)
		if _, err := client.RoleGrantPermission(ctx, role, user.Prefix, end, clientv3.PermissionType(kind)); err != nil {
			return err
		}
	}
	if _, err := client.UserAdd(ctx, user.Name, user.Password); err != nil {
		return err
	}
	_, err := client.UserGrantRole(ctx, user.Name, role)
	return err
}
