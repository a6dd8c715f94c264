package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-storage/holdfast/state"
)

func newUnfreeze() *cobra.Command {
	var v verb
	var out output
	var restored bool
	cmd := &cobra.Command{
		Use:   "unfreeze",
		Short: "End a freeze",
		Long: `Ends a freeze. --restored says that etcd was restored or replaced, and that you
have compared the ledger with what the clusters and the storage say: it raises the
epoch, so that every token from now on is greater than any before. Where a process
has noticed a restore, nothing else ends the freeze: docs/backup.md tells what comes
before it.`,
		Example: `  holdfast unfreeze
  holdfast unfreeze --restored`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return v.write(cmd, func(ctx context.Context, l *state.Ledger) error {
				if err := l.Unfreeze(ctx, l.Config().By, restored); err != nil {
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
	typed(cmd.Flags(), "restored")
	v.addBy(cmd.Flags())
	out.add(cmd)
	v.addVerb(cmd, waitJournalRetention)
	return cmd
}
