package statetest

import (
	"os"
	"sync"
	"syscall"
	"testing"
)

// Process is the etcd binary as a process of its own, of one member, for tests
// that kill it or stop it in its tracks.
type Process struct {
	Access
	bin  string
	with settings

	mu      sync.Mutex
	running *running // nil while it does not run
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
	with, err := newSettings(nil)
	if err != nil {
		tb.Fatal(err)
	}
	with.authority = a
	with.client = loopback(FreePort())
	p := &Process{bin: bin, with: with}
	p.endpoints, p.authority = []string{with.endpoint()}, a
	tb.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		if err := os.RemoveAll(with.dir); err != nil {
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
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running != nil {
		tb.Fatalf("statetest: start %s: it runs already", p.bin)
	}
	err := untilFree(func() (err error) {
		p.running, err = p.with.startProcess(p.bin)
		return err
	})
	if err != nil {
		tb.Fatal(err)
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
	if p.running == nil {
		return
	}
	p.running.signal(signal)
	if signal == syscall.SIGKILL || signal == syscall.SIGTERM {
		p.running = nil
	}
}

// PID is the process's ID, 0 while there is none.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == nil {
		return 0
	}
	return p.running.command.Process.Pid
}

// Endpoint is the URL that clients reach the process at.
func (p *Process) Endpoint() string { return p.endpoints[0] }

// Proxy puts a new proxy in front of the process, to make faults with.
func (p *Process) Proxy(tb testing.TB) *Proxy {
	tb.Helper()
	return NewProxy(tb, p.Endpoint())
}
