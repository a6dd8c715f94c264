package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// demoProcess is the demo as a process with a temporary folder of its own. The
// caller starts it.
func demoProcess(t *testing.T) (cmd *exec.Cmd, temp string) {
	t.Helper()
	temp = t.TempDir()
	cmd = exec.Command(binary(t), "demo")
	cmd.Env = append(os.Environ(), "TMPDIR="+temp, "HOLDFAST_KUBECONFIG=/meant/for/somebody/else")
	endWithParent(cmd)
	return cmd, temp
}

// The whole demo: it succeeds, within its time, shows all of its acts, and
// leaves nothing behind.
func TestDemo(t *testing.T) {
	t.Parallel()
	began := time.Now()
	cmd, temp := demoProcess(t)
	out, err := cmd.CombinedOutput()
	took, text := time.Since(began), string(out)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	t.Logf("the demo took %v", took.Round(100*time.Millisecond))
	if took > 90*time.Second {
		t.Errorf("the demo took %v: expected 15 s, and 90 s on a machine that is busy", took)
	}
	for i, a := range acts() {
		if !strings.Contains(text, fmt.Sprintf("%d. %s\n", i+1, a.title)) {
			t.Errorf("the demo does not show %q:\n%s", a.title, text)
		}
	}
	for _, part := range []string{"✓", "the grace of vol-2: 1s left", `"action": "removed"`, "kill -9", brakeMetric + " 1"} {
		if !strings.Contains(text, part) {
			t.Errorf("the demo does not show %q:\n%s", part, text)
		}
	}
	if strings.Contains(text, "\x1b[") {
		t.Errorf("the demo is coloured, and not on a terminal:\n%q", text)
	}
	leavesNothing(t, text, temp)
}

// Ctrl-C while its controller runs, in the middle of a wait.
func TestDemo_Interrupted(t *testing.T) {
	t.Parallel()
	cmd, temp := demoProcess(t)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	var text strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		fmt.Fprintln(&text, lines.Text())
		if strings.Contains(lines.Text(), "the grace of vol-2: 4s left") {
			cmd.Process.Signal(os.Interrupt)
		}
	}
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitFailed {
		t.Errorf("exit code %d after an interrupt, want %d:\n%s", code, exitFailed, &text)
	}
	if strings.Contains(text.String(), "Lose a node") {
		t.Errorf("the demo went on after the interrupt:\n%s", &text)
	}
	leavesNothing(t, text.String(), temp)
}

// A step that did not happen ends it, and it says which.
func TestDemo_Fails(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	wrong := errors.New("vol-1 is free: expected it to be held")
	err := runDemo(t.Context(), &out, binary(t), []act{
		{"Attach", "It does.", actAttach},
		{"Detach", "It does not.", func(context.Context, *demo) error { return wrong }},
		{"Never", "It ends before.", func(context.Context, *demo) error { panic("it goes on") }},
	})
	if !errors.Is(err, wrong) || !strings.Contains(err.Error(), `"Detach"`) || strings.Contains(out.String(), "Never") {
		t.Errorf("runDemo: %v, want the step that failed; it printed:\n%s", err, &out)
	}
	if !strings.Contains(out.String(), "✗ this did not happen: Detach: vol-1 is free") || !strings.Contains(out.String(), "the controller runs") {
		t.Errorf("expected the reason, and the end of the controller's log:\n%s", &out)
	}
	leavesNothing(t, out.String(), t.TempDir())
}

// leavesNothing looks for the processes and the files of a demo.
func leavesNothing(t *testing.T, text, temp string) {
	t.Helper()
	for _, m := range regexp.MustCompile(`process (\d+), ready`).FindAllStringSubmatch(text, -1) {
		var pid int
		fmt.Sscan(m[1], &pid)
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d of the demo is still there: %v", pid, err)
		}
	}
	left, err := filepath.Glob(filepath.Join(temp, "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("the demo has left %v (%v)", left, err)
	}
}
