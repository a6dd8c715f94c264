package main

import (
	"github.com/spf13/cobra"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
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

// The sections of a command's help. A flag without one is the command's own.
const (
	sectionTarget = "What is measured on:"
	sectionOutput = "Output:"
)

// program is what all commands have in common. What to measure on has variables of
// the benchmark's own: a shell that is set up for a ledger in earnest is not to have
// a benchmark run on its etcd.
var program = cli.Program{
	Variables:        "HOLDFAST_BENCH_",
	Sections:         []string{sectionTarget, sectionOutput},
	RefuseEmptyLists: true,
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:     "holdfast-bench",
		Short:   "Measure Holdfast, and beside it what else there is, on an etcd",
		Long:    rootLong,
		Example: rootExample,
	}
	root.AddCommand(newRun(), newCompare(), newWorkloads(), newVersion())
	root.CompletionOptions.DisableDefaultCmd = true
	program.Finish(root)
	return root
}
