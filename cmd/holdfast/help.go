package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// helpColumns is fixed, so that the help is the same in every terminal.
const helpColumns = 100

// printUsage is the part of the help below a command's description. A command's
// own flags come first, and those that it shares with others after them.
func printUsage(cmd *cobra.Command) error {
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
	printFlags(w, cmd.Flags())
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

func printFlags(w io.Writer, all *pflag.FlagSet) {
	for _, section := range []string{"", sectionWaits, sectionEtcd, sectionLog} {
		flags := pflag.NewFlagSet("", pflag.ContinueOnError)
		flags.SortFlags = false
		all.VisitAll(func(f *pflag.Flag) {
			own := f.Annotations[annotationSection]
			if section == strings.Join(own, "") {
				flags.AddFlag(f)
			}
		})
		if !flags.HasAvailableFlags() {
			continue
		}
		title := section
		if title == "" {
			title = "Flags:"
		}
		fmt.Fprintf(w, "\n%s\n%s", title, flags.FlagUsagesWrapped(helpColumns))
	}
}
