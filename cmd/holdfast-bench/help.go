package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// helpColumns is fixed, so that the help is the same in every terminal.
const helpColumns = 100

// printUsage is the part of the help below a command's description.
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
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(w, "\nCommands:\n")
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() {
				fmt.Fprintf(w, "  %-*s %s\n", cmd.NamePadding(), c.Name(), c.Short)
			}
		}
	}
	for _, section := range []string{"", sectionTarget, sectionOutput} {
		if usages := usages(cmd, section); usages != "" {
			title := section
			if title == "" {
				title = "Flags:"
			}
			fmt.Fprintf(w, "\n%s\n%s", title, usages)
		}
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(w, "\nUse \"%s COMMAND --help\" for more about a command.\n", cmd.CommandPath())
	}
	return nil
}

// usages are a command's flags of one section of its help.
func usages(cmd *cobra.Command, section string) string {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.SortFlags = false
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if strings.Join(f.Annotations[annotationSection], "") == section {
			flags.AddFlag(f)
		}
	})
	if !flags.HasAvailableFlags() {
		return ""
	}
	return flags.FlagUsagesWrapped(helpColumns)
}
