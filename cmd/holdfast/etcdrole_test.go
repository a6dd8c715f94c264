package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/state/statetest"
)

// etcdRoleOutput is what `holdfast etcd-role` prints.
func etcdRoleOutput(t *testing.T, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), append([]string{"etcd-role"}, args...), &stdout, &stderr); code != exitDone {
		t.Fatalf("etcd-role %q: exit code %d: %s", args, code, stderr.String())
	}
	return stdout.String()
}

// bash runs a script of etcdctl commands, from its standard input, as somebody
// who pipes it there.
func bash(t *testing.T, script string, env ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-e", "-u", "-o", "pipefail")
	cmd.Env = append([]string{"PATH=" + filepath.Dir(statetest.Binary(t, "etcdctl")) + ":" + os.Getenv("PATH"), "LC_ALL=C", "HOME=" + t.TempDir()}, env...)
	cmd.Stdin = strings.NewReader(script)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\nof\n%s", err, out, script)
	}
	return string(out)
}

// asRoot is the environment of etcdctl as statetest's superuser.
func asRoot(endpoint string) []string {
	return []string{"ETCDCTL_ENDPOINTS=" + endpoint, "ETCDCTL_USER=" + statetest.RootUser + ":" + statetest.RootPassword}
}

// roleInEtcd is a role as etcd has it.
func roleInEtcd(t *testing.T, etcd *statetest.Access, role string) []state.Permission {
	t.Helper()
	answer, err := etcd.Client(t).RoleGet(t.Context(), role)
	if err != nil {
		t.Fatal(err)
	}
	var list []state.Permission
	for _, p := range answer.Perm {
		list = append(list, state.Permission{Access: state.Access(strings.ToLower(p.PermType.String())), Key: string(p.Key), RangeEnd: string(p.RangeEnd)})
	}
	return list
}

func sorted(list []state.Permission) []state.Permission {
	list = slices.Clone(list)
	for i := range list {
		list[i].Why = ""
	}
	slices.SortFunc(list, func(a, b state.Permission) int {
		return strings.Compare(a.Key+string(a.Access), b.Key+string(b.Access))
	})
	return list
}

