package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/watch"
)

// guardedNodes are nodes of an API server that answers as a test tells it to.
type guardedNodes struct {
	watch.NodeSource
	mu     sync.Mutex
	answer error
	watch  error
	count  int
}

func (g *guardedNodes) CheckPermissions(context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.count++
	return g.answer
}

func (g *guardedNodes) sources() watch.Sources {
	g.mu.Lock()
	defer g.mu.Unlock()
	return watch.Sources{Nodes: watch.Source{Loaded: true, Err: g.watch}}
}

func (g *guardedNodes) answers(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.answer = err
}

func (g *guardedNodes) asked() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.count
}

// lockedLog can be read while it is written.
type lockedLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

// take is what was written since it was called last.
func (l *lockedLog) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()
	return l.text.String()
}

func TestPermissions(t *testing.T) {
	t.Parallel()
	forbidden := func(verb string) error {
		return fmt.Errorf("%s nodes: %w", verb, apierrors.NewForbidden(schema.GroupResource{Resource: "nodes"}, "", errors.New("not you")))
	}
	away := errors.New("connection refused")
	synctest.Test(t, func(t *testing.T) {
		var logged lockedLog
		nodes := &guardedNodes{answer: away}
		p := &permissions{nodes: nodes, sources: nodes.sources, log: slog.New(slog.NewTextHandler(&logged, nil))}
		lacks := func(when, want string) {
			t.Helper()
			synctest.Wait()
			got := strings.Join(p.missing(), "\n")
			if (want == "") != (got == "") || !strings.Contains(got, want) {
				t.Errorf("%s: missing %q, want %q", when, got, want)
			}
		}
		says := func(when string, want int, text string) {
			t.Helper()
			synctest.Wait()
			if got := logged.take(); strings.Count(got, "\n") != want || want > 0 && strings.Count(got, text) != want {
				t.Errorf("%s: want %d lines, all with %q:\n%s", when, want, text, got)
			}
		}
		lacks("before the first try", "the permissions of live checks")
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- p.run(ctx) }()
		lacks("away", "connection refused")
		says("away", 1, "cannot be asked")

		nodes.answers(forbidden("get"))
		time.Sleep(lastRetryPause)
		lacks("no get", "get nodes: nodes is forbidden: not you; apply the ClusterRole holdfast-controller")
		says("no get", 1, "get nodes: nodes is forbidden: not you; apply the ClusterRole")
		time.Sleep(permissionsAgain - lastRetryPause)
		says("a while", 0, "")
		time.Sleep(2 * lastRetryPause)
		says("longer", 1, "get nodes: nodes is forbidden")
		nodes.answers(forbidden("list"))
		time.Sleep(lastRetryPause)
		says("a change", 1, "list nodes: nodes is forbidden")

		nodes.answers(nil)
		time.Sleep(lastRetryPause)
		lacks("all is allowed", "")
		says("all is allowed", 1, "allows all")
		before := nodes.asked()
		time.Sleep(permissionsAgain - lastRetryPause)
		if nodes.asked() != before {
			t.Errorf("asked %d times more when all is allowed", nodes.asked()-before)
		}
		nodes.answers(away)
		time.Sleep(2 * permissionsAgain)
		lacks("away again", "")
		says("away again", 0, "")
		nodes.answers(forbidden("get"))
		time.Sleep(permissionsAgain)
		lacks("taken away", "get nodes")
		says("taken away", 1, "get nodes")

		nodes.answers(nil)
		time.Sleep(lastRetryPause)
		says("given again", 1, "allows all")
		nodes.mu.Lock()
		nodes.watch = forbidden("watching")
		nodes.mu.Unlock()
		before = nodes.asked()
		time.Sleep(lastRetryPause)
		says("the watch", 1, "watching nodes: nodes is forbidden")
		if nodes.asked() == before {
			t.Error("not asked again when the watch is refused")
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("run: %v, want its context's end", err)
		}
	})
}

// A file of nodes needs nobody's permission.
func TestPermissions_File(t *testing.T) {
	p := &permissions{nodes: watch.NewFile("nodes.json", "", slog.New(slog.DiscardHandler))}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.run(ctx); !errors.Is(err, context.Canceled) || p.missing() != nil {
		t.Errorf("run: %v, missing %q; want its context's end, and nothing", err, p.missing())
	}
}

