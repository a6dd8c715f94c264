package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/holdfast-storage/holdfast/adopt"
	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/watch"
)

// Ctrl-C in the middle: what it says it has attached is what is held, and the
// next import goes on from there.
func TestProcess_ImportInterrupted(t *testing.T) {
	t.Parallel()
	const all = 10_000
	w := newWorld(t, state.Config{})
	api := newStorageAPI()
	defer api.Close()
	for i := range all {
		if err := api.change("attach", name("vol", i), name("node", i%100)); err != nil {
			t.Fatal(err)
		}
	}
	config, err := api.kubeconfig(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"import", "--cluster", "east", "--kubeconfig", config, "--attacher", "csi.example.com", "--yes", "-o", "json",
		"--endpoints", w.etcd.Endpoint()}
	imports := func(cmd *exec.Cmd, interrupt func()) (imported, string) {
		t.Helper()
		var stdout, stderr strings.Builder
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		interrupt()
		_ = cmd.Wait() // the exit code is in the process's state
		var result imported
		if err := json.Unmarshal([]byte(stdout.String()), &result); err != nil {
			t.Fatalf("%v: %s", err, stderr.String())
		}
		return result, stderr.String()
	}
	holds := func() int { return len(keysBelow(w.etcd.Dump(t, ledgerRoot), kindHolds)) }

	first := exec.CommandContext(t.Context(), w.program, args...)
	result, said := imports(first, func() {
		w.eventually("some are attached", func(context.Context) (bool, error) { return holds() > 100, nil })
		if err := first.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
	})
	done := result.Counts[adopt.Done]
	if held := holds(); held != done || done+result.Counts[adopt.NotTried] != all {
		t.Errorf("it says %v, and %d are held", result.Counts, held)
	}
	// A machine that is busy may let it come to its end before it is interrupted.
	if code := first.ProcessState.ExitCode(); done < all && (code != exitFailed || said != "holdfast: interrupted\n") {
		t.Errorf("exit code %d, %q; want %d, and that it was interrupted", code, said, exitFailed)
	}
	t.Logf("interrupted after %d", done)

	result, _ = imports(exec.CommandContext(t.Context(), w.program, args...), func() {})
	if held := holds(); held != all || result.Counts[adopt.There] != done || result.Counts[adopt.Done] != all-done {
		t.Errorf("the next import says %v, and %d are held; want %d there already, and all held", result.Counts, held, done)
	}
}

// Only a terminal is told how far a long import is, and only of a long one.
func TestProgress(t *testing.T) {
	var none *progress
	none.begin(nil)
	none.done(1)
	none.end()
	if p := newProgress(&strings.Builder{}); p != nil {
		t.Error("what is no terminal is told")
	}
	file, err := os.Create(t.TempDir() + "/stderr")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if p := newProgress(file); p != nil {
		t.Error("a file is told")
	}

	items := make([]adopt.Item, longList+2)
	for i := range items[2:] {
		items[i].Result = adopt.ToAttach
	}
	var screen strings.Builder
	p := &progress{w: &screen}
	p.begin(items)
	p.done(7)
	p.done(9) // too soon after
	p.last = time.Now().Add(-time.Hour)
	p.done(6) // late
	p.done(longList)
	p.end()
	want := fmt.Sprintf("\rattaching: 7 of %[1]d\rattaching: %[1]d of %[1]d\r%[2]s\r", longList, strings.Repeat(" ", len("attaching: 1000 of 1000")))
	if screen.String() != want {
		t.Errorf("the terminal shows %q, want %q", screen.String(), want)
	}

	screen.Reset()
	p = &progress{w: &screen}
	p.begin(items[:longList/2])
	p.done(7)
	p.end()
	if screen.Len() > 0 {
		t.Errorf("of a short import it shows %q", screen.String())
	}
}

// An API server that hangs is given up.
func TestReader_Hangs(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	nodes, err := watch.NewKubernetes(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{identity: nodes, patience: 20 * time.Millisecond}
	if uid, err := r.uid(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("its identity is %q, %v; want that it takes too long", uid, err)
	}
}
