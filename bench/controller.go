package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

// controller is a `holdfast controller` in a process of its own.
type controller struct {
	cmd  *exec.Cmd
	took time.Duration // from its start until it was ready

	logged  sync.WaitGroup
	mu      sync.Mutex
	last    string // the last line of its log
	address chan string
}

// readyLook is how often a controller that starts is asked whether it is ready.
const readyLook = 2 * time.Millisecond

// endsWithin is what a controller gets to end by itself.
const endsWithin = 10 * time.Second

// startController starts the binary as the controller of a cluster on a ledger,
// and returns once it is ready. folder has the cluster's nodes.json.
func (r *Run) startController(ctx context.Context, ledger *state.Ledger, cluster state.Identity, folder string) (*controller, error) {
	c := &controller{address: make(chan string, 1)}
	cfg := ledger.Config()
	args := []string{
		"controller", "--cluster", cluster.Name, "--cluster-uid", cluster.UID, "--nodes", filepath.Join(folder, nodesFile),
		"--listen", "127.0.0.1:0", "--endpoints", strings.Join(cfg.Endpoints, ","), "--prefix", cfg.Prefix,
	}
	for _, flag := range [][2]string{
		{"--cacert", cfg.CACertFile}, {"--cert", cfg.CertFile}, {"--key", cfg.KeyFile}, {"--user", cfg.Username}, {"--password-file", cfg.PasswordFile},
	} {
		if flag[1] != "" {
			args = append(args, flag[0], flag[1])
		}
	}
	c.cmd = exec.CommandContext(ctx, r.Holdfast, args...) //nolint:gosec // the operator names the binary
	c.cmd.Cancel = func() error { return c.cmd.Process.Signal(os.Interrupt) }
	c.cmd.WaitDelay = endsWithin
	c.cmd.Env = append(environment(), "HOLDFAST_PASSWORD="+r.Etcd.Password)
	log, err := c.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	c.logged.Go(func() { c.read(log) })
	if err := c.awaitReady(ctx); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	c.took = time.Since(begun)
	return c, nil
}

// environment is this process's, without what would set a controller's flags.
func environment() []string {
	var out []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "HOLDFAST_") {
			out = append(out, e)
		}
	}
	return out
}

var servingAt = regexp.MustCompile(`msg="serving /metrics.*" address=(\S+)`)

// read takes in the log, and finds in it where the controller can be asked. It
// closes address when the process has ended.
func (c *controller) read(log io.Reader) {
	defer close(c.address)
	for lines := bufio.NewScanner(log); lines.Scan(); {
		c.mu.Lock()
		c.last = lines.Text()
		c.mu.Unlock()
		if at := servingAt.FindStringSubmatch(lines.Text()); at != nil {
			c.address <- at[1]
		}
	}
}

func (c *controller) awaitReady(ctx context.Context) error {
	look := time.NewTicker(readyLook)
	defer look.Stop()
	url, waitsFor := "", "it to serve"
	for {
		select {
		case at, open := <-c.address:
			if !open {
				c.mu.Lock()
				defer c.mu.Unlock()
				return fmt.Errorf("%s ended before it was ready: %s", c.cmd, c.last)
			}
			url = "http://" + at + "/readyz"
		case <-look.C:
			if url == "" {
				continue
			}
			ready, says, err := asked(ctx, url)
			if ready {
				return nil
			}
			if waitsFor = says; err != nil {
				waitsFor = err.Error()
			}
		case <-ctx.Done():
			return fmt.Errorf("waiting for a controller, and it for %s: %w", waitsFor, ctx.Err())
		}
	}
}

func asked(ctx context.Context, url string) (ready bool, says string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	return resp.StatusCode == http.StatusOK, string(body), err
}

// stop ends the controller, and returns when it has.
func (c *controller) stop() error {
	timer := time.AfterFunc(endsWithin, func() { _ = c.cmd.Process.Kill() })
	defer timer.Stop()
	err := c.cmd.Process.Signal(os.Interrupt)
	c.logged.Wait()
	if werr := c.cmd.Wait(); !errors.Is(err, os.ErrProcessDone) {
		err = errors.Join(err, werr)
	}
	if err != nil {
		return fmt.Errorf("ending a controller: %w (its last line: %s)", err, c.last)
	}
	return nil
}

// resident is a process's memory, as Linux counts it: VmRSS. 0 elsewhere.
func (c *controller) resident() float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(status), "\n") {
		var kB float64
		if n, _ := fmt.Sscanf(line, "VmRSS: %f kB", &kB); n == 1 {
			return kB * 1024
		}
	}
	return 0
}
