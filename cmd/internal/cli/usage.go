package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// runError is an error of a command that was used as it should be.
type runError struct{ error }

func (e *runError) Unwrap() error { return e.error }

// UsageError is a command line that cannot be carried out as it is.
type UsageError struct{ error }

// Unwrap is what makes it so.
func (e *UsageError) Unwrap() error { return e.error }

// Usagef makes a UsageError, as fmt.Errorf does.
func Usagef(format string, args ...any) error { return &UsageError{fmt.Errorf(format, args...)} }

// IsUsage tells whether an error of a finished command's execution means wrong
// usage: what fails before a command runs does, and of what fails while it runs a
// UsageError.
func IsUsage(err error) bool {
	var ran *runError
	var wrong *UsageError
	return !errors.As(err, &ran) || errors.As(err, &wrong)
}

// Takes is the arguments of a command, by the names that its usage line gives them.
func Takes(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == len(names):
			return nil
		case len(names) == 0:
			return fmt.Errorf("%s takes no argument, and was given %q; see '%s --help'", cmd.CommandPath(), args, cmd.CommandPath())
		}
		return fmt.Errorf("%s takes %s, and was given %d: %q; see '%s --help'",
			cmd.CommandPath(), strings.Join(names, " and "), len(args), args, cmd.CommandPath())
	}
}
