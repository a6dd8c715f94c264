package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/state/statetest"
)

// hub starts a controller of the clusters given, without quarantines.
func (w *world) hub(clusters []string, args ...string) *child {
	w.t.Helper()
	all := []string{"controller", "--endpoints", w.etcd.Endpoint(), "--listen", "127.0.0.1:0", "--election-ttl", "2s", "--quarantine", "0", "--attachment-ttl", "3s"}
	for _, c := range clusters {
		all = append(all, "--cluster", c)
	}
	c, err := startChild(w.program, append(all, args...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		killed := !c.alive()
		c.kill()
		if w.t.Failed() && !killed {
			w.t.Logf("the end of the hub's log:\n%s", c.tail())
		}
	})
	return c
}

// shows waits until a controller's metric has a value.
func (w *world) shows(c *child, metric, want string) {
	w.t.Helper()
	w.eventually(metric+" is "+want, func(ctx context.Context) (bool, error) {
		value, _, err := c.metric(ctx, metric)
		return err == nil && value == want, nil
	})
}

func clusterUp(name string) string { return fmt.Sprintf("holdfast_cluster_up{cluster=%q}", name) }

// One process, five clusters, and three of them cannot be served: one has no
// kubeconfig yet, one's name is another's, one's API server does not answer.
// The other two are served all the same. What is put right is found without a
// restart, and so is a cluster that goes wrong and comes right later.
func TestProcess_Hub(t *testing.T) {
	t.Parallel()
	w := newWorld(t, state.Config{})
	w.as(w.open(), "south", "uid-of-the-south-before")
	east, west := newKube(t, "uid-of-east", "e1", "e2"), newKube(t, "uid-of-west", "w1", "w2")
	north, south, slow := newKube(t, "uid-of-north", "n1"), newKube(t, "uid-of-south", "s1"), newKube(t, "uid-of-slow", "l1")
	slow.stall()
	slowly := slow.kubeconfigIn(t, "slow")
	missing := filepath.Join(t.TempDir(), "north")
	hub := w.hub([]string{
		"north=" + missing,
		"south=" + south.kubeconfigIn(t, "south") + ":south",
		"slow=" + slowly,
		"east=" + east.kubeconfigIn(t, "east"),
		"west=" + west.kubeconfigIn(t, "arn:aws:eks:somewhere:1:cluster/west") + ":arn:aws:eks:somewhere:1:cluster/west",
	})
	for _, c := range []string{"east", "west"} {
		w.shows(hub, clusterUp(c), "1")
		w.shows(hub, fmt.Sprintf("holdfast_leader{cluster=%q}", c), "1")
	}
	t.Log("what is not served is named, and nothing else")
	w.eventually("/readyz says what each waits for", func(ctx context.Context) (bool, error) {
		code, body, err := hub.get(ctx, "/readyz")
		for _, want := range []string{
			"\n  north: kubeconfig \"" + missing + "\": ", `south: cluster "south" is on record`, "clusters rebind south --uid uid-of-south", "\n  slow: ",
		} {
			if !strings.Contains(body, want) {
				return false, nil
			}
		}
		if strings.Contains(body, "east") || strings.Contains(body, "west") {
			return false, fmt.Errorf("/readyz names one that is served:\n%s", body)
		}
		return err == nil && code == http.StatusServiceUnavailable, nil
	})
	for _, c := range []string{"north", "south", "slow"} {
		w.shows(hub, clusterUp(c), "0")
	}

	t.Log("those that are served share a ledger")
	w.does("attach", "vol-1", "e1", "--cluster", "east", "--attachment-ttl", "3s")
	w.does("attach", "vol-2", "e2", "--cluster", "east")
	w.does("attach", "vol-3", "w2", "--cluster", "west")
	w.fails(exitConflict, "node e2 of cluster east", "attach", "vol-2", "w1", "--cluster", "west")
	east.drop("e2")
	west.drop("w2")
	w.eventually("each cluster's orphan is removed", func(context.Context) (bool, error) {
		return len(w.volume("vol-2").Holds)+len(w.volume("vol-3").Holds) == 0, nil
	})
	w.heldBy("vol-1", "e1")

	t.Log("what is put right is served")
	north.kubeconfig(t, missing, "north")
	w.does("clusters", "rebind", "south", "--uid", "uid-of-south", "--reason", "it was built anew")
	newKube(t, "uid-of-slow", "l1").kubeconfig(t, slowly, "slow") // another address
	if err := hub.ready(t.Context(), patience); err != nil {
		t.Fatal(err)
	}

	t.Log("what goes wrong later ends alone, and comes back whole")
	w.does("clusters", "rebind", "east", "--uid", "uid-of-nobody", "--reason", "a slip of the pen")
	w.shows(hub, clusterUp("east"), "0")
	w.shows(hub, clusterUp("west"), "1")
	w.does("clusters", "rebind", "east", "--uid", "uid-of-east", "--reason", "and back")
	if err := hub.ready(t.Context(), patience); err != nil {
		t.Fatal(err)
	}
	w.shows(hub, clusterUp("east"), "1")
	w.shows(hub, `holdfast_leader{cluster="east"}`, "1")
	w.shows(hub, `holdfast_index_nodes{cluster="east",state="attached"}`, "1")
	w.does("attach", "vol-4", "w1", "--cluster", "west")
	endsWell(t, hub)
}

