package watch

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
)

// each runs a test against an API server that streams lists and one that does not.
func each(t *testing.T, test func(t *testing.T, streams bool)) {
	t.Run("streamed list", func(t *testing.T) { test(t, true) })
	t.Run("plain list", func(t *testing.T) { test(t, false) })
}

func outOfService(effect corev1.TaintEffect) corev1.Taint {
	return corev1.Taint{Key: corev1.TaintNodeOutOfService, Effect: effect}
}

func TestKubernetes_ListsAndWatches(t *testing.T) {
	each(t, func(t *testing.T, streams bool) {
		api := newAPIServer(t, streams, "a", "b")
		api.put("b", outOfService(corev1.TaintEffectNoSchedule))
		var rev revisions
		sink := runSource(t, api.source(t), rev.next)
		sink.untilNodes(t, "a b")
		sink.read(func() {
			a, b := Node{Name: "a", UID: "uid-a", Ready: true}, Node{Name: "b", UID: "uid-b", Ready: true, OutOfService: true}
			if sink.nodes["a"] != a || sink.nodes["b"] != b || sink.since != rev.n.Load() || sink.lists != 1 {
				t.Errorf("%v since %d in %d lists; want %v, %v since %d in 1", sink.nodes, sink.since, sink.lists, a, b, rev.n.Load())
			}
		})
		if streamed := api.lists - api.plain; streams != (streamed == 1) {
			t.Errorf("%d of %d lists were streamed", streamed, api.lists)
		}
		api.put("c")
		sink.untilNodes(t, "a b c")
		api.drop("a")
		sink.untilNodes(t, "b c")
		api.put("b")
		sink.until(t, "b is in service again", func() bool { return !sink.nodes["b"].OutOfService })
		api.put("b", outOfService(corev1.TaintEffectNoExecute))
		sink.until(t, "b is out of service", func() bool { return sink.nodes["b"].OutOfService })
	})
}

func TestKubernetes_BookmarksAreSignsOfLife(t *testing.T) {
	each(t, func(t *testing.T, streams bool) {
		api := newAPIServer(t, streams, "a")
		var rev revisions
		sink := runSource(t, api.source(t), rev.next)
		sink.untilNodes(t, "a")
		for range 3 {
			before := 0
			sink.read(func() { before = sink.heard })
			api.bookmark()
			sink.until(t, "the bookmark is heard", func() bool { return sink.heard > before })
		}
	})
}

// A watch that ends is taken up where it was: nothing was missed, and so the
// view is as continuous as before.
func TestKubernetes_WatchAgainContinues(t *testing.T) {
	each(t, func(t *testing.T, streams bool) {
		api := newAPIServer(t, streams, "a")
		var rev revisions
		sink := runSource(t, api.source(t), rev.next)
		sink.untilNodes(t, "a")
		since := rev.n.Load()
		api.bookmark() // a watch that brought nothing and ends at once is begun with a list
		api.disconnect()
		api.put("b")
		sink.untilNodes(t, "a b")
		sink.read(func() {
			if sink.lists != 1 || sink.since != since {
				t.Errorf("%d lists, continuous since %d; want 1, %d", sink.lists, sink.since, since)
			}
		})
	})
}

// A version that is compacted away: listed again, and continuous only from there.
func TestKubernetes_RelistBeginsAnew(t *testing.T) {
	each(t, func(t *testing.T, streams bool) {
		api := newAPIServer(t, streams, "a", "b")
		var rev revisions
		sink := runSource(t, api.source(t), rev.next)
		sink.untilNodes(t, "a b")
		since := rev.n.Load()

		api.failing("watch=", http.StatusInternalServerError) // while it is away
		api.disconnect()
		sink.untilError(t, "watching Nodes", "as ordered")
		api.drop("b")
		api.put("c")
		api.change(func() { api.expired = api.version; api.history = nil })
		api.healthy()
		sink.untilNodes(t, "a c")
		sink.read(func() {
			if sink.since <= since || sink.since > rev.n.Load() {
				t.Errorf("continuous since %d, want a revision after %d", sink.since, since)
			}
		})
	})
}

func TestKubernetes_ErrorsAreReported(t *testing.T) {
	each(t, func(t *testing.T, streams bool) {
		api := newAPIServer(t, streams, "a")
		api.failing("/api/v1/nodes", http.StatusForbidden)
		var rev revisions
		sink := runSource(t, api.source(t), rev.next)
		sink.untilError(t, "listing Nodes")
		api.healthy()
		sink.untilNodes(t, "a")
	})
}

