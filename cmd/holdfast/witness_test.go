package main

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"github.com/holdfast-storage/holdfast/reconcile"
	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/state/statetest"
)

// bumped is a restore as docs/backup.md has it, of which no header tells.
var bumped = []string{"--bump-revision=1000000000", "--mark-compacted"}

// A controller whose etcd is restored while it is down knows of it from the file
// beside its nodes, freezes the ledger, says so wherever one looks, and goes on
// once an operator has accepted it.
func TestProcess_Restored(t *testing.T) {
	t.Parallel()
	util := statetest.Binary(t, "etcdutl")
	w := newWorld(t, state.Config{Quarantine: state.NoQuarantine}, "node-1", "node-2", "node-3")
	attach := func(volume, node string) { w.does("attach", volume, node, "--cluster", "east") }
	c := w.controller()
	attach("vol-1", "node-1")
	w.eventually("there is a witness", func(context.Context) (bool, error) { return w.witness() != "", nil })
	first, snapshot := w.witness(), w.etcd.Snapshot(t)
	w.eventually("the witness is renewed", func(context.Context) (bool, error) {
		now := w.witness()
		return now != first && !strings.Contains(now, `"next"`), nil
	})
	attach("vol-2", "node-2")
	c.kill()
	w.etcd.Restore(t, util, snapshot, bumped...)

	c = w.controller()
	w.eventually("it has frozen the ledger", func(context.Context) (bool, error) {
		return strings.Contains(w.does("clusters"), "Restore noticed"), nil
	})
	w.fails(exitConflict, "holdfast unfreeze --restored", "attach", "vol-2", "node-3", "--cluster", "east")
	w.fails(exitConflict, "holdfast unfreeze --restored", "unfreeze")
	w.withoutNode("node-1")
	for metric, want := range map[string]string{
		`holdfast_held_back{cluster="east",obstacle="frozen"}`:                  "1",
		`holdfast_ledger_frozen{cause="restore",cluster="east"}`:                "1",
		`holdfast_restores_noticed_total{cluster="east"}`:                       "1",
		`holdfast_ledger_frozen{cause="operator",cluster="east"}`:               "0",
		`holdfast_removals_total{cluster="east",reason="NodeGone",result="ok"}`: "0",
	} {
		w.shows(c, metric, want)
	}
	for verb, args := range map[string][]string{"plan": {"--cluster", "east", "--nodes", w.nodes.path}, "journal": {"--cluster", "east"}} {
		if out := w.does(verb, args...); !strings.Contains(out, "witness") {
			t.Errorf("holdfast %s does not say who has frozen the ledger, and why:\n%s", verb, out)
		}
	}
	w.heldBy("vol-1", "node-1")
	if out := w.does("unfreeze", "--restored"); !strings.Contains(out, "epoch 1") {
		t.Errorf("unfreeze says %s", out)
	}
	w.eventually("the orphan is removed", func(context.Context) (bool, error) { return len(w.volume("vol-1").Holds) == 0, nil })
	attach("vol-2", "node-3")
	if out := w.does("clusters"); strings.Contains(out, "Restore noticed") {
		t.Errorf("frozen again:\n%s", out)
	}
	if n := strings.Count(c.tail(), "etcd was restored or replaced: the ledger is frozen"); n != 1 {
		t.Errorf("the log says %d times that etcd was restored, want once:\n%s", n, c.tail())
	}
}

// witness is what is outside etcd; empty if nothing is yet.
func (w *world) witness() string {
	w.t.Helper()
	text, err := os.ReadFile(w.nodes.path + ".witness-east")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.t.Fatal(err)
	}
	return string(text)
}

// A state file that cannot be written: it is not ready and says why, and nothing
// is removed until it can.
func TestProcess_WitnessFileUnwritable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, state.Config{Quarantine: state.NoQuarantine}, "node-1", "node-2", "node-3")
	folder := filepath.Join(t.TempDir(), "missing")
	c := w.start("--witness-file", filepath.Join(folder, "witness"))
	w.saysNotReady(c, "the witness outside etcd", folder)
	w.does("attach", "vol-1", "node-1", "--cluster", "east")
	w.withoutNode("node-1")
	w.shows(c, `holdfast_held_back{cluster="east",obstacle="unwitnessed"}`, "1")
	w.heldBy("vol-1", "node-1")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	w.eventually("the orphan is removed", func(context.Context) (bool, error) { return len(w.volume("vol-1").Holds) == 0, nil })
}