func TestUnreadable(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "nodes"}, "", errors.New("not you"))
	now := time.Now()
	loaded := watch.Source{Loaded: true, LastContact: now}
	for name, c := range map[string]struct {
		nodes, etcd watch.Source
		want        []string
	}{
		"nothing yet":        {watch.Source{}, watch.Source{}, []string{"the Node list", "the records in etcd"}},
		"all":                {loaded, loaded, nil},
		"away before":        {watch.Source{Err: errors.New("away")}, loaded, []string{"the Node list: away"}},
		"away after":         {watch.Source{Loaded: true, LastContact: now, Err: errors.New("away")}, loaded, nil},
		"away for long":      {watch.Source{Loaded: true, LastContact: now.Add(-time.Hour), Err: errors.New("away")}, loaded, []string{"the Node list: away"}},
		"silent for long":    {loaded, watch.Source{Loaded: true, LastContact: now.Add(-5 * time.Minute)}, []string{"the records in etcd, last heard of 5m ago"}},
		"forbidden after":    {watch.Source{Loaded: true, LastContact: now, Err: fmt.Errorf("watching: %w", forbidden)}, loaded, []string{"the Node list: watching: nodes is forbidden: not you; apply"}},
		"unauthorized after": {watch.Source{Loaded: true, LastContact: now, Err: apierrors.NewUnauthorized("who?")}, loaded, []string{"the Node list: who?; its API server does not accept"}},
	} {
		got := unreadable(watch.Sources{Nodes: c.nodes, Etcd: c.etcd}, time.Minute)
		if !slices.EqualFunc(got, c.want, func(g, w string) bool { return g == w || strings.Contains(w, ": ") && strings.HasPrefix(g, w) }) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// Each permission that is lacking is named, with whom it is refused to and what
// to apply, and given later it is enough. Nobody is restarted.
func TestProcess_Permissions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, state.Config{})
	k := newKube(t, "uid-of-east", "node-1")
	path := k.kubeconfigIn(t, "east")
	for _, lacking := range []string{"get namespaces", "get /readyz", "get nodes", "list nodes", "watch nodes"} {
		k.refuse(http.StatusForbidden, lacking)
		c := w.kubernetes(path)
		verb, resource, _ := strings.Cut(lacking, " ")
		w.saysNotReady(c, fmt.Sprintf("User %q cannot %s resource %q", theAccount, verb, resource), "apply the ClusterRole holdfast-controller of deploy/")
		w.eventually("log says so", func(context.Context) (bool, error) {
			return strings.Contains(c.tail(), fmt.Sprintf("cannot %s resource", verb)) && strings.Contains(c.tail(), "apply the ClusterRole"), nil
		})
		k.refuse(0, lacking)
		if err := c.ready(t.Context(), patience); err != nil {
			t.Fatalf("without %s, and then with it: %v", lacking, err)
		}
		endsWell(t, c)
	}
}

// kubernetes starts a controller of east with a kubeconfig, and waits for nothing.
func (w *world) kubernetes(kubeconfig string, args ...string) *child {
	w.t.Helper()
	return w.hub([]string{"east"}, append([]string{"--kubeconfig", kubeconfig}, args...)...)
}

// goesOn waits until a metric has changed.
func (w *world) goesOn(c *child, metric string) {
	w.t.Helper()
	before, _, err := c.metric(w.t.Context(), metric)
	if err != nil {
		w.t.Fatal(err)
	}
	w.eventually(metric+" goes on from "+before, func(ctx context.Context) (bool, error) {
		value, _, err := c.metric(ctx, metric)
		return value != before, err
	})
}

// saysNotReady waits until /readyz says no, with all these texts in one line.
func (w *world) saysNotReady(c *child, texts ...string) {
	w.t.Helper()
	last := ""
	err := until(w.t.Context(), patience, "/readyz says why not", func(ctx context.Context) (bool, error) {
		code, body, err := c.get(ctx, "/readyz")
		last = body
		for line := range strings.Lines(body) {
			if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) }) {
				return err == nil && code == http.StatusServiceUnavailable, nil
			}
		}
		return false, nil
	})
	if err != nil {
		w.t.Fatalf("%v: want %q, got\n%s", err, texts, last)
	}
}

// What is taken away later: nothing is removed on what cannot be seen, and
// /readyz says so; attachments are kept alive meanwhile.
func TestProcess_PermissionsTakenAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, state.Config{})
	k := newKube(t, "uid-of-east", "node-1", "node-2", "node-3")
	c := w.kubernetes(k.kubeconfigIn(t, "east"))
	if err := c.ready(t.Context(), patience); err != nil {
		t.Fatal(err)
	}
	w.leads(c)
	w.does("attach", "vol-1", "node-1", "--cluster", "east", "--attachment-ttl", "3s")
	w.does("attach", "vol-2", "node-2", "--cluster", "east", "--attachment-ttl", "3s")

	t.Log("the live check")
	k.refuse(http.StatusForbidden, "get nodes")
	k.drop("node-2")
	refusedChecks := `holdfast_live_checks_total{cluster="east",result="error"}`
	w.eventually("live check is refused", func(ctx context.Context) (bool, error) {
		value, _, err := c.metric(ctx, refusedChecks)
		return value != "" && value != "0", err
	})
	w.heldBy("vol-2", "node-2")
	k.refuse(0, "get nodes")
	w.eventually("orphan is removed", func(context.Context) (bool, error) { return len(w.volume("vol-2").Holds) == 0, nil })

	for _, status := range []int{http.StatusForbidden, http.StatusUnauthorized} {
		t.Logf("the watch: %d", status)
		k.refuse(status, "list nodes", "watch nodes")
		k.disconnect()
		w.saysNotReady(c, "the Node list: ", map[int]string{
			http.StatusForbidden: "apply the ClusterRole holdfast-controller", http.StatusUnauthorized: "does not accept the credentials",
		}[status])
		w.goesOn(c, `holdfast_keepalive_rounds_total{cluster="east",result="ok"}`)
		k.refuse(0, "list nodes", "watch nodes")
		if err := c.ready(t.Context(), patience); err != nil {
			t.Fatal(err)
		}
	}
	w.heldBy("vol-1", "node-1")
	endsWell(t, c)
}
