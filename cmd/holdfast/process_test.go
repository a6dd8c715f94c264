package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/state/statetest"
)

// A day with holdfast as its user has it: the commands alone, a controller as a
// process, and a real etcd. The controller is killed in the middle of each wait.
func TestProcess_Day(t *testing.T) {
	t.Parallel()
	w := newWorld(t, state.Config{GracePeriod: 3 * time.Second, Quarantine: 4 * time.Second, MigrationWindow: 3 * time.Second},
		"node-1", "node-2", "node-3")
	clock := w.clock()
	controller := w.controller()
	restart := func() {
		t.Helper()
		controller.kill()
		controller = w.controller()
	}
	acts := func(verb string, args ...string) {
		t.Helper()
		w.does(verb, append(args, w.flagsOf(verb)...)...)
	}

	acts("attach", "vol-1", "node-1")
	w.heldBy("vol-1", "node-1")
	w.fails(exitConflict, "node node-1 of cluster east", "attach", append([]string{"vol-1", "node-2"}, w.flagsOf("attach")...)...)
	w.fails(exitConflict, "node node-1 of cluster east", "attach", "vol-1", "node-1", "--cluster", "west", "--cluster-uid", "of-west")
	w.heldBy("vol-1", "node-1")

	t.Log("restart in the middle of a grace")
	acts("detach", "vol-1", "node-1")
	w.fails(exitConflict, "grace period", "attach", "vol-1", "node-1", "--cluster", "west")
	restart()
	if v := w.volume("vol-1"); v.State != state.StateGrace {
		t.Fatalf("vol-1 is %s after the restart, want it in its grace", v.State)
	}
	acts("attach", "vol-1", "node-2") // the hand-over
	w.heldBy("vol-1", "node-2")
	w.eventually("grace ends", func(context.Context) (bool, error) { return len(w.volume("vol-1").Detachments) == 0, nil })

	t.Log("restart in the middle of a migration")
	acts("migrate", "vol-1", "--to", "node-3")
	restart()
	w.heldBy("vol-1", "node-2", "node-3")
	w.eventually("window ends, and frees nothing", func(context.Context) (bool, error) {
		return w.volume("vol-1").State == state.StateOverdue, nil
	})
	w.heldBy("vol-1", "node-2", "node-3")
	w.fails(exitConflict, "node-2", "attach", append([]string{"vol-1", "node-1"}, w.flagsOf("attach")...)...)
	acts("detach", "vol-1", "node-2")
	acts("migrate", "vol-1", "--to", "node-1")
	acts("migrate", "vol-1", "--commit")
	w.heldBy("vol-1", "node-1")

	t.Log("restart in the middle of a quarantine")
	w.leads(controller)
	w.gone(clock, "node-1")
	quarantined := func(context.Context) (bool, error) {
		return len(keysBelow(w.etcd.Dump(t, ledgerRoot), kindWaits)) == 1, nil
	}
	w.eventually("quarantine begins", quarantined)
	restart()
	w.heldBy("vol-1", "node-1")
	w.eventually("orphan is removed", func(context.Context) (bool, error) { return len(w.volume("vol-1").Holds) == 0, nil })
	journal := w.does("journal")
	if !strings.Contains(journal, "removed") || !strings.Contains(journal, "NodeGone") || !strings.Contains(journal, "vol-1") {
		t.Errorf("the journal does not say what was removed and why:\n%s", journal)
	}
	w.back(clock, "node-1")
	w.eventually("grace of the removal ends", func(context.Context) (bool, error) {
		return w.volume("vol-1").State == state.StateFree, nil
	})

	r := w.replay()
	if len(r.journaled) != 1 || r.ended[kindGraces] < 3 || r.ended[kindWindows] != 1 || r.ended[kindWaits] < 1 {
		t.Errorf("%d removals; ended by themselves: %v; want a removal, three graces, a window, a quarantine", len(r.journaled), r.ended)
	}
}

