package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/state"
)

// The exit codes, as the help of the root command lists them.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2
	exitConflict = 3
	exitNotFound = 4
)

// report prints an error as one line and returns the exit code of it.
func report(stderr io.Writer, err error) int {
	if err == nil {
		return exitDone
	}
	fmt.Fprintf(stderr, "holdfast: %s\n", cli.OneLine(explain(err)))
	return exitCode(err)
}

// exitCode sorts an error. What was invalid came from an argument, a flag or
// the environment; a command's own arguments to the ledger are never invalid.
func exitCode(err error) int {
	switch {
	case err == nil:
		return exitDone
	case cli.IsUsage(err):
		return exitUsage
	case errors.Is(err, state.ErrUnknownOutcome):
		return exitFailed
	}
	for _, known := range []struct {
		is   error
		code int
	}{
		{state.ErrInvalid, exitUsage},
		{state.ErrConflict, exitConflict},
		{state.ErrInGrace, exitConflict},
		{state.ErrStaleToken, exitConflict},
		{state.ErrLapsed, exitConflict},
		{state.ErrFrozen, exitConflict},
		{state.ErrPaused, exitConflict},
		{state.ErrClusterMismatch, exitConflict},
		{state.ErrNotFound, exitNotFound},
	} {
		if errors.Is(err, known.is) {
			return known.code
		}
	}
	return exitFailed
}

// explain is what an error says, and what to do about it.
func explain(err error) string {
	if errors.Is(err, context.Canceled) && !errors.Is(err, state.ErrUnknownOutcome) {
		return "interrupted"
	}
	if way := wayOut(err); way != "" {
		return err.Error() + "; " + way
	}
	return err.Error()
}
