package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/holdfast-storage/holdfast/state"
)

// Auth is how to log in at an etcd that wants to know who comes.
type Auth struct {
	// User is etcd's root, who may do everything, and Password its password.
	User, Password string
	endpoints      []string
	cluster        string
	users          atomic.Int64
}

// authTimeout bounds the requests that make users; each of them hashes a password.
const authTimeout = 30 * time.Second

// EnableAuth makes root, and has etcd ask who comes from now on. cluster is whose
// permissions LedgerUser grants.
func (e *Etcd) EnableAuth(ctx context.Context, cluster string) (*Auth, error) {
	a := &Auth{User: "root", Password: rand.Text(), endpoints: e.Endpoints, cluster: cluster}
	err := a.as(ctx, "", func(ctx context.Context, client *clientv3.Client) error {
		_, role := client.RoleAdd(ctx, "root")
		_, user := client.UserAdd(ctx, a.User, a.Password)
		_, grant := client.UserGrantRole(ctx, a.User, "root")
		if err := errors.Join(role, user, grant); err != nil {
			return err
		}
		_, err := client.AuthEnable(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("enabling authentication: %w", err)
	}
	return a, nil
}

// LedgerUser makes a user who has the role that `holdfast etcd-role --cluster`
// gives, at the prefix, and nothing else.
func (a *Auth) LedgerUser(ctx context.Context, prefix string) (name, password string, err error) {
	permissions, err := state.ClusterPermissions(prefix, a.cluster)
	if err != nil {
		return "", "", err
	}
	name, password = fmt.Sprintf("holdfast-%d", a.users.Add(1)), rand.Text()
	err = a.as(ctx, a.User, func(ctx context.Context, client *clientv3.Client) error {
		if _, err := client.RoleAdd(ctx, name); err != nil {
			return err
		}
		for _, p := range permissions {
			if _, err := client.RoleGrantPermission(ctx, name, p.Key, p.RangeEnd, access[p.Access]); err != nil {
				return err
			}
		}
		if _, err := client.UserAdd(ctx, name, password); err != nil {
			return err
		}
		_, err := client.UserGrantRole(ctx, name, name)
		return err
	})
	if err != nil {
		return "", "", fmt.Errorf("making the etcd user %s: %w", name, err)
	}
	return name, password, nil
}

var access = map[state.Access]clientv3.PermissionType{
	state.Read:      clientv3.PermissionType(clientv3.PermRead),
	state.Write:     clientv3.PermissionType(clientv3.PermWrite),
	state.ReadWrite: clientv3.PermissionType(clientv3.PermReadWrite),
}

// as makes requests as a user; of an etcd without authentication, as nobody.
func (a *Auth) as(ctx context.Context, user string, act func(context.Context, *clientv3.Client) error) error {
	cfg := clientv3.Config{Endpoints: a.endpoints, DialTimeout: 5 * time.Second, Logger: zap.NewNop()}
	if user != "" {
		cfg.Username, cfg.Password = user, a.Password
	}
	client, err := clientv3.New(cfg)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(ctx, authTimeout)
	defer cancel()
	return act(ctx, client)
}
