// Command holdfast-bench measures Holdfast on an etcd, beside what else there is,
// and compares what it measured.
//
// One file a subcommand. root.go puts them together, flags.go reads flags from the
// environment too, target.go finds or starts the etcd that is measured, progress.go
// shows how far a run is, and exit.go turns an error into a line and an exit code.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/holdfast-storage/holdfast/bench/local"
)

// version is set by the build: -ldflags "-X main.version=v1.2.3".
var version = ""

func main() {
	local.ServeMember()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal stops a run and cleans up after it; a second one kills.
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run carries out one command line and returns its exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return fail(ctx, stderr, root.ExecuteContext(ctx))
}
