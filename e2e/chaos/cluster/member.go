package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"

	"github.com/holdfast-storage/holdfast/state/statetest"
)

// Member is one etcd process and what it keeps over its restarts: its name,
// its addresses, its data.
type Member struct {
	cluster *Cluster
	index   int
	name    string
	client  string // address
	peer    string // address; the others know the proxy's
	gofail  string // address
	proxy   *peerProxy

	mu       sync.Mutex
	command  *exec.Cmd     // nil while it does not run
	ended    chan struct{} // closed when the process has ended
	data     string        // folder
	existing bool          // joins members that there are already
	crashes  []string
}

func newMember(c *Cluster, i int) (*Member, error) {
	m := &Member{
		cluster: c,
		index:   i,
		name:    "member-" + strconv.Itoa(i),
		client:  freeAddress(),
		peer:    freeAddress(),
		gofail:  freeAddress(),
	}
	m.data = c.path(m.name)
	var err error
	m.proxy, err = openPeerProxy(c, i, m.peer)
	return m, err
}

func freeAddress() string { return "127.0.0.1:" + strconv.Itoa(statetest.FreePort()) }

// Endpoint is the member's own URL for clients, past every proxy.
func (m *Member) Endpoint() string { return "http://" + m.client }

// Name is the member's name in etcd.
func (m *Member) Name() string { return m.name }

// PID is the process's ID, 0 while it does not run.
func (m *Member) PID() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.runs() {
		return 0
	}
	return m.command.Process.Pid
}

// Start starts the member where it does not run. It does not wait: see Cluster.Healthy.
func (m *Member) Start() error {
	if m.PID() != 0 {
		return nil
	}
	return m.launch()
}

func (m *Member) launch() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	output, err := os.OpenFile(m.cluster.path(m.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer output.Close()
	command := exec.Command(m.cluster.opts.Etcd, m.args()...)
	command.Env = append(os.Environ(), "GOFAIL_HTTP="+m.gofail)
	command.Stdout, command.Stderr = output, output
	statetest.EndWithParent(command)
	if err := command.Start(); err != nil {
		return fmt.Errorf("cluster: start %s: %w", m.name, err)
	}
	m.cluster.log.Debug("started", "member", m.name, "pid", command.Process.Pid)
	m.command, m.ended = command, make(chan struct{})
	go m.await(command, m.ended)
	return nil
}

// await notes an end that nobody ordered.
func (m *Member) await(command *exec.Cmd, ended chan struct{}) {
	err := command.Wait()
	close(ended)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.command != command {
		return
	}
	crash := fmt.Sprintf("%s ended by itself at %v: %v", m.name, m.cluster.opts.Now(), err)
	m.crashes = append(m.crashes, crash)
	m.cluster.log.Warn(crash, "log", m.cluster.path(m.name+".log"))
}

func (m *Member) args() []string {
	c := m.cluster
	state, c0 := "new", c.currentToken()
	if m.existing {
		state = "existing"
	}
	args := []string{
		"--name=" + m.name, "--data-dir=" + m.data,
		"--listen-client-urls=" + m.Endpoint(), "--advertise-client-urls=" + m.Endpoint(),
		"--listen-peer-urls=http://" + m.peer, "--initial-advertise-peer-urls=" + m.proxy.url(),
		"--initial-cluster=" + c.initial(), "--initial-cluster-state=" + state, "--initial-cluster-token=" + c0,
		"--log-level=warn", "--bcrypt-cost=4", "--auth-token=" + c.tokens(),
	}
	if !c.opts.Fsync {
		args = append(args, "--unsafe-no-fsync")
	}
	return append(args, c.opts.Args...)
}

// Kill ends the process with SIGKILL, wherever it stands, and returns once it
// is gone. Its data stays; Start starts it again.
func (m *Member) Kill() {
	m.mu.Lock()
	command, ended := m.command, m.ended
	m.command = nil // from here on its end is wanted
	m.mu.Unlock()
	if command == nil {
		return
	}
	command.Process.Kill()
	<-ended
}

// Freeze stops the process in its tracks with SIGSTOP, and returns once it
// stands still: its connections stay open, and nothing is answered.
func (m *Member) Freeze() error {
	if err := m.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	if pid := m.PID(); pid != 0 {
		statetest.WaitFrozen(pid)
	}
	return nil
}

// Thaw ends Freeze, and is nothing to a member that is not frozen.
func (m *Member) Thaw() error { return m.signal(syscall.SIGCONT) }

func (m *Member) signal(signal syscall.Signal) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.runs() {
		return nil
	}
	if err := m.command.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("cluster: %v to %s: %w", signal, m.name, err)
	}
	return nil
}

// runs needs the lock.
func (m *Member) runs() bool {
	if m.command == nil {
		return false
	}
	select {
	case <-m.ended:
		return false
	default:
		return true
	}
}

// rejoin has the member join the others as a new one, with no data.
func (m *Member) rejoin() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.existing = true
	return os.RemoveAll(m.data)
}

// refound has the member begin at the data of a restored snapshot.
func (m *Member) refound(data string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.data
	m.data, m.existing = data, false
	return os.RemoveAll(old)
}

// Crashes tells of every process that ended by itself, over the cluster's
// life: etcd does so on a panic. A run should end with none.
func (c *Cluster) Crashes() []string {
	var all []string
	for _, m := range c.members {
		m.mu.Lock()
		all = append(all, m.crashes...)
		m.mu.Unlock()
	}
	return all
}

// startAll starts every member that does not run, and waits until they are healthy.
func (c *Cluster) startAll(ctx context.Context) error {
	for _, m := range c.members {
		if err := m.Start(); err != nil {
			return err
		}
	}
	return c.Healthy(ctx)
}