// flagsOf are the world's flags that a verb takes.
func (w *world) flagsOf(verb string) []string {
	takes := map[string][]string{
		"attach":  {"--cluster", "--attachment-ttl"},
		"detach":  {"--cluster", "--grace-period"},
		"migrate": {"--cluster", "--grace-period", "--migration-window", "--attachment-ttl"},
	}[verb]
	var flags []string
	for pair := range slices.Chunk(w.flags(), 2) {
		if slices.Contains(takes, pair[0]) {
			flags = append(flags, pair...)
		}
	}
	return flags
}

// From a node's end to the removal of what it held, with no quarantine and a
// resync of an hour: the change itself has to bring it about.
func TestProcess_RemovalNeedsNoTimer(t *testing.T) {
	t.Parallel()
	const rounds = 5
	nodes := []string{"stays"}
	for i := range rounds {
		nodes = append(nodes, name("node", i))
	}
	w := newWorld(t, state.Config{Quarantine: state.NoQuarantine}, nodes...)
	controller := w.controller("--resync", "1h", "--brake-fraction", "1")
	w.leads(controller)
	ledger := w.open()
	east := w.as(ledger, "east", "")
	ended := watchEnds(t, ledger)

	for i := range rounds {
		volume, node := name("vol", i), name("node", i)
		if _, err := east.Attach(t.Context(), state.AttachRequest{Volume: volume, Node: node}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		w.withoutNode(node)
		select {
		case got := <-ended:
			if got != volume {
				t.Fatalf("%s has ended, want %s", got, volume)
			}
			took := time.Since(began)
			t.Logf("removed %v after its node was", took.Round(time.Millisecond))
			if took > 5*time.Second {
				t.Errorf("the removal took %v: expected well under a second, and 5 s on a machine that is busy", took)
			}
		case <-time.After(patience):
			t.Fatalf("%s is not removed %v after its node", volume, patience)
		}
	}
}

// watchEnds tells of each volume whose hold ends, as etcd does.
func watchEnds(t *testing.T, ledger *state.Ledger) <-chan string {
	t.Helper()
	ended := make(chan string, 100)
	synced := make(chan struct{})
	done := make(chan struct{})
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		defer close(done)
		err := ledger.Watch(ctx, state.ScopeHolds(""), func(b state.Batch) error {
			for _, e := range b.Events {
				if hold, ok := e.Record.(state.Hold); ok && e.Type == state.Delete {
					ended <- hold.Volume
				}
			}
			if b.Synced {
				close(synced)
			}
			return nil
		})
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("watching the holds: %v", err)
		}
	}()
	t.Cleanup(func() { stop(); <-done })
	select {
	case <-synced:
	case <-time.After(patience):
		t.Fatal("the watch of the holds does not begin")
	}
	return ended
}

// SIGTERM: it ends at once and well, another may lead at once, and what it kept
// alive is left alone.
func TestProcess_Terminate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, state.Config{Quarantine: 5 * time.Second, AttachmentTTL: 10 * time.Minute, ElectionTTL: 10 * time.Minute}, "node-1", "node-2")
	controller := w.controller()
	w.leads(controller)
	w.does("attach", "vol-1", "node-1", "--cluster", "east")
	w.does("attach", "vol-2", "node-2", "--cluster", "east")
	w.withoutNode("node-2")
	w.eventually("quarantine begins", func(context.Context) (bool, error) {
		return len(keysBelow(w.etcd.Dump(t, ledgerRoot), kindWaits)) == 1, nil
	})

	endsWell(t, controller)
	left := w.etcd.Dump(t, ledgerRoot)
	if keys := keysBelow(left, kindElections); len(keys) != 0 {
		t.Errorf("election keys are left: %v", keys)
	}
	for kind, want := range map[string][]string{
		kindSessions: {"east/node-1/vol-1", "east/node-2/vol-2"},
		kindHolds:    {"vol-1/x/east/node-1", "vol-2/x/east/node-2"},
		kindDeparted: {"east/node-2"},
		kindWaits:    {"east/node-2"},
	} {
		if got := keysBelow(left, kind); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", kind, got, want)
		}
	}
	for _, kv := range left {
		if strings.HasPrefix(kv.Key, ledgerRoot+kindSessions+"/") && kv.Lease == 0 {
			t.Errorf("%s has lost its lease", kv.Key)
		}
	}
	// With an election TTL of ten minutes, only a resigned lead can be taken.
	w.leads(w.controller())
}

