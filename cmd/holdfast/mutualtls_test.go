package main

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-storage/holdfast/state/statetest"
)

// authority is a CA, and what its certificates look like to programs.
type authority struct{ *statetest.Authority }

func newAuthority(t *testing.T) authority { return authority{statetest.NewAuthority(t)} }

// flags are those of a holdfast that comes as somebody.
func (a authority) flags(name string) []string {
	return []string{"--cacert", a.Path("ca.pem"), "--cert", a.Path(name + ".pem"), "--key", a.Path(name + "-key.pem")}
}

// etcdctl is the environment of an etcdctl that does.
func (a authority) etcdctl(endpoint, name string) []string {
	return []string{"ETCDCTL_ENDPOINTS=" + endpoint, "ETCDCTL_CACERT=" + a.Path("ca.pem"),
		"ETCDCTL_CERT=" + a.Path(name+".pem"), "ETCDCTL_KEY=" + a.Path(name+"-key.pem")}
}

// mutualEtcd starts the etcd binary so that it takes nobody without a certificate
// of the CA, with authentication on. It is killed at the test's end.
func mutualEtcd(t *testing.T, a authority) (endpoint string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	endpoint = "https://" + listener.Addr().String()
	listener.Close()
	a.Server("etcd")
	a.Client("root")
	log := filepath.Join(t.TempDir(), "log")
	output, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	etcd := exec.Command(statetest.Binary(t, "etcd"), "--name=one", "--data-dir="+filepath.Join(t.TempDir(), "data"), "--unsafe-no-fsync",
		"--listen-client-urls="+endpoint, "--advertise-client-urls="+endpoint,
		"--listen-peer-urls=http://127.0.0.1:0", "--initial-advertise-peer-urls=http://127.0.0.1:0", "--initial-cluster=one=http://127.0.0.1:0",
		"--cert-file="+a.Path("etcd.pem"), "--key-file="+a.Path("etcd-key.pem"), "--trusted-ca-file="+a.Path("ca.pem"), "--client-cert-auth",
		"--log-level=warn")
	etcd.Stdout, etcd.Stderr = output, output
	endWithParent(etcd)
	if err := etcd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = etcd.Process.Kill()
		_ = etcd.Wait()
		if said, err := os.ReadFile(log); err == nil && t.Failed() {
			t.Logf("the end of etcd's log:\n%s", said[max(0, len(said)-3000):])
		}
	})
	bash(t, "etcdctl --command-timeout=30s get nothing\netcdctl user add --no-password root\netcdctl user grant-role root root\netcdctl auth enable",
		a.etcdctl(endpoint, "root")...)
	return endpoint
}

// With mutual TLS a certificate's common name is the etcd user: a controller and
// the verbs need no password, and run under exactly the printed role.
func TestMutualTLS(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	endpoint := mutualEtcd(t, a)
	for _, name := range []string{"east", "alice", "stranger"} {
		a.Client(name)
	}
	for _, args := range [][]string{
		{"--cluster", "east", "--user", "east", "--no-password"},
		{"--operator", "--user", "alice", "--no-password"},
	} {
		bash(t, etcdRoleOutput(t, args...), a.etcdctl(endpoint, "root")...)
	}
	w := &world{t: t, program: binary(t), nodes: &nodeFile{path: filepath.Join(t.TempDir(), "nodes.json")}}
	w.setNodes("node-1", "node-2", "node-3")
	as := func(name string) *remote {
		return &remote{t, w.program, append(a.flags(name), "--endpoints", endpoint)}
	}
	east, alice := as("east"), as("alice")

	controller, err := startChild(w.program, append([]string{"controller", "--cluster", "east", "--nodes", w.nodes.path, "--listen", "127.0.0.1:0",
		"--quarantine", "0", "--election-ttl", "2s"}, east.flags...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(controller.kill)
	w.saysThatThereIsNoLedger(controller, "east")
	alice.does("init")
	if err := controller.ready(t.Context(), patience); err != nil {
		t.Fatalf("%v; its log:\n%s", err, controller.tail())
	}
	east.does("attach", "vol-1", "node-1", "--cluster", "east")
	w.withoutNode("node-1")
	w.eventually("vol-1 is removed", func(context.Context) (bool, error) {
		return strings.Contains(east.does("get", "vol-1"), "removed: NodeGone"), nil
	})
	east.fails("beyond the user's role", "freeze", "--reason", "why")
	alice.does("freeze", "--reason", "why")
	alice.does("unfreeze")

	as("stranger").fails(`as user "stranger"`, "get", "vol-1")
	nobody := &remote{t, w.program, []string{"--cacert", a.Path("ca.pem"), "--endpoints", endpoint}}
	nobody.fails("certificate required", "get", "vol-1")
	other := newAuthority(t)
	other.Client("east")
	forged := append(other.flags("east"), "--endpoints", endpoint)
	forged[1] = a.Path("ca.pem")
	(&remote{t, w.program, forged}).fails("certificate", "get", "vol-1")
	endsWell(t, controller)
}

// remote is a holdfast with the flags that reach an etcd.
type remote struct {
	t       *testing.T
	program string
	flags   []string
}

func (r *remote) does(verb string, args ...string) string {
	r.t.Helper()
	out, err := commandOutput(r.t, r.program, append(append([]string{verb}, args...), r.flags...)...)
	if err != nil {
		r.t.Fatalf("holdfast %s %q: %v", verb, args, err)
	}
	return out
}

func (r *remote) fails(why, verb string, args ...string) {
	r.t.Helper()
	_, err := commandOutput(r.t, r.program, append(append([]string{verb}, args...), r.flags...)...)
	if err == nil || !strings.Contains(err.Error(), why) {
		r.t.Errorf("holdfast %s %q: %v, want an error with %q", verb, args, err, why)
	}
}
