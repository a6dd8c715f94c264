package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// role is what one of the shipped roles grants: in a namespace, or everywhere.
type role struct {
	namespace string
	rules     []rbacv1.PolicyRule
}

// permission is one verb of one of the shipped rules.
type permission struct {
	verb, resource  string // the resource with its group, or a path
	namespace, name string // where it is granted, and of which object; empty for all
	rule, at        int
}

func (p permission) String() string { return p.verb + " " + p.resource }

// permissions lists what a role grants, a verb at a time.
func (r role) permissions() []permission {
	var all []permission
	for i, rule := range r.rules {
		for at, verb := range rule.Verbs {
			for _, path := range rule.NonResourceURLs {
				all = append(all, permission{verb: verb, resource: path, rule: i, at: at})
			}
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					if group != "" {
						resource += "." + group
					}
					name, _, _ := strings.Cut(strings.Join(rule.ResourceNames, ","), ",")
					all = append(all, permission{verb, resource, r.namespace, name, i, at})
				}
			}
		}
	}
	return all
}

// without is the role that lacks one of its permissions.
func (r role) without(p permission) role {
	rules := slices.Clone(r.rules)
	rule := &rules[p.rule]
	rule.Verbs = slices.Delete(slices.Clone(rule.Verbs), p.at, p.at+1)
	if len(rule.Verbs) == 0 {
		rules = slices.Delete(rules, p.rule, p.rule+1)
	}
	return role{r.namespace, rules}
}

// needed says what becomes of a controller that lacks a permission. One that
// is not here has no place in the shipped role.
var needed = map[string]struct{ works bool }{
	"get nodes": {false}, "list nodes": {false}, "watch nodes": {false},
	"get namespaces": {false}, "get /readyz": {false},
	"get configmaps": {false}, "patch configmaps": {false},
	// Without these Events are not sent, or land elsewhere.
	"list persistentvolumes": {true}, "watch persistentvolumes": {true},
	"create events.events.k8s.io": {true}, "patch events.events.k8s.io": {true},
}

