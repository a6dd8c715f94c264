package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a holdfast that goes on until it is told to end.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has, and its log is read to the end

	mu      sync.Mutex
	address string // of /readyz and /metrics; empty until it says so
	log     bytes.Buffer
}

var servingAt = regexp.MustCompile(`serving /metrics.*\baddress"?[=:]"?([0-9.:]+)`)

// environment is the test's own, without what is meant for another holdfast.
func environment(more ...string) []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "HOLDFAST_") && !strings.HasPrefix(v, "KUBE") && !strings.HasPrefix(v, "POD_") {
			env = append(env, v)
		}
	}
	return append(env, more...)
}

// start starts a holdfast that the test's end kills.
func start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	cmd := exec.Command(holdfastBin, args...)
	cmd.Env = environment(env...)
	return startCommand(t, cmd)
}

func startCommand(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	p := &process{t: t, cmd: cmd, ended: make(chan struct{})}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		p.read(stderr)
		cmd.Wait() // the exit code is in the process's state
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			log := p.logged()
			t.Logf("the end of the log of %d:\n%s", cmd.Process.Pid, log[max(0, len(log)-6000):])
		}
	})
	return p
}

func (p *process) read(log io.Reader) {
	lines := bufio.NewReader(log)
	for {
		line, err := lines.ReadString('\n')
		p.mu.Lock()
		if m := servingAt.FindStringSubmatch(line); m != nil {
			p.address = m[1]
		}
		p.log.WriteString(line)
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// logged is the whole log so far.
func (p *process) logged() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// says waits until the log has all of the texts on one line.
func (p *process) says(texts ...string) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("log line with %q", texts), func() error {
		if p.count(texts...) == 0 {
			return errors.New("there is none")
		}
		return nil
	})
}

// count is how many lines of the log have all of the texts.
func (p *process) count(texts ...string) int {
	n := 0
lines:
	for line := range strings.Lines(p.logged()) {
		for _, text := range texts {
			if !strings.Contains(line, text) {
				continue lines
			}
		}
		n++
	}
	return n
}

func (p *process) alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// exits waits for the process to end by itself, and returns its exit code.
func (p *process) exits() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatalf("it still runs after %v", patience)
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) kill() {
	p.cmd.Process.Kill() // it fails only for a process that has ended
	<-p.ended
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// get asks the process over HTTP. The code is 0 while it does not answer.
func (p *process) get(path string) (code int, body string) {
	p.mu.Lock()
	address := p.address
	p.mu.Unlock()
	if address == "" {
		return 0, "it has not said where it serves"
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := client.Get("http://" + address + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(data)
}

// ready is nil once the process says that it is.
func (p *process) ready() error {
	if !p.alive() {
		p.t.Fatalf("it has ended: %v", p.cmd.ProcessState)
	}
	if code, body := p.get("/readyz"); code != http.StatusOK {
		return fmt.Errorf("%d: %s", code, body)
	}
	return nil
}

// metric reads a sample, with its labels as /metrics prints them; NaN is none.
func (p *process) metric(name string) (float64, error) {
	code, body := p.get("/metrics")
	if code != http.StatusOK {
		return 0, fmt.Errorf("%d: %s", code, body)
	}
	for line := range strings.Lines(body) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("no metric %s", name)
}

// metricIs waits until a sample has a value.
func (p *process) metricIs(name string, want float64) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("%s is %v", name, want), func() error {
		got, err := p.metric(name)
		if err == nil && got != want {
			err = fmt.Errorf("it is %v", got)
		}
		return err
	})
}

// start starts a controller of the cluster, with the tests' short waits, and
// waits for nothing. A flag that is given again wins.
func (c *cluster) start(args ...string) *process {
	c.t.Helper()
	return c.startAt(c.etcd.Endpoint(), args...)
}

// startAt is start with another way to etcd.
func (c *cluster) startAt(endpoint string, args ...string) *process {
	c.t.Helper()
	return start(c.t, nil, append([]string{
		"controller", "--cluster", c.name, "--kubeconfig", c.kubeconfig(), "--endpoints", endpoint, "--listen", "127.0.0.1:0",
		"--grace-period", short.String(), "--quarantine", short.String(), "--election-ttl", short.String(),
	}, args...)...)
}

// controller starts one and waits until it is ready.
func (c *cluster) controller(args ...string) *process {
	c.t.Helper()
	p := c.start(args...)
	eventually(c.t, "controller of "+c.name+" is ready", p.ready)
	return p
}

// leads waits until a controller leads its cluster's.
func (c *cluster) leads(p *process) {
	c.t.Helper()
	p.metricIs(fmt.Sprintf("holdfast_leader{cluster=%q}", c.name), 1)
}

// does runs a holdfast verb on the world's ledger, which has to succeed, and
// returns what it printed.
func (w *world) does(args ...string) string {
	w.t.Helper()
	out, code := w.runs(args...)
	if code != 0 {
		w.t.Fatalf("holdfast %v: exit code %d\n%s", args, code, out)
	}
	return out
}

// fails runs a verb that has to end with this exit code and say these texts.
func (w *world) fails(code int, says []string, args ...string) {
	w.t.Helper()
	out, got := w.runs(args...)
	if got != code {
		w.t.Fatalf("holdfast %v: exit code %d, expected %d\n%s", args, got, code, out)
	}
	for _, text := range says {
		if !strings.Contains(out, text) {
			w.t.Errorf("holdfast %v does not say %q:\n%s", args, text, out)
		}
	}
}

// runs runs a verb and returns both its outputs and its exit code.
func (w *world) runs(args ...string) (string, int) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, holdfastBin, args...)
	cmd.Env = environment("HOLDFAST_ENDPOINTS=" + w.etcd.Endpoint())
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		w.t.Fatalf("holdfast %v: %v", args, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}
