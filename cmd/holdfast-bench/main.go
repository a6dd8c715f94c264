// Command holdfast-bench measures Holdfast on an etcd, beside what else there is,
// and compares what it measured.
//
// One file a subcommand. root.go puts them together, target.go finds or starts the
// etcd that is measured, progress.go shows how far a run is, and exit.go turns an
// error into a line and an exit code.
package main

import (
	"context"
	"io"

	"github.com/holdfast-storage/holdfast/bench/local"
	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
)

// version is set by the build: -ldflags "-X main.version=v1.2.3".
var version = ""

func main() {
	local.ServeMember()
	cli.Main(run)
}

// run carries out one command line and returns its exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return fail(ctx, stderr, root.ExecuteContext(ctx))
}