// With a restored etcd nobody's records can be trusted: that ends a hub too.
func TestProcess_HubEndsWithARestore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, state.Config{})
	east, west := newKube(t, "uid-of-east", "e1", "e2"), newKube(t, "uid-of-west", "w1")
	hub := w.hub([]string{"east=" + east.kubeconfigIn(t, "east"), "west=" + west.kubeconfigIn(t, "west")})
	if err := hub.ready(t.Context(), patience); err != nil {
		t.Fatal(err)
	}
	w.does("attach", "vol-1", "e1", "--cluster", "east")
	client := w.etcd.Client(t)
	record, err := client.Get(t.Context(), ledgerRoot+"ledger")
	if err != nil {
		t.Fatal(err)
	}
	before, after, _ := bytes.Cut(record.Kvs[0].Value, []byte(`"uuid":"`))
	other := slices.Concat(before, []byte(`"uuid":"00`), after[2:])
	if _, err := client.Put(t.Context(), ledgerRoot+"ledger", string(other)); err != nil {
		t.Fatal(err)
	}
	east.drop("e1") // a removal compares the ledger's record
	select {
	case <-hub.ended:
	case <-time.After(patience):
		t.Fatalf("the hub runs: expected it to end; its log:\n%s", hub.tail())
	}
	_, last, _ := strings.Cut(hub.tail(), "\nholdfast: ")
	if got := hub.cmd.ProcessState.ExitCode(); got != exitFailed || !strings.Contains(last, state.ErrRestored.Error()) {
		t.Errorf("exit code %d, want %d and why; its log:\n%s", got, exitFailed, hub.tail())
	}
}

// A hub's flags that no cluster can use end it, with the line of wrong usage.
func TestProcess_HubRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, state.Config{})
	east := newKube(t, "uid-of-east", "e1").kubeconfigIn(t, "east")
	refused(t, w.program, exitUsage, "journal", "--cluster", "east="+east, "--endpoints", w.etcd.Endpoint(), "--listen", "",
		"--brake-window", "2h", "--journal-retention", "1h")
	refused(t, w.program, exitUsage, "exclude each other", "--cluster", "east="+east, "--nodes", w.nodes.path)
}

