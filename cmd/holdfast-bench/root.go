package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

const rootLong = `Measures Holdfast on an etcd, yours or one that it starts, and in the same run
on the same etcd what else there is: a plain client's puts, a transaction a call,
a lease a record, polling, and VolumeAttachments through a kube-apiserver.

The sides take turns, ratios are taken pair by pair, latency counts from when a
call was meant to start, and errors are counted. docs/performance.md tells how
each figure comes about, and how to read it.

Every flag can also be given in the environment, as the help of each command
names it. A flag wins.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.`

const rootExample = `  # An etcd on this machine, started for the run, fsync on: some minutes
  holdfast-bench run

  # Your etcd, below a prefix of its own that is emptied again
  holdfast-bench run --endpoints https://10.0.0.1:2379 --cacert ca.pem --cert c.pem --key k.pem

  # What has changed
  holdfast-bench compare before/result.json after/result.json`

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "holdfast-bench",
		Short:         "Measure Holdfast, and beside it what else there is, on an etcd",
		Long:          rootLong,
		Example:       rootExample,
		SilenceUsage:  true,
		SilenceErrors: true,
		// The environment is read after the command line, so that a flag wins.
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := refuseEmpty(cmd.Flags()); err != nil {
				return err
			}
			return readEnvironment(cmd.Flags())
		},
	}
	root.AddCommand(newRun(), newCompare(), newWorkloads(), newVersion())
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetUsageFunc(printUsage)
	root.SetFlagErrorFunc(explainFlag)
	settle(root)
	return root
}

// settle does for every command what none of them should have to think of.
func settle(cmd *cobra.Command) {
	cmd.Flags().SortFlags = false
	nameEnvironment(cmd.LocalFlags())
	if act := cmd.RunE; act != nil {
		// What fails before a command runs is wrong usage; what fails while it
		// runs is judged by its error.
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if err := act(cmd, args); err != nil {
				return &runError{err}
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		settle(sub)
	}
}

// takes is the arguments of a command, by the names that its usage line gives them.
func takes(names ...string) cobra.PositionalArgs {
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