// The service account lacks one of its permissions, each in turn.
func TestPermissions_EachIsMissed(t *testing.T) {
	w := newWorld(t)
	c := w.cluster("east", "node-1", "node-2", "node-3", "node-4")
	c.claimed("vol-1", "csi.example.com", "data")
	// Clusters that are locked down have not got these, which let everybody ask /readyz.
	for _, name := range []string{"system:public-info-viewer", "system:discovery"} {
		if err := c.kube.RbacV1().ClusterRoleBindings().Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	seen := 0
	for _, shipped := range c.roles() {
		for _, p := range shipped.permissions() {
			seen++
			t.Run(strings.ReplaceAll(p.String(), "/", "_"), func(t *testing.T) {
				want, known := needed[p.String()]
				if !known {
					t.Fatalf("nobody says what needs %s", p)
				}
				c := c.in(t)
				c.grant(shipped.without(p))
				defer c.grant(shipped)
				c.mayNot(p)
				if want.works {
					c.worksWithout(p)
				} else {
					c.saysItLacks(p)
				}
			})
		}
	}
	if seen < len(needed) {
		t.Errorf("the roles grant %d permissions; expected %d", seen, len(needed))
	}
}

// roles are those of the controller's service account.
func (c *cluster) roles() []role {
	c.t.Helper()
	everywhere, err := c.kube.RbacV1().ClusterRoles().Get(c.t.Context(), clusterRole, getOptions)
	if err != nil {
		c.t.Fatal(err)
	}
	inside, err := c.kube.RbacV1().Roles(namespace).Get(c.t.Context(), clusterRole, getOptions)
	if err != nil {
		c.t.Fatal(err)
	}
	return []role{{"", everywhere.Rules}, {namespace, inside.Rules}}
}

// grant puts a role's rules in place.
func (c *cluster) grant(r role) {
	c.t.Helper()
	var err error
	meta := metav1.ObjectMeta{Name: clusterRole, Namespace: r.namespace}
	if r.namespace == "" {
		_, err = c.kube.RbacV1().ClusterRoles().Update(context.Background(), &rbacv1.ClusterRole{ObjectMeta: meta, Rules: r.rules}, metav1.UpdateOptions{})
	} else {
		_, err = c.kube.RbacV1().Roles(r.namespace).Update(context.Background(), &rbacv1.Role{ObjectMeta: meta, Rules: r.rules}, metav1.UpdateOptions{})
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// mayNot waits until the API server refuses the service account.
func (c *cluster) mayNot(p permission) {
	c.t.Helper()
	spec := authorizationv1.SubjectAccessReviewSpec{User: "system:serviceaccount:" + namespace + ":" + serviceAccount, Groups: []string{"system:serviceaccounts", "system:authenticated"}}
	if strings.HasPrefix(p.resource, "/") {
		spec.NonResourceAttributes = &authorizationv1.NonResourceAttributes{Path: p.resource, Verb: p.verb}
	} else {
		resource, group, _ := strings.Cut(p.resource, ".")
		spec.ResourceAttributes = &authorizationv1.ResourceAttributes{Verb: p.verb, Group: group, Resource: resource, Namespace: p.namespace, Name: p.name}
	}
	eventually(c.t, "the API server refuses to "+p.String(), func() error {
		review, err := c.kube.AuthorizationV1().SubjectAccessReviews().Create(context.Background(),
			&authorizationv1.SubjectAccessReview{Spec: spec}, metav1.CreateOptions{})
		if err == nil && review.Status.Allowed {
			err = errors.New("it is allowed: " + review.Status.Reason)
		}
		return err
	})
}

// saysItLacks: the controller runs, is not ready, and says why, in its log too
// and not again and again.
func (c *cluster) saysItLacks(p permission) {
	c.t.Helper()
	controller := c.start()
	resource, _, _ := strings.Cut(strings.TrimPrefix(p.resource, "/"), ".")
	says := func(text string) bool {
		return strings.Contains(text, "forbidden") && strings.Contains(text, p.verb) && strings.Contains(text, resource)
	}
	eventually(c.t, "/readyz says what is missing", func() error {
		code, body := controller.get("/readyz")
		if code != http.StatusServiceUnavailable || !says(body) {
			return fmt.Errorf("%d: %s", code, body)
		}
		return nil
	})
	throughout(c.t, 3*time.Second, "without "+p.String(), func() error {
		if !controller.alive() {
			return errors.New("the controller has ended")
		}
		// A moment between two tries may have another word for it.
		return nil
	})
	if code, body := controller.get("/readyz"); code == http.StatusOK {
		c.t.Errorf("it has come to be ready: %s", body)
	}
	lines := 0
	for line := range strings.Lines(controller.logged()) {
		if says(line) {
			lines++
		}
	}
	if lines == 0 || lines > 10 {
		c.t.Errorf("%d lines of the log say what is missing; expected a few:\n%s", lines, controller.logged())
	}
}

// worksWithout: orphans are removed all the same, and what is missing is said once.
func (c *cluster) worksWithout(p permission) {
	c.t.Helper()
	controller := c.controller()
	c.leads(controller)
	for range 3 { // the second time the Event is there, and only counted
		c.attach("vol-1", "node-1")
		c.deleteNode("node-1")
		eventually(c.t, "vol-1 is removed", func() error { return c.heldBy("vol-1") })
		c.addNode("node-1")
	}
	eventually(c.t, "the log says what is missing", func() error {
		if controller.count("forbidden") == 0 {
			return errors.New("it does not")
		}
		return nil
	})
	resource, _, _ := strings.Cut(p.resource, ".")
	if n := controller.count("forbidden", resource); n != 1 {
		c.t.Errorf("%d lines of the log say that %s is forbidden; expected one:\n%s", n, p, controller.logged())
	}
	if err := controller.ready(); err != nil {
		c.t.Error(err)
	}
}