// Not ready until both sources are loaded, and it says which is missing.
func TestProcess_Readiness(t *testing.T) {
	t.Parallel()
	w := newWorld(t, state.Config{}, "node-1")
	if err := os.Remove(w.nodes.path); err != nil {
		t.Fatal(err)
	}
	controller := w.start()
	answers := func(code int, part string) {
		t.Helper()
		last := ""
		err := until(t.Context(), patience, fmt.Sprintf("/readyz answers %d with %q", code, part), func(ctx context.Context) (bool, error) {
			got, body, err := controller.get(ctx, "/readyz")
			if err != nil {
				body = err.Error()
			}
			last = body
			return err == nil && got == code && strings.Contains(body, part), nil
		})
		if err != nil {
			t.Fatalf("%v: last %q", err, last)
		}
	}
	answers(http.StatusServiceUnavailable, w.nodes.path)
	if code, _, err := controller.get(t.Context(), "/healthz"); code != http.StatusOK || err != nil {
		t.Errorf("/healthz = %d, %v while it waits", code, err)
	}
	w.setNodes("node-1")
	answers(http.StatusOK, "ok")
}

// A controller may be started before its etcd: it says what it waits for.
func TestProcess_WaitsForEtcd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, state.Config{}, "node-1")
	w.etcd.Kill()
	controller := w.start("--dial-timeout", "1s")
	w.eventually("/readyz names etcd", func(ctx context.Context) (bool, error) {
		code, body, err := controller.get(ctx, "/readyz")
		return err == nil && code == http.StatusServiceUnavailable && strings.Contains(body, w.etcd.Endpoint()), nil
	})
	w.eventually("log names etcd", func(context.Context) (bool, error) {
		return strings.Contains(controller.tail(), w.etcd.Endpoint()), nil
	})
	impatient := w.start("--dial-timeout", "1s")
	w.eventually("another one waits too", func(ctx context.Context) (bool, error) {
		code, _, err := impatient.get(ctx, "/readyz")
		return err == nil && code == http.StatusServiceUnavailable, nil
	})
	endsWell(t, impatient)

	w.etcd.Start(t)
	if err := controller.ready(t.Context(), patience); err != nil {
		t.Error(err)
	}
	// Nor does an etcd that has gone away keep it from ending.
	w.etcd.Kill()
	endsWell(t, controller)
}

// endsWell sends SIGTERM, and expects the end at once and no complaint.
func endsWell(t *testing.T, c *child) {
	t.Helper()
	began := time.Now()
	if err := c.stop(); err != nil {
		t.Error(err)
	}
	t.Logf("ended %v after SIGTERM", time.Since(began).Round(time.Millisecond))
	if code := c.cmd.ProcessState.ExitCode(); code != exitDone {
		t.Errorf("exit code %d after SIGTERM, want 0; its log:\n%s", code, c.tail())
	}
}

// What no waiting would put right is one line, and the end.
func TestProcess_Refuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, state.Config{}, "node-1")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	w.controller("--cluster-uid", "one").kill()

	etcd := []string{"--endpoints", w.etcd.Endpoint()}
	nodes := []string{"--nodes", w.nodes.path}
	east := []string{"--cluster", "east", "--listen", "127.0.0.1:0"}
	for _, c := range []struct {
		name string
		args [][]string
		code int
		why  string
	}{
		{"another cluster of that name", [][]string{east, etcd, nodes, {"--cluster-uid", "two"}}, exitConflict, `kube-system UID "one", and this process has "two"`},
		{"no cluster", [][]string{etcd, nodes}, exitUsage, "--cluster"},
		{"no label", [][]string{etcd, nodes, {"--cluster", "East"}}, exitUsage, "RFC 1123"},
		{"no nodes", [][]string{east, etcd}, exitUsage, "--nodes"},
		{"two sources of nodes", [][]string{east, etcd, nodes, {"--kubeconfig", "x"}}, exitUsage, "--kubeconfig"},
		{"no kubeconfig", [][]string{east, etcd, {"--kubeconfig", filepath.Join(t.TempDir(), "none")}}, exitUsage, "--kubeconfig"},
		{"two etcds", [][]string{east, etcd, nodes, {"--embedded-etcd", t.TempDir()}}, exitUsage, "--embedded-etcd"},
		{"a port that is taken", [][]string{etcd, nodes, {"--cluster", "east", "--listen", taken.Addr().String()}}, exitFailed, "--listen"},
		{"a grace that is too short", [][]string{east, etcd, nodes, {"--grace-period", "1s"}}, exitUsage, "grace period"},
		{"a fencer that is not there", [][]string{east, etcd, nodes, {"--fence-command", "/no/such/fencer --now"}}, exitUsage, "/no/such/fencer"},
		{"a brake that is none", [][]string{east, etcd, nodes, {"--brake-fraction", "2"}}, exitUsage, "--brake-fraction"},
		{"no removals at all", [][]string{east, etcd, nodes, {"--removal-rate", "0"}}, exitUsage, "--removal-rate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			refused(t, w.program, c.code, c.why, slices.Concat(c.args...)...)
		})
	}
}