// The same for a ConfigMap that the service account may not write.
func TestProcess_WitnessForbidden(t *testing.T) {
	t.Parallel()
	w := newWorld(t, state.Config{Quarantine: state.NoQuarantine})
	k := newKube(t, "uid-of-east", "node-1", "node-2", "node-3")
	k.refuse(http.StatusForbidden, "patch configmaps")
	c := w.kubernetes(k.kubeconfigIn(t, "east"))
	w.saysNotReady(c, "the witness outside etcd", "cannot patch", "deploy/base/access")
	w.does("attach", "vol-1", "node-1", "--cluster", "east")
	k.drop("node-1")
	w.shows(c, `holdfast_held_back{cluster="east",obstacle="unwitnessed"}`, "1")
	w.heldBy("vol-1", "node-1")
	k.refuse(0, "patch configmaps")
	w.eventually("the orphan is removed", func(context.Context) (bool, error) { return len(w.volume("vol-1").Holds) == 0, nil })
}

// Nodes from Kubernetes: the witness is a key of a ConfigMap, which is written
// only over what was read, and whose other keys stay.
func TestWitnessConfigMap(t *testing.T) {
	k := newKube(t, "uid", "node-1")
	client, err := corev1client.NewForConfig(&rest.Config{Host: k.server.URL})
	if err != nil {
		t.Fatal(err)
	}
	store := func(key string) *reconcile.WitnessConfigMap {
		return reconcile.NewWitnessConfigMap(client.ConfigMaps("holdfast-system"), witnessConfigMap, key)
	}
	one, other := store("east"), store("west")
	data, version, err := one.Load(t.Context())
	if len(data) != 0 || version == "" || err != nil {
		t.Fatalf("read %q of version %q, %v", data, version, err)
	}
	next, err := one.Store(t.Context(), []byte("1st"), version)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := one.Store(t.Context(), []byte("late"), version); !errors.Is(err, reconcile.ErrWitnessMoved) {
		t.Errorf("over what was not read: %v", err)
	}
	// Another ledger's controllers write another key: nobody's is moved by it.
	if _, err := other.Store(t.Context(), []byte("2nd"), version); err != nil {
		t.Errorf("beside another's key: %v", err)
	}
	if next, err = one.Store(t.Context(), []byte("3rd"), next); err != nil {
		t.Errorf("beside another's key: %v", err)
	}
	for want, s := range map[string]*reconcile.WitnessConfigMap{"3rd": one, "2nd": other} {
		if data, _, err := s.Load(t.Context()); string(data) != want || err != nil {
			t.Errorf("read %q, %v; want %s", data, err, want)
		}
	}
	k.refuse(http.StatusForbidden, "get configmaps", "patch configmaps")
	if _, _, err := one.Load(t.Context()); err == nil {
		t.Error("a refused read is none")
	}
	if _, err := one.Store(t.Context(), nil, next); err == nil || errors.Is(err, reconcile.ErrWitnessMoved) {
		t.Errorf("a refused write: %v", err)
	}
	k.refuse(http.StatusForbidden, "create configmaps")
	if _, err := one.Store(t.Context(), nil, ""); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "ConfigMap holdfast-witness is not there") {
		t.Errorf("there is none, and it may not be made: %v", err)
	}
}

// Ledgers, and clusters, that share a ConfigMap or a folder have a key each.
func TestWitnessKey(t *testing.T) {
	seen := map[string]string{}
	for _, w := range [][2]string{{"east", ""}, {"west", ""}, {"east", "/holdfast-2/"}, {"east", "/other/"}} {
		key := witnessKey(w[0], w[1])
		if seen[key] != "" {
			t.Errorf("%q for %v and for %v", key, w, seen[key])
		}
		seen[key] = strings.Join(w[:], " ")
	}
	if witnessKey("east", "/holdfast") != "east" || witnessKey("east", "/x") != witnessKey("east", "/x/") {
		t.Error("one prefix has two keys")
	}
}

func TestWitnessFlags(t *testing.T) {
	for name, c := range map[string]struct {
		flags    witnessFlags
		nodeFile bool
		refused  bool
	}{
		"none":                   {witnessFlags{}, false, false},
		"a file for a file":      {witnessFlags{file: "w"}, true, false},
		"a namespace for a file": {witnessFlags{namespace: "ns"}, true, true},
		"a file for Kubernetes":  {witnessFlags{file: "w"}, false, true},
		"its namespace":          {witnessFlags{namespace: "ns"}, false, false},
	} {
		if err := c.flags.check(c.nodeFile); (err != nil) != c.refused {
			t.Errorf("%s: %v", name, err)
		}
	}
}
