package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The sections of a command's help. A flag without one is the command's own.
const (
	sectionTarget = "What is measured on:"
	sectionOutput = "Output:"
)

const (
	annotationSection     = "holdfast_section"
	annotationEnvironment = "holdfast_environment" // the variable, where it is not the flag's own
	annotationFound       = "holdfast_found"       // the value came from the environment
)

// addSection moves the flags of own into fs, under a heading of the help.
func addSection(fs, own *pflag.FlagSet, section string) {
	own.SortFlags = false
	own.VisitAll(func(f *pflag.Flag) {
		annotate(f, annotationSection, section)
		fs.AddFlag(f)
	})
}

func annotate(f *pflag.Flag, key, value string) {
	if f.Annotations == nil {
		f.Annotations = map[string][]string{}
	}
	f.Annotations[key] = []string{value}
}

// environmentName is the variable that a flag can also be given as. What to
// measure on has a name of the benchmark's own: a shell that is set up for a
// ledger in earnest is not to have a benchmark run on its etcd.
func environmentName(f *pflag.Flag) string {
	if own := f.Annotations[annotationEnvironment]; own != nil {
		return own[0]
	}
	return "HOLDFAST_BENCH_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
}

// nameEnvironment adds to each flag's help the variable it is read from.
func nameEnvironment(fs *pflag.FlagSet) {
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" {
			f.Usage += " [" + environmentName(f) + "]"
		}
	})
}

// readEnvironment sets the flags that the command line has not.
func readEnvironment(fs *pflag.FlagSet) error {
	var err error
	fs.VisitAll(func(f *pflag.Flag) {
		if err != nil || f.Changed || f.Name == "help" {
			return
		}
		name := environmentName(f)
		value := os.Getenv(name)
		if value == "" {
			return
		}
		if serr := f.Value.Set(value); serr != nil {
			err = fmt.Errorf("invalid %s %q in the environment: %s", name, value, expectation(f, serr))
			return
		}
		f.Changed = true
		annotate(f, annotationFound, name)
	})
	return err
}

// typed tells whether a flag was given on the command line.
func typed(fs *pflag.FlagSet, name string) bool {
	f := fs.Lookup(name)
	return f.Changed && f.Annotations[annotationFound] == nil
}

// refuseEmpty refuses a flag that is given without a value, as a script with an
// unset variable does.
func refuseEmpty(fs *pflag.FlagSet) error {
	var err error
	fs.Visit(func(f *pflag.Flag) {
		if text := f.Value.String(); err == nil && f.Value.Type() != "percentage" && (text == "" || text == "[]") {
			err = fmt.Errorf("--%s is empty: expected a value; where it has a default, leave it out for that", f.Name)
		}
	})
	return err
}

// expectation says what a flag takes, where pflag's own error does not.
func expectation(f *pflag.Flag, err error) string {
	switch f.Value.Type() {
	case "bool":
		return "expected true or false"
	case "int", "uint64":
		return "expected a number"
	}
	return err.Error()
}

// explainFlag turns pflag's parse errors into what the rest of the errors look like.
func explainFlag(cmd *cobra.Command, err error) error {
	if bad, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		f := bad.GetFlag()
		return fmt.Errorf("invalid --%s %q: %s", f.Name, bad.GetValue(), expectation(f, bad.Unwrap()))
	}
	return fmt.Errorf("%w; see '%s --help'", err, cmd.CommandPath())
}

// choice is a flag of a closed set of words.
type choice struct {
	value   *string
	allowed []string
}

func newChoice(value *string, fallback string, allowed ...string) *choice {
	*value = fallback
	return &choice{value, allowed}
}

func (c *choice) Set(s string) error {
	if !slices.Contains(c.allowed, s) {
		return fmt.Errorf("expected one of %s", strings.Join(c.allowed, ", "))
	}
	*c.value = s
	return nil
}

func (c *choice) Type() string { return strings.Join(c.allowed, "|") }

func (c *choice) String() string {
	if c.value == nil {
		return ""
	}
	return *c.value
}
