package main

import (
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/state/statetest"
	"github.com/rogpeppe/go-internal/testscript"
)

var rewrite = flag.Bool("rewrite", false, "rewrite expected output")

// The test binary is also the command, for the scripts to run, and a member of the
// etcd that it starts.
func TestMain(m *testing.M) {
	testscript.Main(tests{m}, map[string]func(){"holdfast-bench": main})
}

type tests struct{ *testing.M }

func (t tests) Run() int { return statetest.Main(t.M) }

// patience is how long a script waits for a condition.
const patience = time.Minute

// The scripts run the command as a process of its own. Each has a prefix of its
// own, at $PREFIX of the etcd at $ETCD.
func TestScripts(t *testing.T) {
	t.Parallel()
	etcd := statetest.Shared(t)
	client := etcd.Client(t)
	var interrupted sync.Map // what interrupt has signalled, by script
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"), UpdateScripts: *rewrite, RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
			e.Setenv("ETCD", etcd.Endpoint())
			e.Setenv("PREFIX", statetest.Prefix(t))
			e.Setenv("TMPDIR", e.WorkDir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
			"put": func(ts *testscript.TestScript, _ bool, args []string) {
				_, err := client.Put(context.Background(), args[0], args[1])
				ts.Check(err)
			},
			"keys": func(ts *testscript.TestScript, _ bool, args []string) {
				want, err := strconv.Atoi(args[0])
				ts.Check(err)
				if found := etcd.Dump(t, args[1]); len(found) != want {
					ts.Fatalf("%d keys below %s, want %d: %v", len(found), args[1], want, found)
				}
			},
			"await-keys": func(ts *testscript.TestScript, _ bool, args []string) {
				again := time.NewTicker(20 * time.Millisecond)
				defer again.Stop()
				for deadline := time.After(patience); len(etcd.Dump(t, args[0])) < 2; {
					select {
					case <-again.C:
					case <-deadline:
						ts.Fatalf("after %s nothing has come below %s", patience, args[0])
					}
				}
			},
			"interrupt": func(ts *testscript.TestScript, _ bool, _ []string) {
				commands := ts.BackgroundCmds()
				for _, c := range commands {
					ts.Check(c.Process.Signal(os.Interrupt))
				}
				interrupted.Store(ts.Name(), commands)
			},
			"exited": func(ts *testscript.TestScript, _ bool, args []string) {
				commands, _ := interrupted.Load(ts.Name())
				for _, c := range commands.([]*exec.Cmd) {
					if got := strconv.Itoa(c.ProcessState.ExitCode()); got != args[0] {
						ts.Fatalf("exit code %s, want %s", got, args[0])
					}
				}
			},
		},
	})
}

// exits runs a command and checks its exit code, and that what failed says so in
// one line at the end.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	stderr := ts.ReadFile("stderr")
	if got != want {
		ts.Fatalf("exit code %d, want %d; stderr: %s", got, want, stderr)
	}
	if want != 0 && !regexp.MustCompile(`(?m)\Aholdfast-bench: [[:print:]…]+\n\z`).MatchString(stderr) {
		ts.Fatalf("stderr is not one clear line: %q", stderr)
	}
}
