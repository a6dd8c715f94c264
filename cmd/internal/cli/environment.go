package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"
)

const (
	annotationTyped    = "holdfast_typed"
	annotationVariable = "holdfast_variable" // the variable, where it is not the flag's own
	annotationFound    = "holdfast_found"    // the value came from the environment
)

// OnlyTyped marks flags that agree to one single act. The environment, where
// something may be left over from another day, does not set them.
func OnlyTyped(fs *pflag.FlagSet, names ...string) {
	for _, name := range names {
		annotate(fs.Lookup(name), annotationTyped, "true")
	}
}

// WasTyped tells whether a flag was given on the command line.
func WasTyped(fs *pflag.FlagSet, name string) bool {
	f := fs.Lookup(name)
	return f.Changed && f.Annotations[annotationFound] == nil
}

// Variable has a flag be read from a variable of another program's flags: the one
// whose names begin with prefix.
func Variable(f *pflag.Flag, prefix string) {
	annotate(f, annotationVariable, variable(prefix, f.Name))
}

func variable(prefix, flag string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// VariableOf is the variable that a flag can also be given as; empty for one that
// has to be typed.
func (p Program) VariableOf(f *pflag.Flag) string {
	if f.Name == "help" || f.Annotations[annotationTyped] != nil {
		return ""
	}
	if other := f.Annotations[annotationVariable]; other != nil {
		return other[0]
	}
	return variable(p.Variables, f.Name)
}

// nameVariables adds to each flag's help the variable it is read from.
func (p Program) nameVariables(fs *pflag.FlagSet) {
	fs.VisitAll(func(f *pflag.Flag) {
		if name := p.VariableOf(f); name != "" {
			f.Usage += " [" + name + "]"
		}
	})
}

// readEnvironment sets the flags that the command line has not. An empty variable
// is none.
func (p Program) readEnvironment(fs *pflag.FlagSet) error {
	var err error
	fs.VisitAll(func(f *pflag.Flag) {
		name := p.VariableOf(f)
		if err != nil || f.Changed || name == "" {
			return
		}
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

func annotate(f *pflag.Flag, key, value string) {
	if f.Annotations == nil {
		f.Annotations = map[string][]string{}
	}
	f.Annotations[key] = []string{value}
}
