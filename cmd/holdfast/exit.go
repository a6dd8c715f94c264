package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

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

// usageError is a command line that cannot be carried out as it is.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// report prints an error as one line and returns the exit code of it.
func report(stderr io.Writer, err error) int {
	if err == nil {
		return exitDone
	}
	fmt.Fprintf(stderr, "holdfast: %s\n", oneLine(explain(err)))
	return exitCode(err)
}

// exitCode sorts an error. What was invalid came from an argument, a flag or
// the environment; a command's own arguments to the ledger are never invalid.
func exitCode(err error) int {
	var ran *runError
	var wrong *usageError
	switch {
	case err == nil:
		return exitDone
	case !errors.As(err, &ran) || errors.As(err, &wrong):
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
	text := strings.Replace(err.Error(), "\n\nDid you mean this?\n\t", "; did you mean ", 1)
	if errors.Is(err, context.Canceled) && !errors.Is(err, state.ErrUnknownOutcome) {
		return "interrupted"
	}
	if way := wayOut(err); way != "" {
		text += "; " + way
	}
	return text
}

// oneLine makes a text one line that does nothing to a terminal. The errors of
// several, which come a line each, are joined by semicolons.
func oneLine(text string) string {
	var parts []string
	for _, line := range strings.Split(text, "\n") {
		line = strings.TrimPrefix(strings.TrimSpace(line), "* ")
		if line != "" && !severalErrors.MatchString(line) {
			parts = append(parts, line)
		}
	}
	return harmless(strings.Join(parts, "; "))
}

// severalErrors is what go-multierror begins a list with.
var severalErrors = regexp.MustCompile(`^\d+ errors? occurred:$`)
