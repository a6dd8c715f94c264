package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// One process for several clusters: each has a leader and a reconciler of its
// own, and one that fails stops none of the others.
func TestHub(t *testing.T) {
	w := newWorld(t)
	a := w.cluster("alpha", "a-1", "a-2", "a-3")
	b := w.cluster("beta", "b-1", "b-2", "b-3")
	later := filepath.Join(t.TempDir(), "later") // a kubeconfig that comes when the hub runs
	hub := start(t, nil, "controller", "--endpoints", w.etcd.Endpoint(), "--listen", "127.0.0.1:0",
		"--cluster", "alpha="+a.kubeconfig(), "--cluster", "beta="+b.kubeconfig()+":beta", "--cluster", "gamma="+later,
		"--grace-period", short.String(), "--quarantine", short.String(), "--election-ttl", short.String())
	a.leads(hub)
	b.leads(hub)
	a.attach("vol-a", "a-1")
	b.attach("vol-b", "b-1")

	t.Log("one has no kubeconfig yet: the others work, and /readyz names it")
	eventually(t, "/readyz names gamma", func() error {
		code, body := hub.get("/readyz")
		if code != http.StatusServiceUnavailable || !strings.Contains(body, "gamma") || strings.Contains(body, "alpha") {
			return fmt.Errorf("%d: %s", code, body)
		}
		return nil
	})
	a.deleteNode("a-1")
	eventually(t, "vol-a is removed", func() error { return w.heldBy("vol-a") })
	w.mustBeHeldBy("vol-b", "beta/b-1")

	t.Log("one API server dies: the other cluster goes on, and the dead one keeps what it has")
	a.attach("vol-a2", "a-2")
	a.server.Kill()
	b.deleteNode("b-1")
	eventually(t, "vol-b is removed", func() error { return w.heldBy("vol-b") })
	w.mustBeHeldBy("vol-a2", "alpha/a-2")

	t.Log("the kubeconfig that was missing comes: of one that is served already, and then of one with another identity on record")
	w.does("attach", "vol-g", "g-1", "--cluster", "gamma", "--cluster-uid", "of-another")
	copyFile(t, later, b.kubeconfig())
	hub.says("gamma", "beta", b.uid())
	g := w.cluster("gamma", "g-1")
	copyFile(t, later, g.kubeconfig())
	hub.says("gamma", "of-another", g.uid())
	w.does("clusters", "rebind", "gamma", "--uid", g.uid(), "--reason", "built anew")
	g.leads(hub)
	w.mustBeHeldBy("vol-g", "gamma/g-1")

	t.Log("the API server is back")
	a.server.Launch(t)
	a.server.AwaitReady(t)
	a.deleteNode("a-2")
	eventually(t, "vol-a2 is removed", func() error { return w.heldBy("vol-a2") })
}

func copyFile(t *testing.T, to, from string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
