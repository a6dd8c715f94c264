package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// rights are what the manifests grant to each service account of theirs, and
// what the scenarios' holdfasts have used of it, by the API servers' audit logs.
var rights = struct {
	sync.Mutex
	granted, used map[string]map[string]bool
}{granted: map[string]map[string]bool{}, used: map[string]map[string]bool{}}

// audit takes what a cluster has to say about rights when its test ends.
func (c *cluster) audit() {
	c.t.Helper()
	c.t.Cleanup(func() {
		granted := map[string]map[string]bool{}
		if c.server.Running() { // or else the test has ended it
			var err error
			if granted, err = c.granted(); err != nil {
				c.t.Errorf("the shipped rights: %v", err)
			}
		}
		used, err := c.used()
		if err != nil {
			c.t.Errorf("the audit log: %v", err)
		}
		rights.Lock()
		defer rights.Unlock()
		merge(rights.granted, granted)
		merge(rights.used, used)
	})
}

func merge(into, from map[string]map[string]bool) {
	for user, permissions := range from {
		for p := range permissions {
			note(into, user, p)
		}
	}
}

func note(into map[string]map[string]bool, user, permission string) {
	if into[user] == nil {
		into[user] = map[string]bool{}
	}
	into[user][permission] = true
}

// granted reads from the API server which service accounts of the manifests may do what.
func (c *cluster) granted() (map[string]map[string]bool, error) {
	granted := map[string]map[string]bool{}
	everywhere, err := c.kube.RbacV1().ClusterRoleBindings().List(context.Background(), metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for _, b := range everywhere.Items {
		if accounts := shippedAccounts(b.Subjects); len(accounts) > 0 {
			r, err := c.kube.RbacV1().ClusterRoles().Get(context.Background(), b.RoleRef.Name, getOptions)
			if err != nil {
				return nil, err
			}
			role{"", r.Rules}.grantedTo(granted, accounts)
		}
	}
	inside, err := c.kube.RbacV1().RoleBindings(metav1.NamespaceAll).List(context.Background(), metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for _, b := range inside.Items {
		if accounts := shippedAccounts(b.Subjects); len(accounts) > 0 {
			r, err := c.kube.RbacV1().Roles(b.Namespace).Get(context.Background(), b.RoleRef.Name, getOptions)
			if err != nil {
				return nil, err
			}
			role{b.Namespace, r.Rules}.grantedTo(granted, accounts)
		}
	}
	return granted, nil
}

// shippedAccounts are the users of those that are service accounts of the manifests.
func shippedAccounts(subjects []rbacv1.Subject) []string {
	var users []string
	for _, s := range subjects {
		if s.Kind == rbacv1.ServiceAccountKind && s.Namespace == namespace {
			users = append(users, "system:serviceaccount:"+s.Namespace+":"+s.Name)
		}
	}
	return users
}

func (r role) grantedTo(granted map[string]map[string]bool, users []string) {
	for _, user := range users {
		for _, p := range r.permissions() {
			note(granted, user, p.String())
		}
	}
}

// used reads from the audit log who was let do what.
func (c *cluster) used() (map[string]map[string]bool, error) {
	log, err := os.Open(c.server.AuditLog())
	if err != nil {
		return nil, err
	}
	defer log.Close()
	used := map[string]map[string]bool{}
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct {
			User           struct{ Username string }
			Verb           string
			RequestURI     string
			ObjectRef      *struct{ Resource, APIGroup string }
			ResponseStatus struct{ Code int }
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("%q: %w", lines.Text(), err)
		}
		if e.ResponseStatus.Code == 401 || e.ResponseStatus.Code == 403 {
			continue
		}
		what, _, _ := strings.Cut(e.RequestURI, "?")
		if o := e.ObjectRef; o != nil {
			if what = o.Resource; o.APIGroup != "" {
				what += "." + o.APIGroup
			}
		}
		note(used, e.User.Username, e.Verb+" "+what)
	}
	return used, lines.Err()
}

// neverUsed lists what the manifests grant and nothing asked for. It can only
// be told when all scenarios have run.
func neverUsed() []string {
	for _, f := range []string{"test.run", "test.skip", "test.list"} {
		if value := flag.Lookup(f).Value.String(); value != "" && value != "." {
			return nil
		}
	}
	rights.Lock()
	defer rights.Unlock()
	if len(rights.granted) == 0 {
		return []string{"no rights were seen at all"}
	}
	var never []string
	for user, permissions := range rights.granted {
		for p := range permissions {
			if !rights.used[user][p] {
				never = append(never, user+": "+p)
			}
		}
	}
	slices.Sort(never)
	return never
}