// The pauses grow, and start over after a cluster has run.
func TestKeepServed_Pauses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var tries []time.Duration
		last, long := time.Now(), 2*lastHubPause
		s := &served{waiting: waiting{log: slog.New(slog.DiscardHandler)}, name: "east"}
		s.open = func() (origin, error) {
			tries = append(tries, time.Since(last))
			if len(tries) == 7 {
				_ = pauseFor(ctx, long) // as if it ran
			}
			if len(tries) == 9 {
				cancel()
			}
			last = time.Now()
			return origin{}, errors.New("no kubeconfig")
		}
		if err := s.keepServed(ctx, nil); err == nil {
			t.Error("no error when it was ended in a try")
		}
		var want []time.Duration
		for _, seconds := range []int{0, 5, 10, 20, 40, 60, 60, 5, 10} {
			want = append(want, time.Duration(seconds)*time.Second)
		}
		if !slices.Equal(tries, want) {
			t.Errorf("pauses %v, want %v", tries, want)
		}
		if got := s.ready.list(); !slices.Equal(got, []string{"no kubeconfig"}) {
			t.Errorf("it waits for %q, want the reason", got)
		}
	})
}

// Only what is no cluster's own ends a hub.
func TestConcernsAll(t *testing.T) {
	t.Parallel()
	etcd := statetest.Start(t)
	etcd.EnableAuth(t, statetest.User{Name: "hub", Password: "word", Prefix: state.DefaultPrefix})
	ledger, err := state.Open(t.Context(), state.Config{
		Endpoints: etcd.Endpoints(), Username: "hub", Password: "word", Logger: slog.New(slog.DiscardHandler), By: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	defer ledger.Close()
	wrapped := func(err error) error { return fmt.Errorf("watching: %w", err) }
	check := func(why string, err error, want bool) {
		t.Helper()
		if got := concernsAll(t.Context(), ledger, err); got != want {
			t.Errorf("%s: %v concerns all: %v, want %v", why, err, got, want)
		}
	}
	check("another cluster of that name", wrapped(&state.MismatchError{Cluster: "east"}), false)
	check("a flag", wrapped(&settingError{state.ErrInvalid}), true)
	check("what its API server says", wrapped(state.ErrInvalid), false)
	check("etcd is away", wrapped(state.ErrUnavailable), false)
	check("a restore", wrapped(state.ErrRestored), true)
	check("a role that leaves the cluster out", wrapped(state.ErrPermission), false)
	client := etcd.Client(t)
	if _, err := client.RoleRevokePermission(t.Context(), "role-of-hub", state.DefaultPrefix, strings.TrimSuffix(state.DefaultPrefix, "/")+"0"); err != nil {
		t.Fatal(err)
	}
	check("a role that is taken away", wrapped(state.ErrPermission), true)
}

// The nodes of one Kubernetes must not stand for those of two clusters.
func TestIdentities(t *testing.T) {
	var ids identities
	for _, c := range []struct{ cluster, uid, err string }{
		{"east", "one", ""}, {"east", "one", ""}, {"west", "two", ""},
		{"north", "one", `clusters "east" and "north"`},
		{"east", "three", ""}, {"north", "one", ""}, // put right
	} {
		_, err := ids.claim(c.cluster, c.uid)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("claim(%q, %q): %v, want %q", c.cluster, c.uid, err, c.err)
		}
	}
}

// What the ledger refuses is no claim: not that of a cluster that never was this
// one, nor one in place of what the cluster was served as before.
func TestIdentities_GiveBack(t *testing.T) {
	var ids identities
	claim := func(cluster, uid string, ok bool) (giveBack func()) {
		t.Helper()
		giveBack, err := ids.claim(cluster, uid)
		if (err == nil) != ok {
			t.Fatalf("claim(%q, %q): %v, want one: %v", cluster, uid, err, ok)
		}
		return giveBack
	}
	claim("copy", "one", true)()
	claim("east", "one", true)
	claim("east", "two", true)()
	claim("copy", "one", false)
	claim("copy", "two", true)
}

// A cluster that comes first, with the kubeconfig of another one, does not keep
// that one from being served.
func TestHub_WrongKubeconfigFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t, state.Config{})
	w.as(w.open(), "wrong", "uid-of-wrong")
	east := newKube(t, "uid-of-east", "e1")
	path := filepath.Join(t.TempDir(), "east")
	hub := w.hub([]string{"wrong=" + east.kubeconfigIn(t, "wrong"), "east=" + path})
	w.eventually("the first is refused", func(ctx context.Context) (bool, error) {
		_, body, _ := hub.get(ctx, "/readyz")
		return strings.Contains(body, `wrong: cluster "wrong" is on record`), nil
	})
	east.kubeconfig(t, path, "east")
	w.shows(hub, clusterUp("east"), "1")
	endsWell(t, hub)
}

