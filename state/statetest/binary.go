package statetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// running is an etcd binary as a process, until it ends.
type running struct {
	command *exec.Cmd
	ended   chan struct{} // closed when it has
}

// startProcess starts the etcd binary bin, and returns once it serves.
func (s settings) startProcess(bin string) (*running, error) {
	log := filepath.Join(s.dir, "log")
	r, err := s.launch(bin, log)
	if err != nil {
		return nil, fmt.Errorf("statetest: start %s: %w", bin, err)
	}
	if err := r.serving(Access{endpoints: []string{s.endpoint()}, authority: s.authority}); err != nil {
		r.signal(syscall.SIGKILL)
		text, _ := os.ReadFile(log)
		if bytes.Contains(text, []byte("address already in use")) {
			err = errors.Join(err, syscall.EADDRINUSE)
		}
		return nil, fmt.Errorf("statetest: %s does not serve: %w; the end of its log:\n%s", bin, err, text[max(0, len(text)-2000):])
	}
	return r, nil
}

// launch writes a new log: what it says of an earlier start is no news.
func (s settings) launch(bin, log string) (*running, error) {
	output, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer output.Close()
	command := exec.Command(bin, s.flags()...)
	command.Stdout, command.Stderr = output, output
	EndWithParent(command)
	if err := command.Start(); err != nil {
		return nil, err
	}
	r := &running{command: command, ended: make(chan struct{})}
	go func() {
		command.Wait()
		close(r.ended)
	}()
	return r, nil
}

// serving waits until the process answers a read. Whom it is from does not
// matter: one that asks for a name has read what it knows already.
func (r *running) serving(at Access) error {
	client, err := at.rawClient()
	if err != nil {
		return err
	}
	defer client.Close()
	for deadline := time.Now().Add(startTimeout); ; {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err := client.Get(ctx, "a", clientv3.WithCountOnly())
		cancel()
		if err == nil || errors.Is(err, rpctypes.ErrUserEmpty) {
			return nil
		}
		select {
		case <-r.ended:
			return errors.New("it ended")
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %v: %w", startTimeout, err)
		}
	}
}

// signal returns once what the signal ends has ended.
func (r *running) signal(signal syscall.Signal) {
	r.command.Process.Signal(signal)
	if signal == syscall.SIGTERM {
		r.command.Process.Signal(syscall.SIGCONT) // a frozen one would not hear it
	}
	if signal == syscall.SIGKILL || signal == syscall.SIGTERM {
		<-r.ended
	}
}

func (r *running) Close() error { r.signal(syscall.SIGTERM); return nil }
func (r *running) kill() error  { r.signal(syscall.SIGKILL); return nil }
