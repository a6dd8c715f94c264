package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/state/statetest"
)

// theBinary is holdfast, built once for all the tests that need it as a
// process. The last of them removes it.
var theBinary struct {
	sync.Mutex
	users int
	dir   string
}

func binary(t *testing.T) string {
	t.Helper()
	theBinary.Lock()
	defer theBinary.Unlock()
	if theBinary.users == 0 {
		dir, err := os.MkdirTemp("", "holdfast-test-")
		if err != nil {
			t.Fatal(err)
		}
		build := exec.Command("go", "build", "-o", dir, ".")
		if out, err := build.CombinedOutput(); err != nil {
			os.RemoveAll(dir)
			t.Fatalf("go build: %v\n%s", err, out)
		}
		theBinary.dir = dir
	}
	theBinary.users++
	t.Cleanup(func() {
		theBinary.Lock()
		defer theBinary.Unlock()
		if theBinary.users--; theBinary.users == 0 {
			os.RemoveAll(theBinary.dir)
		}
	})
	return filepath.Join(theBinary.dir, "holdfast")
}

// world is a cluster named east, with an etcd as a process and a file of nodes.
type world struct {
	t       *testing.T
	program string
	etcd    *statetest.Process
	nodes   *nodeFile
	waits   state.Config // of everyone in it
}

// The waits of the tests: etcd's shortest leases are 2 s.
func newWorld(t *testing.T, waits state.Config, nodes ...string) *world {
	t.Helper()
	etcd := statetest.StartProcess(t, statetest.Binary(t, "etcd"))
	if waits.ElectionTTL == 0 {
		waits.ElectionTTL = 2 * time.Second
	}
	w := &world{t: t, program: binary(t), etcd: etcd, waits: waits, nodes: &nodeFile{path: filepath.Join(t.TempDir(), "nodes.json")}}
	w.setNodes(nodes...)
	return w
}

func (w *world) setNodes(names ...string) {
	w.t.Helper()
	if err := w.nodes.write(names...); err != nil {
		w.t.Error(err)
	}
}

// withoutNode takes a node out of the file.
func (w *world) withoutNode(name string) {
	w.t.Helper()
	w.setNodes(slices.DeleteFunc(slices.Clone(w.nodes.names), func(n string) bool { return n == name })...)
}

// flags are those that every holdfast of the world is started with.
func (w *world) flags() []string {
	flags := []string{"--cluster", "east", "--endpoints", w.etcd.Endpoint()}
	for _, wait := range []struct {
		flag  string
		value time.Duration
	}{
		{"--grace-period", w.waits.GracePeriod}, {"--attachment-ttl", w.waits.AttachmentTTL},
		{"--migration-window", w.waits.MigrationWindow},
	} {
		if wait.value > 0 {
			flags = append(flags, wait.flag, wait.value.String())
		}
	}
	return flags
}

// controller starts one, which the test's end kills, and waits until it is ready.
func (w *world) controller(args ...string) *child {
	w.t.Helper()
	c := w.start(args...)
	if err := c.ready(w.t.Context(), patience); err != nil {
		w.t.Fatalf("%v; the end of its log:\n%s", err, c.tail())
	}
	return c
}

// start starts a controller and waits for nothing.
func (w *world) start(args ...string) *child {
	w.t.Helper()
	all := append([]string{"controller", "--nodes", w.nodes.path, "--listen", "127.0.0.1:0", "--election-ttl", w.waits.ElectionTTL.String()}, w.flags()...)
	switch q := w.waits.Quarantine; {
	case q == state.NoQuarantine:
		all = append(all, "--quarantine", "0")
	case q > 0:
		all = append(all, "--quarantine", q.String())
	}
	c, err := startChild(w.program, append(all, args...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		killed := !c.alive()
		c.kill()
		if w.t.Failed() && !killed {
			w.t.Logf("the end of the log of controller %d:\n%s", c.pid(), c.tail())
		}
	})
	return c
}

// leads waits until the controller leads, so that a test which counts on its
// removals need not count the election in.
func (w *world) leads(c *child) {
	w.t.Helper()
	w.eventually("controller leads", func(ctx context.Context) (bool, error) {
		value, _, err := c.metric(ctx, `holdfast_leader{cluster="east"}`)
		return value == "1", err
	})
}

// eventually waits until ask says yes.
func (w *world) eventually(what string, ask func(context.Context) (bool, error)) {
	w.t.Helper()
	if err := until(w.t.Context(), patience, what, ask); err != nil {
		w.t.Fatal(err)
	}
}

