package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// User is somebody whom etcd lets in while authentication is on.
type User struct {
	Name, Password string
	// Grants are what the user may do. None: read and write every key.
	Grants []Grant
}

// Grant allows a user a range of keys: Key alone where End is empty.
type Grant struct {
	Key, End string
	Type     clientv3.PermissionType
}

// Root is the superuser whom the cluster itself goes by.
var Root = User{Name: "root", Password: "root-password"}

// Auth switches etcd's authentication on. Clients that name a user from the
// start, as Options.Users allows, are let in without a login before that, and
// have to log in from then on; their first request afterwards is refused with
// "user name is empty". Others are shut out until Heal.
type Auth struct{}

func (Auth) String() string { return "authentication switched on" }

// Apply switches authentication on.
func (Auth) Apply(ctx context.Context, c *Cluster) error {
	return c.do(ctx, "switch authentication on", func(ctx context.Context, client *clientv3.Client) error {
		_, err := client.AuthEnable(ctx)
		return err
	})
}

// Heal switches it off.
func (Auth) Heal(ctx context.Context, c *Cluster) error {
	return c.do(ctx, "switch authentication off", func(ctx context.Context, client *clientv3.Client) error {
		_, err := client.AuthDisable(ctx)
		return err
	})
}

// addUsers makes root and the users; a part that stands already is no error.
func (c *Cluster) addUsers(ctx context.Context) error {
	return c.do(ctx, "add users", func(ctx context.Context, client *clientv3.Client) error {
		if err := addUser(ctx, client, Root, "root"); err != nil {
			return err
		}
		for _, user := range c.opts.Users {
			if err := addUser(ctx, client, user, "role-of-"+user.Name); err != nil {
				return err
			}
		}
		return nil
	})
}

func addUser(ctx context.Context, client *clientv3.Client, user User, role string) error {
	if _, err := client.RoleAdd(ctx, role); err != nil && !errors.Is(err, rpctypes.ErrRoleAlreadyExist) {
		return err
	}
	grants := user.Grants
	if len(grants) == 0 {
		grants = []Grant{{Key: "\x00", End: "\x00", Type: clientv3.PermissionType(clientv3.PermReadWrite)}}
	}
	for _, g := range grants {
		if role == "root" {
			break // may do everything as it is
		}
		if _, err := client.RoleGrantPermission(ctx, role, g.Key, g.End, g.Type); err != nil {
			return err
		}
	}
	if _, err := client.UserAdd(ctx, user.Name, user.Password); err != nil && !errors.Is(err, rpctypes.ErrUserAlreadyExist) {
		return err
	}
	_, err := client.UserGrantRole(ctx, user.Name, role)
	return err
}

// tokens is the value of etcd's --auth-token.
func (c *Cluster) tokens() string {
	if c.opts.TokenTTL == 0 {
		return "simple"
	}
	return fmt.Sprintf("jwt,sign-method=HS256,priv-key=%s,ttl=%v", c.path("jwt.key"), c.opts.TokenTTL.Round(time.Millisecond))
}

func (c *Cluster) writeKey() error {
	var key [32]byte
	rand.Read(key[:])
	return os.WriteFile(c.path("jwt.key"), key[:], 0o600)
}

func (c *Cluster) currentToken() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.token
}