func TestKubernetes_WithoutARevisionThereIsNoList(t *testing.T) {
	each(t, func(t *testing.T, streams bool) {
		api := newAPIServer(t, streams, "a")
		var rev revisions
		rev.fail.Store(true)
		sink := runSource(t, api.source(t), rev.next)
		sink.untilError(t, errNoRevision.Error())
		sink.read(func() {
			if sink.lists > 0 {
				t.Errorf("%d lists, and nothing to count their continuity from", sink.lists)
			}
		})
		rev.fail.Store(false)
		sink.untilNodes(t, "a")
	})
}

// The revision comes after the list: a node that comes and goes between the two
// would be in neither the list nor the watch that goes on from it, if the list
// were the later one.
func TestKubernetes_RevisionComesAfterTheList(t *testing.T) {
	each(t, func(t *testing.T, streams bool) {
		api := newAPIServer(t, streams, "a", "b")
		rev := revisions{hook: func() { api.drop("b") }}
		sink := runSource(t, api.source(t), rev.next)
		sink.until(t, "there is a list", func() bool { return sink.lists > 0 })
		sink.untilNodes(t, "a")
		sink.read(func() {
			if !sink.had("b") {
				t.Error("the list was read after its revision")
			}
		})
	})
}

// A watch that hangs brings nothing, not even an error. It is begun again.
func TestKubernetes_HungWatchIsBegunAgain(t *testing.T) {
	each(t, func(t *testing.T, streams bool) {
		api := newAPIServer(t, streams, "a")
		k := api.source(t)
		k.hung = 20 * time.Millisecond
		var rev revisions
		api.change(func() { api.silent = true })
		sink := runSource(t, k, rev.next)
		sink.untilNodes(t, "a")
		_, before := api.counts()
		api.put("b")
		sink.until(t, "it is watched again", func() bool {
			_, watches := api.counts()
			return watches > before+1
		})
		api.change(func() { api.silent = false })
		sink.untilNodes(t, "a b")
	})
}

// An API server that refuses connections must not make a stop wait.
func TestKubernetes_StopsPromptlyWhenRefused(t *testing.T) {
	api := newAPIServer(t, true)
	k := api.source(t)
	api.Close()
	k.again = &wait.Backoff{Duration: time.Hour}
	sink := newRecorder()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	var rev revisions
	go func() { done <- k.Run(ctx, rev.next, sink) }()
	sink.untilError(t, "listing Nodes", "connection refused")
	cancel()
	select {
	case <-done:
	case <-time.After(patience):
		t.Errorf("it sits its wait out, %v after its context ended", patience)
	}
}

func TestKubernetes_Live(t *testing.T) {
	ctx := context.Background()
	api := newAPIServer(t, true, "a")
	k := api.source(t)
	if n, err := k.Live(ctx, "a"); err != nil || n != (Node{Name: "a", UID: "uid-a", Ready: true}) {
		t.Errorf("a: %v, %v", n, err)
	}
	if _, err := k.Live(ctx, "b"); !errors.Is(err, ErrNodeNotFound) {
		t.Errorf("b is not there: %v, want ErrNodeNotFound", err)
	}
	for name, c := range map[string]struct {
		path   string
		status int
		want   string
	}{
		// The node is not there, but who says so cannot be relied on.
		"not ready":         {"/readyz", http.StatusInternalServerError, "not ready"},
		"no readyz":         {"/readyz", http.StatusNotFound, "not ready"},
		"a proxy's 404":     {"/api/v1/nodes/", http.StatusNotFound, "could not find"},
		"an error":          {"/api/v1/nodes/", http.StatusInternalServerError, "as ordered"},
		"no more requests":  {"/api/v1/nodes/", http.StatusTooManyRequests, "too many"},
		"not allowed":       {"/api/v1/nodes/", http.StatusForbidden, "as ordered"},
		"gone":              {"/api/v1/nodes/", http.StatusGone, "410"},
		"no authentication": {"/api/v1/nodes/", http.StatusUnauthorized, "credentials"},
	} {
		t.Run(name, func(t *testing.T) {
			api.failing(c.path, c.status)
			defer api.healthy()
			_, err := k.Live(ctx, "b")
			if err == nil || errors.Is(err, ErrNodeNotFound) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), `"b"`) {
				t.Errorf("%v; want one that names b and says %q, and is no ErrNodeNotFound", err, c.want)
			}
		})
	}
}

