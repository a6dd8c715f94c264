// Command holdfast is the ledger's daemon and its command line: `holdfast
// controller` runs beside a cluster, and the other verbs are an operator's.
//
// One file a subcommand. root.go puts them together, flags.go has the flags that
// several share, connect.go opens the ledger from them, output.go prints, and
// exit.go turns an error into a line and an exit code.
package main

import (
	"context"
	"io"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
)

// version is set by the build: -ldflags "-X main.version=v1.2.3".
var version = ""

func main() { cli.Main(run) }

// run carries out one command line and returns its exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return report(stderr, root.ExecuteContext(ctx))
}
