package apiserver

import (
	"context"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/holdfast-storage/holdfast/state/statetest"
)

// startTimeout is what a server gets on a machine that is busy: it is ready in
// about 5 s on one that is not.
const startTimeout = 2 * time.Minute

// Server is a kube-apiserver as a process, with an etcd of its own.
type Server struct {
	// Name tells servers apart, in messages and in the audit log.
	Name string

	tb    testing.TB
	bin   string
	dir   string
	port  int
	etcd  string // its endpoint
	ca    *authority
	admin *rest.Config

	mu      sync.Mutex
	command *exec.Cmd     // nil while it does not run
	ended   chan struct{} // closed when the process has ended
}

// Start starts a server, and returns once it is ready and has its system
// namespaces. kubeAPIServer and etcd are the binaries. It is killed, and its
// data removed, when the test ends.
func Start(tb testing.TB, name, kubeAPIServer, etcd string) *Server {
	tb.Helper()
	return StartOn(tb, name, kubeAPIServer, statetest.StartProcess(tb, etcd).Endpoint())
}

// StartOn is Start on an etcd that runs already, and is its caller's.
func StartOn(tb testing.TB, name, kubeAPIServer, etcd string) *Server {
	tb.Helper()
	s := &Server{Name: name, tb: tb, bin: kubeAPIServer, dir: tb.TempDir(), port: freePort(tb), etcd: etcd, ca: newAuthority(tb, "ca of "+name)}
	s.writeFiles()
	cert, key := s.ca.issue(tb, pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}})
	s.admin = &rest.Config{
		Host: s.URL(), QPS: 1000, Burst: 2000,
		TLSClientConfig: rest.TLSClientConfig{CAData: s.ca.pem, CertData: cert, KeyData: key},
	}
	tb.Cleanup(s.Kill)
	s.Launch(tb)
	s.AwaitReady(tb)
	return s
}

// URL is where the server is reached, past all proxies.
func (s *Server) URL() string { return "https://" + s.address() }

func (s *Server) address() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// Admin is a configuration that may do everything.
func (s *Server) Admin() *rest.Config { return rest.CopyConfig(s.admin) }

// Client is a client that may do everything.
func (s *Server) Client(tb testing.TB) kubernetes.Interface {
	tb.Helper()
	return must(kubernetes.NewForConfig(s.admin))(tb)
}

// AuditLog is the file of the server's requests, an object a line.
func (s *Server) AuditLog() string { return filepath.Join(s.dir, "audit.log") }

func (s *Server) writeFiles() {
	cert, key := s.ca.issue(s.tb, pkix.Name{CommonName: "kube-apiserver"})
	for name, data := range map[string][]byte{
		"ca.crt": s.ca.pem, "server.crt": cert, "server.key": key,
		"service-accounts.key": signingKey(s.tb), "audit.yaml": []byte(auditPolicy),
	} {
		write(s.tb, s.dir, name, data)
	}
}

// auditPolicy keeps what service accounts ask for.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  userGroups: ["system:serviceaccounts"]
- level: None
`

func (s *Server) arguments() []string {
	file := func(name string) string { return filepath.Join(s.dir, name) }
	return []string{
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", s.port), "--advertise-address=127.0.0.1",
		"--etcd-servers=" + s.etcd,
		"--authorization-mode=RBAC", "--anonymous-auth=true",
		"--client-ca-file=" + file("ca.crt"), "--tls-cert-file=" + file("server.crt"), "--tls-private-key-file=" + file("server.key"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + file("service-accounts.key"), "--service-account-signing-key-file=" + file("service-accounts.key"),
		"--service-cluster-ip-range=10.0.0.0/24", "--endpoint-reconciler-type=none",
		"--audit-policy-file=" + file("audit.yaml"), "--audit-log-path=" + s.AuditLog(), "--audit-log-mode=blocking",
		"--shutdown-delay-duration=0s", "--v=0",
	}
}

// Launch starts the process, on its data and at its address, and waits for
// nothing: it refuses connections, and later answers that it is not ready.
func (s *Server) Launch(tb testing.TB) {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.command != nil {
		tb.Fatalf("API server %s runs already", s.Name)
	}
	output := must(os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600))(tb)
	defer output.Close()
	command := exec.Command(s.bin, s.arguments()...)
	command.Stdout, command.Stderr = output, output
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		tb.Fatalf("API server %s: %v", s.Name, err)
	}
	ended := make(chan struct{})
	go func() {
		command.Wait() // it is killed
		close(ended)
	}()
	s.command, s.ended = command, ended
}

// AwaitReady waits until the server is ready and kube-system is there.
func (s *Server) AwaitReady(tb testing.TB) {
	tb.Helper()
	client := s.Client(tb)
	s.mu.Lock()
	ended := s.ended
	s.mu.Unlock()
	for deadline := time.Now().Add(startTimeout); ; {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		err := ready(ctx, client)
		cancel()
		if err == nil {
			return
		}
		select {
		case <-ended:
			tb.Fatalf("API server %s has ended; the end of its log:\n%s", s.Name, s.logTail())
		case <-time.After(100 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			tb.Fatalf("API server %s is not ready after %v: %v; the end of its log:\n%s", s.Name, startTimeout, err, s.logTail())
		}
	}
}

func ready(ctx context.Context, client kubernetes.Interface) error {
	if err := client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error(); err != nil {
		return err
	}
	for _, namespace := range []string{metav1.NamespaceSystem, metav1.NamespaceDefault} {
		if _, err := client.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// Kill ends the process with SIGKILL and returns once it is gone. Its data
// stays; Launch starts it again.
func (s *Server) Kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.command == nil {
		return
	}
	if err := s.command.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.tb.Errorf("API server %s: %v", s.Name, err)
	}
	<-s.ended
	s.command = nil
}

// Running tells whether the process runs, as far as Launch and Kill know.
func (s *Server) Running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.command != nil
}

func (s *Server) logTail() string {
	tail, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(tail[max(0, len(tail)-3000):])
}

// freePort picks a port below the range of outgoing connections' ports, so that
// a server that is down for a while finds it free.
func freePort(tb testing.TB) int {
	tb.Helper()
	for range 100 {
		port := 12000 + rand.IntN(7000)
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			listener.Close()
			return port
		}
	}
	tb.Fatal("no free port")
	return 0
}
