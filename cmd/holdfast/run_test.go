package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/holdfast-storage/holdfast/state/statetest"
)

// The verbs in this process: TestMain finds what they would leave running.
func TestRun_LeavesNothingBehind(t *testing.T) {
	t.Parallel()
	etcd, prefix := statetest.Shared(t).Endpoint(), statetest.Prefix(t)
	for _, line := range []string{
		"attach vol-1 node-1 --cluster east --cluster-uid uid",
		"get vol-1",
		"list",
		"detach vol-1 node-1 --cluster east",
		"clear vol-1 --cluster east",
		"journal",
		"clusters",
	} {
		var stdout, stderr bytes.Buffer
		args := append(strings.Fields(line), "--endpoints", etcd, "--prefix", prefix, "--dial-timeout", "30s")
		if code := run(t.Context(), args, &stdout, &stderr); code != exitDone {
			t.Fatalf("holdfast %s: exit code %d, %s", line, code, stderr.String())
		}
	}

	// A watch ends with its context, which is what Ctrl-C ends, as a success.
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	read, write := io.Pipe()
	var stderr bytes.Buffer
	code := make(chan int)
	go func() {
		defer write.Close()
		code <- run(ctx, []string{"watch", "--endpoints", etcd, "--prefix", prefix, "--dial-timeout", "30s"}, write, &stderr)
	}()
	lines := bufio.NewScanner(read)
	for seen := false; !seen && lines.Scan(); {
		seen = strings.Contains(lines.Text(), "uid")
	}
	interrupt()
	go func() { _, _ = io.Copy(io.Discard, read) }() // what was under way
	if got := <-code; got != exitDone || stderr.Len() > 0 {
		t.Errorf("watch: exit code %d, %s", got, stderr.String())
	}
}

// What is interrupted before it is done has not succeeded.
func TestRun_Interrupted(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	var stdout, stderr bytes.Buffer
	code := run(ctx, []string{"get", "vol-1", "--endpoints", statetest.Shared(t).Endpoint()}, &stdout, &stderr)
	if code != exitFailed || stderr.String() != "holdfast: interrupted\n" {
		t.Errorf("exit code %d, %q; want %d and that it was interrupted", code, stderr.String(), exitFailed)
	}
}

// An etcd that is too old is refused, to read too, until somebody allows it.
func TestRun_UnsafeEtcd(t *testing.T) {
	t.Parallel()
	etcd := statetest.Start(t, statetest.WithVersions("3.6.13")).Endpoint()
	verb := func(args ...string) (int, string) {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), append(args, "--endpoints", etcd, "--dial-timeout", "30s"), &stdout, &stderr)
		return code, stderr.String()
	}
	attach := []string{"attach", "vol-1", "node-1", "--cluster", "east", "--cluster-uid", "uid"}
	for _, args := range [][]string{attach, {"get", "vol-1"}, {"init"}} {
		code, said := verb(args...)
		if code != exitFailed || !strings.Contains(said, "3.6.14") || !strings.Contains(said, "--allow-unsafe-etcd") {
			t.Errorf("holdfast %s: exit code %d, %s", args[0], code, said)
		}
	}
	if code, said := verb(append(attach, "--allow-unsafe-etcd")...); code != exitDone {
		t.Errorf("attach, which was allowed: exit code %d, %s", code, said)
	}
	code, said := verb("get", "vol-1", "--allow-unsafe-etcd", "--log-level", "warn")
	if code != exitDone || !strings.Contains(said, "3.6.13") {
		t.Errorf("get, which was allowed: exit code %d and the warning %q", code, said)
	}
}