// A cluster that is built anew at the same address, under a controller that runs,
// has none of the nodes. That says nothing about who holds what.
func TestProcess_BuiltAnewAtTheSameAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t, state.Config{})
	east := newKube(t, "uid-of-east", "e1", "e2")
	c := w.hub([]string{"east=" + east.kubeconfigIn(t, "east")})
	if err := c.ready(t.Context(), patience); err != nil {
		t.Fatal(err)
	}
	w.does("attach", "vol-1", "e1", "--cluster", "east", "--attachment-ttl", "3s")
	east.change(func() { east.uid = "uid-of-another" })
	east.drop("e1")
	w.eventually("the live check says why not", func(context.Context) (bool, error) {
		return strings.Contains(c.tail(), `uid-of-another\" by now: expected \"uid-of-east`), nil
	})
	w.heldBy("vol-1", "e1")
	east.change(func() { east.uid = "uid-of-east" })
	w.eventually("the orphan is removed", func(context.Context) (bool, error) { return len(w.volume("vol-1").Holds) == 0, nil })
	endsWell(t, c)
}

// A hub in this process, one of whose clusters fails and runs again, and another
// turns out to be that one: TestMain finds what they would leave running.
func TestHub_LeavesNothingBehind(t *testing.T) {
	t.Parallel()
	etcd, prefix := statetest.Shared(t), statetest.Prefix(t)
	east := newKube(t, "uid-of-east", "e1")
	second := filepath.Join(t.TempDir(), "second")
	flags, err := controllerLine(t, "--cluster", "east="+east.kubeconfigIn(t, "east"), "--cluster", "copy="+second,
		"--endpoints", etcd.Endpoint(), "--prefix", prefix, "--listen", "", "--attachment-ttl", "3s", "--election-ttl", "2s")
	if err != nil {
		t.Fatal(err)
	}
	d, err := flags.daemon(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the hub: %v", err)
		}
	}()
	waitsFor := func(what ...string) {
		t.Helper()
		var last []string
		err := until(t.Context(), patience, "the hub waits for what it should", func(context.Context) (bool, error) {
			last = d.ready.list()
			return slices.EqualFunc(last, what, strings.Contains), nil
		})
		if err != nil {
			t.Fatalf("%v: %q, want %q", err, last, what)
		}
	}
	waitsFor(`copy: kubeconfig "`)
	east.kubeconfig(t, second, "another-name")
	waitsFor(`copy: the kubeconfigs of clusters "east" and "copy" are of one cluster`)

	ledger, err := state.Open(t.Context(), state.Config{Endpoints: etcd.Endpoints(), Prefix: prefix, AttachmentTTL: 3 * time.Second, By: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer ledger.Close()
	cluster, err := ledger.Cluster(t.Context(), state.Identity{Name: "east"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.Attach(t.Context(), state.AttachRequest{Volume: "vol-1", Node: "e1"}); err != nil {
		t.Fatal(err)
	}
	if err := ledger.Rebind(t.Context(), "east", "uid-of-nobody", "test", "to see it fail"); err != nil {
		t.Fatal(err)
	}
	waitsFor(`east: cluster "east" is on record with the kube-system UID "uid-of-nobody"`, "copy: ")
	if err := ledger.Rebind(t.Context(), "east", "uid-of-east", "test", "to see it run"); err != nil {
		t.Fatal(err)
	}
	waitsFor("copy: ")
}