// refused starts a controller that should end at once, with one line.
func refused(t *testing.T, program string, code int, why string, args ...string) {
	t.Helper()
	controller, err := startChild(program, append([]string{"controller", "--log-level", "error"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	defer controller.kill()
	select {
	case <-controller.ended:
	case <-time.After(patience):
		t.Fatalf("controller %q runs: expected it to end; its log:\n%s", args, controller.tail())
	}
	said := controller.tail()
	if got := controller.cmd.ProcessState.ExitCode(); got != code || !strings.Contains(said, why) || strings.Contains(said, "\n") {
		t.Errorf("controller %q: exit code %d and %q, want %d and one line with %q", args, got, said, code, why)
	}
}

// A wrong password is not waited for either.
func TestProcess_RefusesWrongPassword(t *testing.T) {
	t.Parallel()
	etcd := statetest.Start(t)
	etcd.EnableAuth(t, statetest.User{Name: "holdfast", Password: "right", Prefix: state.DefaultPrefix})
	nodes := &nodeFile{path: filepath.Join(t.TempDir(), "nodes.json")}
	password := filepath.Join(t.TempDir(), "password")
	if err := errors.Join(nodes.write("node-1"), os.WriteFile(password, []byte("wrong\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	refused(t, binary(t), exitFailed, `user "holdfast"`, "--cluster", "east", "--endpoints", etcd.Endpoint(),
		"--nodes", nodes.path, "--listen", "", "--user", "holdfast", "--password-file", password)
}

// The etcd in the process serves others too, and keeps its data.
func TestProcess_EmbeddedEtcd(t *testing.T) {
	t.Parallel()
	w := &world{t: t, program: binary(t), nodes: &nodeFile{path: filepath.Join(t.TempDir(), "nodes.json")}}
	w.setNodes("node-1")
	dir := filepath.Join(t.TempDir(), "etcd")
	begin := func() (*child, string) {
		t.Helper()
		c, err := startChild(w.program, "controller", "--cluster", "east", "--nodes", w.nodes.path, "--listen", "127.0.0.1:0",
			"--embedded-etcd", dir, "--embedded-listen", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.kill)
		if err := c.ready(t.Context(), patience); err != nil {
			t.Fatalf("%v; its log:\n%s", err, c.tail())
		}
		endpoint := ""
		w.eventually("log says where the embedded etcd is", func(context.Context) (bool, error) {
			_, after, found := strings.Cut(c.tail(), "endpoint=")
			endpoint, _, _ = strings.Cut(after, "\n")
			endpoint, _, _ = strings.Cut(endpoint, " ")
			return found, nil
		})
		return c, endpoint
	}
	attach := func(c *child, endpoint string) string {
		t.Helper()
		stdout, err := commandOutput(t, w.program, "attach", "vol-1", "node-1", "--cluster", "east", "--endpoints", endpoint)
		if err != nil {
			t.Fatalf("%v; the controller's log:\n%s", err, c.tail())
		}
		return stdout
	}
	first, endpoint := begin()
	before := attach(first, endpoint)
	endsWell(t, first)
	second, endpoint := begin()
	if after := attach(second, endpoint); after != before {
		t.Errorf("attached after the restart: %q, and %q before: want the same hold", after, before)
	}
}
