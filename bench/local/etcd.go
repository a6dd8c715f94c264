package local

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Etcd is an etcd whose members run.
type Etcd struct {
	Endpoints []string
	members   []*process
}

// startWithin is how long members may take until all of them serve.
const startWithin = time.Minute

// Start starts an etcd of so many members, with its data in dir, and returns once
// it serves. What members warn of goes to log.
func Start(ctx context.Context, members int, dir string, log io.Writer) (*Etcd, error) {
	ctx, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	var peers, initial []string
	for i := range members {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		peers = append(peers, fmt.Sprintf("http://127.0.0.1:%d", port))
		initial = append(initial, name(i)+"="+peers[i])
	}
	e := &Etcd{}
	for i := range members {
		p, err := start(log, member{
			Name: name(i), Dir: filepath.Join(dir, name(i)), Peer: peers[i], Initial: strings.Join(initial, ","), Token: filepath.Base(dir),
		})
		if err != nil {
			return nil, errors.Join(err, e.Close())
		}
		e.members = append(e.members, p)
	}
	for _, p := range e.members {
		endpoint, err := p.ready(ctx)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("starting an etcd of %d members: %w", members, err), e.Close())
		}
		e.Endpoints = append(e.Endpoints, endpoint)
	}
	return e, nil
}

func name(i int) string { return fmt.Sprintf("member-%d", i) }

// freePort may be taken by somebody else before it is used; then the member says so.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil //nolint:forcetypeassert // of a tcp listener
}

// PIDs are the members' processes.
func (e *Etcd) PIDs() []int {
	var all []int
	for _, p := range e.members {
		all = append(all, p.cmd.Process.Pid)
	}
	return all
}

// Close stops the members and returns once they have ended.
func (e *Etcd) Close() error {
	for _, p := range e.members {
		_ = p.stdin.Close() // which ends it
	}
	var errs []error
	for _, p := range e.members {
		errs = append(errs, p.end())
	}
	return errors.Join(errs...)
}

// process is a member that was started.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	says  chan string // its endpoint; closed when it says no more
	once  sync.Once
	err   error
}

// endWithin is how long a member may take to end by itself.
const endWithin = 10 * time.Second

func start(log io.Writer, m member) (*process, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), variable+"="+string(config))
	cmd.Stderr = log
	endWithParent(cmd)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", program, err)
	}
	p := &process{cmd: cmd, stdin: stdin, says: make(chan string, 1)}
	go func() {
		defer close(p.says)
		if line, err := bufio.NewReader(stdout).ReadString('\n'); err == nil {
			p.says <- strings.TrimSpace(line)
		}
	}()
	return p, nil
}

func (p *process) ready(ctx context.Context) (endpoint string, err error) {
	select {
	case endpoint, ok := <-p.says:
		if !ok {
			return "", errors.New("a member ended at its start; its last words are in the log")
		}
		return endpoint, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (p *process) end() error {
	p.once.Do(func() {
		killing := time.AfterFunc(endWithin, func() { _ = p.cmd.Process.Kill() })
		defer killing.Stop()
		p.err = p.cmd.Wait()
	})
	return p.err
}
