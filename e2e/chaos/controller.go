package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/holdfast-storage/holdfast/failpoint"
)

// restartAfter is how long a controller that has ended stays away, as a kubelet
// would let it.
const restartAfter = 300 * time.Millisecond

// controller is one replica of one cluster: the built binary, started again
// whenever it ends.
type controller struct {
	name, bin, folder string
	args              []string
	env               func(start int) []string

	mu      sync.Mutex
	process *os.Process // nil while it does not run
	held    bool        // stopped by SIGSTOP
	away    bool        // not to be started again for now
	starts  int
	kills   int
	own     int // ends that nobody caused
	wake    chan struct{}
}

func newController(name, bin, folder string, env func(start int) []string, args ...string) *controller {
	return &controller{name: name, bin: bin, folder: folder, args: args, env: env, wake: make(chan struct{}, 1)}
}

func (c *controller) log() string     { return filepath.Join(c.folder, c.name+".log") }
func (c *controller) control() string { return filepath.Join(c.folder, c.name+".sock") }

// run keeps it running until ctx ends, and then ends it as an operator would.
func (c *controller) run(ctx context.Context) error {
	log, err := os.OpenFile(c.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	for ctx.Err() == nil {
		if c.isAway() {
			c.pause(ctx)
			continue
		}
		ended, err := c.start(log)
		if err != nil {
			return fmt.Errorf("starting controller %s: %w", c.name, err)
		}
		select {
		case err := <-ended:
			c.gone(err)
		case <-ctx.Done():
			c.signal(syscall.SIGCONT)
			c.signal(syscall.SIGTERM)
			select {
			case err := <-ended:
				return c.last(err)
			case <-time.After(20 * time.Second):
				c.signal(syscall.SIGKILL)
				<-ended
				return fmt.Errorf("controller %s did not end within 20 s of SIGTERM", c.name)
			}
		}
		c.pause(ctx)
	}
	return nil
}

func (c *controller) start(log *os.File) (<-chan error, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cmd := exec.Command(c.bin, c.args...)
	cmd.Env = append(os.Environ(), failpoint.ControlVar+"="+c.control(), "GORACE=halt_on_error=1 exitcode=66")
	cmd.Env = append(cmd.Env, c.env(c.starts)...)
	cmd.Stdout, cmd.Stderr = log, log
	endWithUs(cmd)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c.process, c.held = cmd.Process, false
	c.starts++
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return ended, nil
}

// gone notes an end that this run has not asked for.
func (c *controller) gone(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.process, c.held = nil, false
	if !killed(err) {
		c.own++
	}
}

func (c *controller) last(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.process = nil
	if err != nil && !killed(err) && !terminated(err) {
		return fmt.Errorf("controller %s ended with %w", c.name, err)
	}
	return nil
}

func killed(err error) bool     { return signalled(err, syscall.SIGKILL) }
func terminated(err error) bool { return signalled(err, syscall.SIGTERM) }

func signalled(err error, with syscall.Signal) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == with
}

// pause waits for the next start.
func (c *controller) pause(ctx context.Context) {
	timer := time.NewTimer(restartAfter)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.wake:
	case <-ctx.Done():
	}
}

func (c *controller) isAway() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.away
}

// stayAway kills it, and keeps it from being started until comeBack.
func (c *controller) stayAway() {
	c.mu.Lock()
	c.away = true
	c.mu.Unlock()
	c.kill()
}

func (c *controller) comeBack() {
	c.mu.Lock()
	c.away = false
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *controller) kill() {
	c.mu.Lock()
	if c.process != nil {
		c.kills++
	}
	c.mu.Unlock()
	c.signal(syscall.SIGKILL)
}

// hold stops it in its tracks for d.
func (c *controller) hold(ctx context.Context, d time.Duration) {
	c.signal(syscall.SIGSTOP)
	sleep(ctx, d)
	c.signal(syscall.SIGCONT)
}

func (c *controller) signal(s syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != nil {
		_ = c.process.Signal(s) // it may just have ended
	}
}

// faults are what its log tells of itself: a race, a panic.
func (c *controller) faults() error {
	text, err := os.ReadFile(c.log())
	if err != nil {
		return err
	}
	for _, bad := range []string{"WARNING: DATA RACE", "panic:", "fatal error:"} {
		if i := bytes.Index(text, []byte(bad)); i >= 0 {
			return fmt.Errorf("controller %s: %s", c.name, text[i:min(len(text), i+2000)])
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
