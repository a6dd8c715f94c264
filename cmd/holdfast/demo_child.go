package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
)

// child is a holdfast that runs as a process of its own.
type child struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has, and its log is read to the end

	mu      sync.Mutex
	address string // where it serves /readyz and /metrics; empty until it says so
	lines   []string
}

const (
	// childLines is how much of a child's log is kept.
	childLines = 200
	tailLines  = 12
	// childPatience is how long a child may take to end by itself.
	childPatience = 5 * time.Second
)

// servingAt finds the address in the line that a controller logs when it serves.
var servingAt = regexp.MustCompile(`serving /metrics.*\baddress=(\S+)`)

// startChild starts program with args, without what the environment says to a
// holdfast: that is meant for the caller's.
func startChild(program string, args ...string) (*child, error) {
	cmd := exec.Command(program, args...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "HOLDFAST_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	endWithParent(cmd)
	log, err := cmd.StderrPipe()
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", program, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", program, err)
	}
	c := &child{cmd: cmd, ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		c.read(log)
		_ = cmd.Wait() // the exit code is in the process's state
	}()
	return c, nil
}

// read keeps the log's end until the process closes it.
func (c *child) read(log io.Reader) {
	lines := bufio.NewReader(log)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			c.mu.Lock()
			if m := servingAt.FindStringSubmatch(line); m != nil {
				c.address = m[1]
			}
			c.lines = append(c.lines, strings.TrimRight(line, "\n"))
			if len(c.lines) > childLines {
				c.lines = c.lines[1:]
			}
			c.mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}

// alive says whether the process still runs.
func (c *child) alive() bool {
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// tail is the end of the log.
func (c *child) tail() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.lines[max(0, len(c.lines)-tailLines):], "\n")
}

// url is where path is served; empty until the process has said where.
func (c *child) url(path string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.address == "" {
		return ""
	}
	return "http://" + c.address + path
}

// get asks the process over HTTP.
func (c *child) get(ctx context.Context, path string) (int, string, error) {
	url := c.url(path)
	if url == "" {
		return 0, "", errors.New("it has not said where it serves")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// ready waits until the process says that it is.
func (c *child) ready(ctx context.Context, limit time.Duration) error {
	last := "it has not said where it serves"
	err := until(ctx, limit, "the controller is ready", func(ctx context.Context) (bool, error) {
		if !c.alive() {
			return false, fmt.Errorf("the controller has ended: %s", c.cmd.ProcessState)
		}
		code, body, err := c.get(ctx, "/readyz")
		last = body
		if err != nil {
			last = err.Error()
		}
		return err == nil && code == http.StatusOK, nil
	})
	if err != nil {
		return fmt.Errorf("%w (%s)", err, cli.OneLine(last))
	}
	return nil
}

// metric reads one sample: 0 and false where there is none. Labels are part of
// the name, as /metrics prints them.
func (c *child) metric(ctx context.Context, name string) (string, bool, error) {
	_, body, err := c.get(ctx, "/metrics")
	if err != nil {
		return "", false, err
	}
	for line := range strings.Lines(body) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value), true, nil
		}
	}
	return "", false, nil
}

// kill ends the process with SIGKILL, wherever it stands, and returns once it is gone.
func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it fails only for a process that has ended
	<-c.ended
}

// stop asks the process to end, and kills it if it does not.
func (c *child) stop() error {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.ended:
		return nil
	case <-time.After(childPatience):
		c.kill()
		return fmt.Errorf("process %d did not end within %v of SIGTERM", c.pid(), childPatience)
	}
}