// run runs one verb of the command line, as its user would.
func (w *world) run(verb string, args ...string) (stdout, stderr string, code int) {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), w.program, append([]string{verb, "--endpoints", w.etcd.Endpoint()}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// does runs a verb that should succeed, and returns what it printed.
func (w *world) does(verb string, args ...string) string {
	w.t.Helper()
	stdout, stderr, code := w.run(verb, args...)
	if code != exitDone {
		w.t.Fatalf("holdfast %s %q: exit code %d: %s", verb, args, code, stderr)
	}
	return stdout
}

// fails runs a verb that should fail with a code, and say why in one line.
func (w *world) fails(code int, why string, verb string, args ...string) {
	w.t.Helper()
	_, stderr, got := w.run(verb, args...)
	if got != code || !strings.Contains(stderr, why) || strings.Count(stderr, "\n") != 1 {
		w.t.Fatalf("holdfast %s %q: exit code %d and %q, want %d and one line with %q", verb, args, got, stderr, code, why)
	}
}

// volume is what `holdfast get` says of a volume.
func (w *world) volume(name string) volumeView {
	w.t.Helper()
	var v volumeView
	if err := json.Unmarshal([]byte(w.does("get", name, "-o", "json")), &v); err != nil {
		w.t.Fatal(err)
	}
	return v
}

// heldBy expects that exactly these nodes hold a volume.
func (w *world) heldBy(volume string, nodes ...string) {
	w.t.Helper()
	v := w.volume(volume)
	var got []string
	for _, h := range v.Holds {
		got = append(got, h.Node)
	}
	if !slices.Equal(got, nodes) {
		w.t.Fatalf("%s is %s, held by %v: want %v", volume, v.State, got, nodes)
	}
}

// open opens the ledger in the test's own process, as a CSI driver would.
func (w *world) open() *state.Ledger {
	w.t.Helper()
	cfg := w.waits
	cfg.Endpoints, cfg.By, cfg.Logger = w.etcd.Endpoints(), "test", slog.New(slog.DiscardHandler)
	ledger, err := state.Open(w.t.Context(), cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { ledger.Close() })
	return ledger
}

// as opens the ledger as a cluster: east, which its controller has put on
// record, or another with the UID given.
func (w *world) as(l *state.Ledger, cluster, uid string) *state.Cluster {
	w.t.Helper()
	c, err := l.Cluster(w.t.Context(), state.Identity{Name: cluster, UID: uid})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// replay checks all that has happened so far.
func (w *world) replay() *replay {
	w.t.Helper()
	r := replayHistory(w.etcd.History(w.t, "/", 1), w.waits.Quarantine)
	for i, p := range r.problems {
		if i == 20 {
			w.t.Errorf("and %d more", len(r.problems)-i)
			break
		}
		w.t.Error(p)
	}
	return r
}

// timekeeper puts the time into etcd's history until the test is over: see clockKey.
// The marks go through it, so that they have their place in it.
type timekeeper struct {
	put   func(key, value string) error
	began time.Time
}

func (w *world) clock() *timekeeper {
	w.t.Helper()
	client := w.etcd.Client(w.t)
	c := &timekeeper{began: time.Now(), put: func(key, value string) error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, err := client.Put(ctx, key, value)
		return err
	}}
	// It must run beyond the test's own context, which ends before what the
	// test cleans up.
	ctx, stop := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			if err := c.put(clockKey, strconv.FormatInt(int64(time.Since(c.began)), 10)); err != nil {
				w.t.Errorf("the clock has stopped: %v", err)
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	})
	w.t.Cleanup(func() { stop(); done.Wait() })
	return c
}

func (c *timekeeper) mark(t *testing.T, node, what string) {
	t.Helper()
	if err := c.put(markPrefix+node, what); err != nil {
		t.Error(err)
	}
}

// gone and back take a node out of the file and put it back, with the marks
// that the replay goes by.
func (w *world) gone(c *timekeeper, node string) {
	w.t.Helper()
	c.mark(w.t, node, nodeLeaves)
	w.withoutNode(node)
}

func (w *world) back(c *timekeeper, node string) {
	w.t.Helper()
	w.setNodes(append(slices.Clone(w.nodes.names), node)...)
	c.mark(w.t, node, nodeIsBack)
}

func keysBelow(kvs []statetest.KV, kind string) []string {
	var keys []string
	for _, kv := range kvs {
		if strings.HasPrefix(kv.Key, ledgerRoot+kind+"/") {
			keys = append(keys, strings.TrimPrefix(kv.Key, ledgerRoot+kind+"/"))
		}
	}
	return keys
}

func name(kind string, i int) string { return fmt.Sprintf("%s-%d", kind, i) }

// commandOutput is what a holdfast prints on its standard output.
func commandOutput(t *testing.T, program string, args ...string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), program, args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return string(out), err
}
