package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
)

// The exit codes, as the help of the root command lists them.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130 // as a shell's for what Ctrl-C ended
)

// runError is an error of a command that was used as it should be.
type runError struct{ error }

func (e *runError) Unwrap() error { return e.error }

// usageError is a command line that cannot be carried out as it is.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// fail prints an error as one line and returns the exit code of it.
func fail(ctx context.Context, stderr io.Writer, err error) int {
	if err == nil {
		return exitDone
	}
	fmt.Fprintf(stderr, "holdfast-bench: %s\n", oneLine(err.Error()))
	if ctx.Err() != nil {
		return exitInterrupted
	}
	var ran *runError
	var wrong *usageError
	if !errors.As(err, &ran) || errors.As(err, &wrong) {
		return exitUsage
	}
	return exitFailed
}

// oneLine makes a text one line that does nothing to a terminal.
func oneLine(text string) string {
	text = strings.Replace(text, "\n\nDid you mean this?\n\t", "; did you mean ", 1)
	var b strings.Builder
	for _, r := range strings.ReplaceAll(strings.TrimSpace(text), "\n", "; ") {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}
