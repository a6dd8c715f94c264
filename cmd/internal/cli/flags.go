package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const annotationEmpty = "holdfast_empty"

// AllowEmpty marks a flag of which an empty value means something.
func AllowEmpty(f *pflag.Flag) { annotate(f, annotationEmpty, "true") }

// refuseEmpty refuses a flag that is given without a value, as a script with an
// unset variable does: it must not come to mean every node, or no fencer.
func (p Program) refuseEmpty(fs *pflag.FlagSet) error {
	var err error
	fs.Visit(func(f *pflag.Flag) {
		if err == nil && p.empty(f) && f.Annotations[annotationEmpty] == nil {
			err = fmt.Errorf("--%s is empty: expected a value; where it has a default, leave it out for that", f.Name)
		}
	})
	return err
}

func (p Program) empty(f *pflag.Flag) bool {
	switch f.Value.Type() {
	case "string":
		return f.Value.String() == ""
	case "stringSlice":
		return p.RefuseEmptyLists && f.Value.String() == "[]"
	}
	return false
}

// explainFlag turns pflag's parse errors into what the rest of the errors look like.
func explainFlag(cmd *cobra.Command, err error) error {
	if bad, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		f := bad.GetFlag()
		return fmt.Errorf("invalid --%s %q: %s", f.Name, bad.GetValue(), expectation(f, bad.Unwrap()))
	}
	return fmt.Errorf("%w; see '%s --help'", err, cmd.CommandPath())
}

// expectation says what a flag takes, where pflag's own error does not.
func expectation(f *pflag.Flag, err error) string {
	switch f.Value.Type() {
	case "bool":
		return "expected true or false"
	case "int", "int64", "uint64", "float64":
		return "expected a number"
	}
	return err.Error()
}
