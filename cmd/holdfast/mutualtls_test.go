package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/state/statetest"
)

// authority is a CA that writes certificates into a folder: ca.pem, and NAME.pem
// and NAME-key.pem for each name.
type authority struct {
	t           *testing.T
	dir         string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	serial      int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.certificate, a.key = a.sign("ca", template)
	return a
}

func (a *authority) path(file string) string { return filepath.Join(a.dir, file) }

// sign writes one certificate, signed by the CA, or by itself while there is none.
func (a *authority) sign(name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.serial++
	template.SerialNumber = big.NewInt(a.serial)
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	writePEM(a.t, a.path(name+".pem"), "CERTIFICATE", der)
	writePEM(a.t, a.path(name+"-key.pem"), "PRIVATE KEY", private)
	return certificate, key
}

// server and client write certificates for the two ends.
func (a *authority) server(name string) {
	a.sign(name, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

func (a *authority) client(name string) {
	a.sign(name, &x509.Certificate{Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
}

// flags are those of a holdfast that comes as somebody.
func (a *authority) flags(name string) []string {
	return []string{"--cacert", a.path("ca.pem"), "--cert", a.path(name + ".pem"), "--key", a.path(name + "-key.pem")}
}

// etcdctl is the environment of an etcdctl that does.
func (a *authority) etcdctl(endpoint, name string) []string {
	return []string{"ETCDCTL_ENDPOINTS=" + endpoint, "ETCDCTL_CACERT=" + a.path("ca.pem"),
		"ETCDCTL_CERT=" + a.path(name+".pem"), "ETCDCTL_KEY=" + a.path(name+"-key.pem")}
}

// mutualEtcd starts the etcd binary so that it takes nobody without a certificate
// of the CA, with authentication on. It is killed at the test's end.
func mutualEtcd(t *testing.T, a *authority) (endpoint string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	endpoint = "https://" + listener.Addr().String()
	listener.Close()
	a.server("etcd")
	a.client("root")
	log := filepath.Join(t.TempDir(), "log")
	output, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	etcd := exec.Command(statetest.Binary(t, "etcd"), "--name=one", "--data-dir="+filepath.Join(t.TempDir(), "data"), "--unsafe-no-fsync",
		"--listen-client-urls="+endpoint, "--advertise-client-urls="+endpoint,
		"--listen-peer-urls=http://127.0.0.1:0", "--initial-advertise-peer-urls=http://127.0.0.1:0", "--initial-cluster=one=http://127.0.0.1:0",
		"--cert-file="+a.path("etcd.pem"), "--key-file="+a.path("etcd-key.pem"), "--trusted-ca-file="+a.path("ca.pem"), "--client-cert-auth",
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
		a.client(name)
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
	nobody := &remote{t, w.program, []string{"--cacert", a.path("ca.pem"), "--endpoints", endpoint}}
	nobody.fails("certificate required", "get", "vol-1")
	other := newAuthority(t)
	other.client("east")
	forged := append(other.flags("east"), "--endpoints", endpoint)
	forged[1] = a.path("ca.pem")
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
