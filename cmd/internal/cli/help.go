package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// helpColumns is fixed, so that the help is the same in every terminal.
const helpColumns = 100

const annotationSection = "holdfast_section"

// AddSection moves the flags of own into fs, under a heading of the help. A flag
// without one is the command's own.
func AddSection(fs, own *pflag.FlagSet, section string) {
	own.SortFlags = false
	own.VisitAll(func(f *pflag.Flag) {
		annotate(f, annotationSection, section)
		fs.AddFlag(f)
	})
}

// Usages is the help of the flags of one section, empty if there is none; the
// command's own are those of the section "".
func Usages(fs *pflag.FlagSet, section string) string {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.SortFlags = false
	fs.VisitAll(func(f *pflag.Flag) {
		if strings.Join(f.Annotations[annotationSection], "") == section {
			flags.AddFlag(f)
		}
	})
	if !flags.HasAvailableFlags() {
		return ""
	}
	return flags.FlagUsagesWrapped(helpColumns)
}

// printUsage is the part of the help below a command's description. A command's
// own flags come first, and those that it shares with others after them.
func (p Program) printUsage(cmd *cobra.Command) error {
	w := cmd.OutOrStderr()
	fmt.Fprintln(w, "Usage:")
	if cmd.Runnable() {
		fmt.Fprintf(w, "  %s\n", cmd.UseLine())
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(w, "  %s COMMAND\n", cmd.CommandPath())
	}
	if cmd.HasExample() {
		fmt.Fprintf(w, "\nExamples:\n%s\n", cmd.Example)
	}
	printCommands(w, cmd)
	p.printFlags(w, cmd.Flags())
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(w, "\nUse \"%s COMMAND --help\" for more about a command.\n", cmd.CommandPath())
	}
	return nil
}

func printCommands(w io.Writer, cmd *cobra.Command) {
	line := func(c *cobra.Command) { fmt.Fprintf(w, "  %-*s %s\n", cmd.NamePadding(), c.Name(), c.Short) }
	for _, group := range cmd.Groups() {
		fmt.Fprintf(w, "\n%s\n", group.Title)
		for _, c := range cmd.Commands() {
			if c.GroupID == group.ID && (c.IsAvailableCommand() || c.Name() == "help") {
				line(c)
			}
		}
	}
	if len(cmd.Groups()) > 0 || !cmd.HasAvailableSubCommands() {
		return
	}
	fmt.Fprintf(w, "\nCommands:\n")
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			line(c)
		}
	}
}

func (p Program) printFlags(w io.Writer, fs *pflag.FlagSet) {
	if own := Usages(fs, ""); own != "" {
		fmt.Fprintf(w, "\nFlags:\n%s", own)
	}
	for _, section := range p.Sections {
		if shared := Usages(fs, section); shared != "" {
			fmt.Fprintf(w, "\n%s\n%s", section, shared)
		}
	}
}
