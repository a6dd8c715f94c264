// Package cli is what the command lines of this module have in common: flags that
// the environment sets too, errors of one line, and help of one shape.
//
// A command makes its tree with cobra, marks the flags that are special with
// AddSection, OnlyTyped, Variable and AllowEmpty, and has Program.Finish do the
// rest for all of them.
package cli

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Program is what the commands of one binary have in common.
type Program struct {
	// Variables is what the name of each flag's variable begins with.
	Variables string
	// Sections are the headings of the help, in their order, below a command's own
	// flags; see AddSection.
	Sections []string
	// RefuseEmptyLists has a list that is given without a value be wrong usage, as
	// it is of a text.
	RefuseEmptyLists bool
}

// Finish does for root and all below it what none of them should have to think of.
// It comes when all flags are there, and once.
func (p Program) Finish(root *cobra.Command) {
	root.SilenceUsage, root.SilenceErrors = true, true
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if err := p.refuseEmpty(cmd.Flags()); err != nil {
			return err
		}
		// After the command line, so that a flag wins.
		return p.readEnvironment(cmd.Flags())
	}
	root.SetUsageFunc(p.printUsage)
	root.SetFlagErrorFunc(explainFlag)
	p.settle(root)
}

func (p Program) settle(cmd *cobra.Command) {
	cmd.Flags().SortFlags = false
	p.nameVariables(cmd.LocalFlags())
	if act := cmd.RunE; act != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if err := act(cmd, args); err != nil {
				return &runError{err}
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		p.settle(sub)
	}
}

// Main carries out the process's command line by run and exits with its code.
func Main(run func(ctx context.Context, args []string, stdout, stderr io.Writer) int) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks every command to come to an end; a second one kills.
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
