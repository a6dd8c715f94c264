package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/holdfast-storage/holdfast/state/statetest"
)

// patience is how long a script waits for a condition.
const patience = time.Minute

// The scripts run the command as a process of its own against a real etcd. Each
// has a ledger of its own, at $PREFIX, and its flags from the environment.
func TestScripts(t *testing.T) {
	t.Parallel()
	etcd := statetest.Shared(t)
	client := etcd.Client(t)
	certificates := t.TempDir()
	writeCertificates(t, certificates)
	secured, stranger := securedEtcd(t), tlsServer(t)
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		UpdateScripts:       *rewrite,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			prefix := statetest.Prefix(t)
			// With the race detector every process would wait a second at its end.
			e.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
			e.Setenv("PREFIX", prefix)
			e.Setenv("LEDGER", prefix+"v1/")
			e.Setenv("CERTIFICATES", certificates)
			e.Setenv("ETCD", etcd.Endpoint())
			e.Setenv("SECURED_ETCD", secured)
			e.Setenv("TLS_SERVER", stranger)
			e.Setenv("HOLDFAST_ENDPOINTS", etcd.Endpoint())
			e.Setenv("HOLDFAST_PREFIX", prefix)
			e.Setenv("HOLDFAST_BY", "tester")
			// Nothing depends on it: the machine may be slow, with the race detector on.
			e.Setenv("HOLDFAST_DIAL_TIMEOUT", "30s")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
			"await": await,
			"put": func(ts *testscript.TestScript, _ bool, args []string) {
				_, err := client.Put(context.Background(), args[0], args[1])
				ts.Check(err)
			},
			"del": func(ts *testscript.TestScript, _ bool, args []string) {
				answer, err := client.Delete(context.Background(), args[0])
				ts.Check(err)
				if answer.Deleted == 0 {
					ts.Fatalf("del: no key %s", args[0])
				}
			},
		},
	})
}

// exits runs a command and checks its exit code: exits 3 holdfast attach …
// What failed says so in one line, which names no code of ours and does nothing
// to a terminal.
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
	if want == 0 {
		return
	}
	if !oneClearLine.MatchString(stderr) {
		ts.Fatalf("stderr is not one clear line: %q", stderr)
	}
}

var oneClearLine = regexp.MustCompile(`\Aholdfast: [[:print:]…]+\n\z`)

// await runs a command until its standard output, or the file after -file,
// matches: await 'STATE.*free' holdfast get vol-1
func await(ts *testscript.TestScript, neg bool, args []string) {
	want := regexp.MustCompile("(?m)" + args[0])
	look := func() string {
		if args[1] == "-file" {
			return ts.ReadFile(args[2])
		}
		ts.Check(ts.Exec(args[1], args[2:]...))
		return ts.ReadFile("stdout")
	}
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for deadline := time.After(patience); ; {
		found := look()
		if want.MatchString(found) != neg {
			return
		}
		select {
		case <-again.C:
		case <-deadline:
			ts.Fatalf("after %s still not so: %s\n%s", patience, strings.Join(args, " "), found)
		}
	}
}

// securedEtcd starts one that wants to know who comes.
func securedEtcd(t *testing.T) string {
	t.Helper()
	e := statetest.Start(t)
	e.EnableAuth(t, statetest.User{Name: "reader", Password: "reader-password", Prefix: "/holdfast/", ReadOnly: true})
	return e.Endpoint()
}
