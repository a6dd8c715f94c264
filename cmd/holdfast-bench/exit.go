package main

import (
	"context"
	"fmt"
	"io"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
)

// The exit codes, as the help of the root command lists them.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130 // as a shell's for what Ctrl-C ended
)

// fail prints an error as one line and returns the exit code of it.
func fail(ctx context.Context, stderr io.Writer, err error) int {
	if err == nil {
		return exitDone
	}
	fmt.Fprintf(stderr, "holdfast-bench: %s\n", cli.OneLine(err.Error()))
	switch {
	case ctx.Err() != nil:
		return exitInterrupted
	case cli.IsUsage(err):
		return exitUsage
	}
	return exitFailed
}