// A 404 in the form of the API server's own, but about something else.
func TestKubernetes_Live_NotFoundOfAnotherKind(t *testing.T) {
	for name, body := range map[string]string{
		"another kind":  `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404,"details":{"name":"b","kind":"namespaces"}}`,
		"another group": `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404,"details":{"name":"b","kind":"nodes","group":"metrics.k8s.io"}}`,
		"another name":  `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404,"details":{"name":"c","kind":"nodes"}}`,
		"no details":    `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`,
		"another node":  `{"kind":"Node","apiVersion":"v1","metadata":{"name":"c"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			api := newAPIServer(t, true)
			api.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				if strings.Contains(r.URL.Path, "nodes") && !strings.Contains(body, `"Node"`) {
					w.WriteHeader(http.StatusNotFound)
				}
				_, _ = w.Write([]byte(body))
			})
			if _, err := api.source(t).Live(context.Background(), "b"); err == nil || errors.Is(err, ErrNodeNotFound) {
				t.Errorf("%v; want an error that is no ErrNodeNotFound", err)
			}
		})
	}
}

func TestKubernetes_Live_KeepsToItsContext(t *testing.T) {
	hang := make(chan struct{})
	k := newAPIServer(t, true).source(t)
	k.readyz = func(ctx context.Context) error {
		close(hang)
		<-ctx.Done()
		return ctx.Err()
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() { <-hang; cancel() }()
	if _, err := k.Live(ctx, "b"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want the context's error", err)
	}
}

// Another cluster that answers at the same address has none of the nodes, which
// says nothing about them.
func TestKubernetes_LiveOfAnotherCluster(t *testing.T) {
	ctx := context.Background()
	api := newAPIServer(t, true, "a")
	k := api.source(t)
	if _, err := k.ClusterUID(ctx); err != nil {
		t.Fatal(err)
	}
	refuses := func(node string, want ...string) {
		t.Helper()
		_, live := k.Live(ctx, node)
		for what, err := range map[string]error{"Live": live, "CheckPermissions": k.CheckPermissions(ctx)} {
			if err == nil || errors.Is(err, ErrNodeNotFound) {
				t.Fatalf("%s: %v, want an error that is no ErrNodeNotFound", what, err)
			}
			for _, text := range want {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("%s: %v, want %s in it", what, err, text)
				}
			}
		}
	}
	api.change(func() { api.uid = "another" })
	refuses("a", `"another"`, `"ks-uid"`)
	refuses("b", `"another"`, `"ks-uid"`)
	api.change(func() { api.uid = "ks-uid" })
	if _, err := k.Live(ctx, "b"); !errors.Is(err, ErrNodeNotFound) {
		t.Errorf("it is the same again, and b is not there: %v, want ErrNodeNotFound", err)
	}
	api.failing("kube-system", http.StatusForbidden)
	refuses("b", "namespace kube-system")
	if err := k.CheckPermissions(ctx); !IsForbidden(err) {
		t.Errorf("%v, want a refusal", err)
	}
}

func TestKubernetes_ClusterUID(t *testing.T) {
	ctx := context.Background()
	api := newAPIServer(t, true)
	k := api.source(t)
	if uid, err := k.ClusterUID(ctx); uid != "ks-uid" || err != nil {
		t.Errorf("%q, %v", uid, err)
	}
	api.failing("kube-system", http.StatusForbidden)
	if uid, err := k.ClusterUID(ctx); err == nil || !strings.Contains(err.Error(), "kube-system") {
		t.Errorf("%q, %v; want an error that names the namespace", uid, err)
	}
}

func TestNewKubernetes(t *testing.T) {
	cfg := &rest.Config{Host: "http://127.0.0.1:1", Timeout: time.Minute}
	if _, err := NewKubernetes(cfg); err != nil {
		t.Fatal(err)
	}
	if cfg.QPS != 0 || cfg.Timeout != time.Minute || cfg.ContentType != "" {
		t.Errorf("the caller's configuration was changed: %+v", cfg)
	}
	if _, err := NewKubernetes(&rest.Config{Host: "://"}); err == nil {
		t.Error("no error for a host that is none")
	}
}
