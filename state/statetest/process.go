package statetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Process is the etcd binary as a process of its own, of one member, for tests
// that kill it or stop it in its tracks.
type Process struct {
	Access
	bin, dir, peer string
	secure         []string // flags

	mu      sync.Mutex
	command *exec.Cmd     // nil while it does not run
	ended   chan struct{} // closed when the process has ended
}

// Binary finds a program in the bin folder at the root of the module, where
// "make etcd" puts etcd, etcdctl and etcdutl. It skips the test where the
// program has not been built.
func Binary(tb testing.TB, name string) string {
	tb.Helper()
	dir, err := os.Getwd()
	if err != nil {
		tb.Fatal(err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == filepath.Dir(dir) {
			tb.Fatal("statetest: no go.mod above the test's folder")
		}
	}
	bin := filepath.Join(dir, "bin", name)
	if _, err := os.Stat(bin); err != nil {
		tb.Skipf("statetest: %s is not there: build it with 'make etcd'", bin)
	}
	return bin
}

// StartProcess starts the etcd binary bin on a data folder of its own, and
// returns once it serves. It is killed, and its data removed, when the test ends.
func StartProcess(tb testing.TB, bin string) *Process {
	tb.Helper()
	return startProcess(tb, bin, nil)
}

// StartSecureProcess is StartProcess for an etcd that takes nobody without a
// certificate of a. It reads "etcd.pem" for each connection, and "ca.pem" when it
// starts; Client comes as root.
func StartSecureProcess(tb testing.TB, bin string, a *Authority) *Process {
	tb.Helper()
	a.Server("etcd")
	a.Client(RootUser)
	return startProcess(tb, bin, a)
}

func startProcess(tb testing.TB, bin string, a *Authority) *Process {
	tb.Helper()
	dir, err := dataFolder()
	if err != nil {
		tb.Fatal(err)
	}
	p := &Process{bin: bin, dir: dir, peer: "http://" + loopback(FreePort())}
	p.endpoints = []string{"http://" + loopback(FreePort())}
	if p.authority = a; a != nil {
		p.endpoints = []string{"https://" + loopback(FreePort())}
		p.secure = []string{"--cert-file=" + a.Path("etcd.pem"), "--key-file=" + a.Path("etcd-key.pem"),
			"--trusted-ca-file=" + a.Path("ca.pem"), "--client-cert-auth"}
	}
	tb.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	p.Start(tb)
	return p
}

// Start starts the process again, on its data and at its address, and returns
// once it serves.
func (p *Process) Start(tb testing.TB) {
	tb.Helper()
	log := filepath.Join(p.dir, "log")
	if err := p.launch(log); err != nil {
		tb.Fatalf("statetest: start %s: %v", p.bin, err)
	}
	if err := p.serving(); err != nil {
		tail, _ := os.ReadFile(log)
		tb.Fatalf("statetest: %s does not serve: %v; the end of its log:\n%s", p.bin, err, tail[max(0, len(tail)-2000):])
	}
}

func (p *Process) launch(log string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.command != nil {
		return errors.New("it runs already")
	}
	output, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer output.Close()
	command := exec.Command(p.bin, append(slices.Clone(p.secure),
		"--name=statetest", "--data-dir="+filepath.Join(p.dir, "data"),
		"--listen-client-urls="+p.endpoints[0], "--advertise-client-urls="+p.endpoints[0],
		"--listen-peer-urls="+p.peer, "--initial-advertise-peer-urls="+p.peer, "--initial-cluster=statetest="+p.peer,
		"--log-level=warn")...)
	command.Stdout, command.Stderr = output, output
	EndWithParent(command)
	if err := command.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		command.Wait()
		close(ended)
	}()
	p.command, p.ended = command, ended
	return nil
}

// serving waits until the process answers.
func (p *Process) serving() error {
	client, err := p.rawClient()
	if err != nil {
		return err
	}
	defer client.Close()
	p.mu.Lock()
	ended := p.ended
	p.mu.Unlock()
	for deadline := time.Now().Add(startTimeout); ; {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err := client.Get(ctx, "a", clientv3.WithCountOnly())
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-ended:
			return errors.New("it ended")
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %v: %w", startTimeout, err)
		}
	}
}

// Kill ends the process with SIGKILL, wherever it stands, and returns once it
// is gone. Its data stays; Start starts it again.
func (p *Process) Kill() { p.signal(syscall.SIGKILL) }

// Stop ends the process with SIGTERM, a frozen one too, and returns once it is gone.
func (p *Process) Stop() { p.signal(syscall.SIGTERM) }

// Freeze stops the process in its tracks with SIGSTOP, and returns once it
// stands still: its connections stay open and nothing is answered. Thaw lets
// it go on.
func (p *Process) Freeze() {
	p.signal(syscall.SIGSTOP)
	if pid := p.PID(); pid != 0 {
		WaitFrozen(pid)
	}
}

// Thaw ends Freeze.
func (p *Process) Thaw() { p.signal(syscall.SIGCONT) }

// signal is nothing to a process that is not there, which is what the signals
// that end it are for.
func (p *Process) signal(signal syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.command == nil {
		return
	}
	p.command.Process.Signal(signal)
	if signal == syscall.SIGTERM {
		p.command.Process.Signal(syscall.SIGCONT) // a frozen one would not hear it
	}
	if signal == syscall.SIGKILL || signal == syscall.SIGTERM {
		<-p.ended
		p.command = nil
	}
}

// PID is the process's ID, 0 while there is none.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.command == nil {
		return 0
	}
	return p.command.Process.Pid
}

// Endpoint is the URL that clients reach the process at.
func (p *Process) Endpoint() string { return p.endpoints[0] }

// Proxy puts a new proxy in front of the process, to make faults with.
func (p *Process) Proxy(tb testing.TB) *Proxy {
	tb.Helper()
	return NewProxy(tb, p.Endpoint())
}
