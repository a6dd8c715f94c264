package watch

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestKubernetes_CheckPermissions(t *testing.T) {
	api := newAPIServer(t, true, "a")
	k := api.source(t)
	if err := k.CheckPermissions(t.Context()); err != nil {
		t.Errorf("all is allowed: %v", err)
	}
	every := []string{"get /readyz", "get nodes", "list nodes", "watch nodes"}
	for name, c := range map[string]struct {
		path                    string // of what fails
		status                  int
		forbidden, unauthorized bool
		names                   []string
	}{
		"no readyz":          {"/readyz", http.StatusForbidden, true, false, every[:1]},
		"no get":             {"/api/v1/nodes/", http.StatusForbidden, true, false, every[1:2]},
		"no list":            {"limit=1", http.StatusForbidden, true, false, every[2:3]},
		"no watch":           {"watch=true", http.StatusForbidden, true, false, every[3:]},
		"no list, no watch":  {"/api/v1/nodes?", http.StatusForbidden, true, false, every[2:]},
		"nothing":            {"/", http.StatusForbidden, true, false, every},
		"no credentials":     {"/", http.StatusUnauthorized, false, true, every[:1]},
		"it starts":          {"/readyz", http.StatusInternalServerError, false, false, every[:1]},
		"a proxy's 404":      {"/api/v1/nodes/", http.StatusNotFound, false, false, every[1:2]},
		"a proxy's no":       {"/readyz", http.StatusNotFound, false, false, every[:1]},
		"too many, for some": {"limit=1", http.StatusTooManyRequests, false, false, every[2:3]},
	} {
		t.Run(name, func(t *testing.T) {
			api.failing(c.path, c.status)
			defer api.healthy()
			err := k.CheckPermissions(t.Context())
			if err == nil {
				t.Fatal("no error")
			}
			if IsForbidden(err) != c.forbidden || IsUnauthorized(err) != c.unauthorized {
				t.Errorf("%v: forbidden %v, unauthorized %v; want %v, %v", err, IsForbidden(err), IsUnauthorized(err), c.forbidden, c.unauthorized)
			}
			for _, what := range every {
				want := false
				for _, named := range c.names {
					want = want || named == what
				}
				if strings.Contains(err.Error(), what+": ") != want {
					t.Errorf("%v: names %q: %v, want %v", err, what, !want, want)
				}
			}
		})
	}
	api.change(func() {
		api.fail = func(r *http.Request) int {
			return map[string]int{"/readyz": http.StatusForbidden, "/api/v1/nodes": http.StatusInternalServerError}[r.URL.Path]
		}
	})
	if err := k.CheckPermissions(t.Context()); !IsForbidden(err) || !strings.Contains(err.Error(), "get /readyz: ") {
		t.Errorf("it refuses one and fails at another: %v, want the refusal too", err)
	}
	api.Close()
	if err := k.CheckPermissions(t.Context()); err == nil || IsForbidden(err) || IsUnauthorized(err) {
		t.Errorf("it is away: %v, want an error that is no refusal", err)
	}
}

func TestIsForbidden(t *testing.T) {
	nodes := schema.GroupResource{Resource: "nodes"}
	forbidden, away := apierrors.NewForbidden(nodes, "", errors.New("no")), apierrors.NewServiceUnavailable("away")
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"none":            {nil, false},
		"itself":          {forbidden, true},
		"another":         {away, false},
		"not Kubernetes'": {errors.New("no"), false},
		"wrapped":         {fmt.Errorf("listing: %w", forbidden), true},
		"the second":      {errors.Join(away, forbidden), true},
		"deep below":      {fmt.Errorf("both: %w", errors.Join(away, fmt.Errorf("and: %w, %w", away, forbidden))), true},
		"neither":         {fmt.Errorf("both: %w", errors.Join(away, errors.New("no"))), false},
	} {
		if got := IsForbidden(c.err); got != c.want {
			t.Errorf("%s: IsForbidden(%v) = %v, want %v", name, c.err, got, c.want)
		}
	}
	if err := apierrors.NewUnauthorized("who?"); IsForbidden(err) || !IsUnauthorized(errors.Join(away, err)) {
		t.Errorf("%v: forbidden %v, unauthorized %v beside another", err, IsForbidden(err), IsUnauthorized(err))
	}
}

// What cannot be read any more stays known as that: a list that is tried again
// and again is no news.
func TestKubernetes_RefusalStandsWhileItTriesAgain(t *testing.T) {
	each(t, func(t *testing.T, streams bool) {
		api := newAPIServer(t, streams, "a")
		var rev revisions
		sink := runSource(t, api.source(t), rev.next)
		sink.untilNodes(t, "a")
		api.failing("/api/v1/nodes", http.StatusForbidden)
		api.disconnect()
		sink.untilError(t, "Nodes: as ordered")
		before := 0
		sink.read(func() { before = len(sink.errs) })
		sink.until(t, "it was tried again", func() bool { return len(sink.errs) > before+4 })
		sink.read(func() {
			for _, e := range sink.errs[before:] {
				if e == errRelisting.Error() {
					t.Errorf("heard %q while it is refused", e)
				}
			}
		})
		api.healthy()
		sink.untilNodes(t, "a")
	})
}