// The commands, run by a shell, make the role that state means, byte by byte,
// whatever the prefix, the user and the role are called.
func TestEtcdRole_SurvivesTheShell(t *testing.T) {
	t.Parallel()
	etcd := statetest.Start(t)
	etcd.EnableAuth(t)
	password := filepath.Join(t.TempDir(), "it's a password")
	if err := os.WriteFile(password, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, prefix := range []string{"/holdfast/", "/it's $HOME `id` \\ \"é\" !x *?~/", "/a\nb\t\x1b[31m\u200b'!\\\u202e/", "-dash/", "--prefix/", "$(touch x)", "#/", "\u200bé\x01f0"} {
		user, role := name("user of", i), name("-role & of", i)
		list, err := state.ClusterPermissions(prefix, "east")
		if err != nil {
			t.Fatal(err)
		}
		script := etcdRoleOutput(t, "--cluster", "east", "--prefix="+prefix, "--role="+role, "--user", user, "--password-file", password)
		for line := range strings.Lines(script) {
			if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "etcdctl ") && line != "\n" {
				t.Errorf("prefix %q: a line is neither comment nor command: %q", prefix, line)
			}
		}
		bash(t, script, asRoot(etcd.Endpoint())...)
		if diff := cmp.Diff(sorted(list), sorted(roleInEtcd(t, &etcd.Access, role))); diff != "" {
			t.Errorf("prefix %q (-want +got):\n%s", prefix, diff)
		}
		l, err := state.Open(t.Context(), state.Config{Endpoints: etcd.Endpoints(), Prefix: prefix, Username: statetest.RootUser, Password: statetest.RootPassword})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		l, err = state.Open(t.Context(), state.Config{Endpoints: etcd.Endpoints(), Prefix: prefix, Username: user, Password: "secret"})
		if err != nil {
			t.Errorf("prefix %q: %v", prefix, err)
			continue
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestEtcdRole_JSON(t *testing.T) {
	t.Parallel()
	var got etcdRoles
	if err := json.Unmarshal([]byte(etcdRoleOutput(t, "--cluster", "east", "--cluster", "west", "--user", "hub", "-o", "json")), &got); err != nil {
		t.Fatal(err)
	}
	east, _ := state.ClusterPermissions("", "east")
	west, _ := state.ClusterPermissions("", "west")
	want := []etcdRole{
		{"holdfast-cluster-east", "the controllers and drivers of cluster east, and the verbs in its name", east},
		{"holdfast-cluster-west", "the controllers and drivers of cluster west, and the verbs in its name", west},
	}
	if diff := cmp.Diff(want, got.Items); diff != "" || got.User != "hub" {
		t.Errorf("of user %q (-want +got):\n%s", got.User, diff)
	}
}

// actor is somebody with an etcd user of his own.
type actor struct {
	*world
	flags []string
}

func (a actor) does(verb string, args ...string) string {
	a.t.Helper()
	return a.world.does(verb, append(args, a.flags...)...)
}

func (a actor) fails(code int, why, verb string, args ...string) {
	a.t.Helper()
	a.world.fails(code, why, verb, append(args, a.flags...)...)
}

// beyond expects that a verb is beyond the actor's role, and that it says so.
func (a actor) beyond(verb string, args ...string) {
	a.t.Helper()
	a.fails(exitFailed, "beyond the user's role", verb, args...)
	a.fails(exitFailed, "holdfast etcd-role", verb, args...)
}

// hire gives a role and a user to somebody, by the printed commands.
func (w *world) hire(prefix, user string, whom ...string) actor {
	w.t.Helper()
	password := filepath.Join(w.t.TempDir(), user)
	if err := os.WriteFile(password, []byte(user+"-password\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	args := append(whom, "--prefix", prefix, "--user", user, "--password-file", password)
	bash(w.t, etcdRoleOutput(w.t, args...), asRoot(w.etcd.Endpoint())...)
	return actor{w, []string{"--prefix", prefix, "--user", user, "--password-file", password}}
}

// A cluster's controllers and verbs run under exactly the printed role, on a
// ledger that an operator has made. What is another cluster's, or the ledger's,
// they are refused, and the operator is not.
func TestEtcdRole_Works(t *testing.T) {
	t.Parallel()
	w := newWorld(t, state.Config{Quarantine: 2 * time.Second, GracePeriod: 2 * time.Second}, "node-1", "node-2", "node-3", "node-4")
	w.etcd.EnableAuth(t)
	const prefix = "/it's $HOME é/"
	east, west := w.hire(prefix, "east", "--cluster", "east"), w.hire(prefix, "west", "--cluster", "west")
	alice, reader := w.hire(prefix, "alice", "--operator"), w.hire(prefix, "reader", "--read-only")

	controller := w.start(east.flags...)
	w.saysThatThereIsNoLedger(controller, "east")
	east.fails(exitNotFound, "holdfast init", "init", "--driver", "csi.example.com")
	if got := alice.does("init", "--driver", "csi.example.com"); !strings.Contains(got, "is made") {
		t.Errorf("init: %q", got)
	}
	if got := east.does("init"); !strings.Contains(got, "driver csi.example.com is there already") {
		t.Errorf("init again: %q", got)
	}
	if err := controller.ready(t.Context(), patience); err != nil {
		t.Fatalf("%v; its log:\n%s", err, controller.tail())
	}
	second := w.controller(east.flags...)

	volumesOf(east, west)
	operatorsOnlyVerbs(east, alice, west, reader)

	t.Log("removals, and a change of the leader")
	east.does("attach", "vol-3", "node-3", "--cluster", "east")
	east.does("attach", "vol-4", "node-4", "--cluster", "east")
	w.removes(east, "node-3", "vol-3")
	first, next := controller, second
	if value, _, err := second.metric(t.Context(), `holdfast_leader{cluster="east"}`); err == nil && value == "1" {
		first, next = second, controller
	}
	first.kill()
	w.leads(next)
	w.removes(east, "node-4", "vol-4")
	if journal := east.does("journal", "--cluster", "east"); !strings.Contains(journal, "vol-4") || strings.Contains(journal, "frozen") {
		t.Errorf("the journal of east, as east:\n%s", journal)
	}
	next.mu.Lock()
	lines := slices.Clone(next.lines)
	next.mu.Unlock()
	for _, line := range lines {
		if strings.Contains(line, "permission denied") {
			t.Errorf("the controller was refused something: %s", line)
		}
	}
	endsWell(t, next)
}

// saysThatThereIsNoLedger: one clear line, in the log and in /readyz, and it waits.
func (w *world) saysThatThereIsNoLedger(c *child, user string) {
	w.t.Helper()
	w.eventually("/readyz says that there is no ledger", func(ctx context.Context) (bool, error) {
		code, body, err := c.get(ctx, "/readyz")
		return err == nil && code == http.StatusServiceUnavailable && strings.Contains(body, "no ledger below prefix") &&
			strings.Contains(body, `etcd user "`+user+`" may not make it`) && strings.Contains(body, "holdfast init"), nil
	})
	if log := c.tail(); !strings.Contains(log, "no ledger below prefix") || !strings.Contains(log, "holdfast init") {
		w.t.Errorf("the log does not say that there is no ledger:\n%s", log)
	}
	if !c.alive() {
		w.t.Error("the controller does not wait for a ledger")
	}
}

// removes takes a node away and waits for the end of its hold.
func (w *world) removes(as actor, node, volume string) {
	w.t.Helper()
	w.withoutNode(node)
	w.eventually(volume+" is removed from "+node, func(context.Context) (bool, error) {
		return strings.Contains(as.does("get", volume), "removed: NodeGone"), nil
	})
}

// volumesOf are the verbs of a cluster, beside another one.
func volumesOf(east, west actor) {
	t := east.t
	t.Helper()
	e, v := []string{"--cluster", "east"}, []string{"vol-1", "node-1"}
	with := func(args ...string) []string { return append(args, e...) }
	east.does("attach", with(v...)...)
	west.fails(exitConflict, "node node-1 of cluster east", "attach", "vol-1", "node-9", "--cluster", "west", "--cluster-uid", "of-west")
	if got := west.does("get", "vol-1"); !strings.Contains(got, "unknown") || !strings.Contains(got, "attached") {
		t.Errorf("west looks at what east holds: want it attached, and its standing unknown:\n%s", got)
	}
	if got := west.does("list"); !strings.Contains(got, "attached (or lapsed)") {
		t.Errorf("west lists what east holds:\n%s", got)
	}
	if got := west.does("list", "--state", "lapsed"); !strings.Contains(got, "attached (or lapsed)") {
		t.Errorf("west misses what may have lapsed of east's:\n%s", got)
	}
	east.does("migrate", with("vol-1", "--to", "node-2")...)
	east.does("migrate", with("vol-1", "--commit")...)
	east.does("detach", with("vol-1", "node-2")...)
	west.fails(exitConflict, "grace period", "attach", "vol-1", "node-9", "--cluster", "west")
	east.does("clear", with("vol-1")...)
	east.does("attach", with("vol-2", "node-2", "--mode", "shared")...)
	east.does("detach", with("--all-of-node", "node-2")...)
	east.does("pause", "east", "--reason", "why")
	east.does("resume", "east")
	east.does("resume", "east", "--brake", "--reason", "why")
	east.does("list", "--cluster", "east")
	east.does("journal", "--cluster", "east")
	east.does("plan", with("--nodes", east.nodes.path)...)
}

// operatorsOnlyVerbs are beyond a cluster's role and a reader's, and not beyond an
// operator's.
func operatorsOnlyVerbs(east, alice, west, reader actor) {
	t := east.t
	t.Helper()
	west.does("attach", "vol-w", "node-9", "--cluster", "west", "--attachment-ttl", "2s")
	east.does("attach", "vol-m", "node-1", "--cluster", "east")
	reader.beyond("detach", "vol-m", "node-1", "--cluster", "east")
	alice.does("list")
	evictable := func(context.Context) (bool, error) {
		return strings.Contains(alice.does("evict", "west", "--reason", "why"), "vol-w"), nil
	}
	alice.eventually("west's hold has lapsed", evictable)
	for _, line := range [][]string{
		{"freeze", "--reason", "why"},
		{"unfreeze"},
		{"pause", "west", "--reason", "why"},
		{"resume", "west"},
		{"resume", "west", "--brake", "--reason", "why"},
		{"evict", "west", "--reason", "why", "--yes"},
		{"migrate", "vol-m", "--to", "node-9", "--to-cluster", "west", "--cluster", "east"},
		{"migrate", "vol-m", "--commit", "--cluster", "east"},
		{"detach", "vol-m", "node-9", "--cluster", "west"},
		{"clear", "vol-m", "--cluster", "west"},
		{"clusters", "rebind", "west", "--uid", "of-west-2", "--reason", "why"},
		{"clusters"},
		{"journal"},
	} {
		verb, args := line[0], line[1:]
		own := slices.Contains(line, "--commit") // its own half of what alice has begun
		looks := len(line) == 1 && verb != "unfreeze"
		if verb == "unfreeze" {
			east.fails(exitFailed, "beyond the user's role", verb)
		} else if !own {
			east.beyond(verb, args...)
		}
		if looks {
			reader.does(verb, args...)
		}
		alice.does(verb, args...)
	}
}
