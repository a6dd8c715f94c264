package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/state"
)

func newUnfreeze() *cobra.Command {
	var v verb
	var out output
	var restored bool
	var epoch uint16
	cmd := &cobra.Command{
		Use:   "unfreeze",
		Short: "End a freeze",
		Long: `Ends a freeze. --restored says that etcd was restored or replaced, and that you
have compared the ledger with what the clusters and the storage say: it raises the
epoch, so that every token from now on is greater than any before. Where a process
has noticed a restore, nothing else ends the freeze: docs/backup.md tells what comes
before it.

--epoch goes on with that epoch, past a freeze that does not decode, or claims an
epoch that nobody had. It has to be above every epoch that was in use, or tokens
repeat; below what another freeze says it is refused.`,
		Example: `  holdfast unfreeze
  holdfast unfreeze --restored
  holdfast unfreeze --restored --epoch 12`,
		Args: cli.Takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			given := cmd.Flags().Changed("epoch")
			if given && !restored {
				return cli.Usagef("--epoch without --restored: only a restore raises the epoch")
			}
			return v.write(cmd, func(ctx context.Context, l *state.Ledger) error {
				unfreeze := func() error { return l.Unfreeze(ctx, l.Config().By, restored) }
				if given {
					unfreeze = func() error { return l.UnfreezeTo(ctx, l.Config().By, epoch) }
				}
				if err := unfreeze(); err != nil {
					return err
				}
				rec, err := l.Record(ctx)
				if err != nil {
					return err
				}
				return printLedger(ctx, cmd, l, &out, fmt.Sprintf("the ledger is no longer frozen (epoch %d)", rec.Epoch))
			})
		},
	}
	cmd.Flags().BoolVar(&restored, "restored", false, "accept a restored etcd as it is, and raise the epoch")
	cmd.Flags().Uint16Var(&epoch, "epoch", 0, "with --restored: the `epoch` to go on with (default one above all that is known)")
	cli.OnlyTyped(cmd.Flags(), "restored", "epoch")
	v.addBy(cmd.Flags())
	out.add(cmd)
	v.addVerb(cmd, waitJournalRetention)
	return cmd
}
