package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/state"
)

func newFreeze() *cobra.Command {
	var v verb
	var out output
	var why string
	cmd := &cobra.Command{
		Use:   "freeze --reason TEXT",
		Short: "Stop every attach, migration, removal and eviction, in all clusters",
		Long: `Freezes the whole ledger: no attach, migration, removal or eviction succeeds in
any cluster until 'holdfast unfreeze'. Detaches go on. For a storage incident,
and before an etcd restore.`,
		Example: `  holdfast freeze --reason "array controller failover, ticket 4711"
  holdfast unfreeze`,
		Args: cli.Takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needReason(why); err != nil {
				return err
			}
			return v.write(cmd, func(ctx context.Context, l *state.Ledger) error {
				if err := l.Freeze(ctx, l.Config().By, why); err != nil {
					return err
				}
				return printLedger(ctx, cmd, l, &out, "the ledger is frozen: no attach, migration, removal or eviction until 'holdfast unfreeze'")
			})
		},
	}
	addReason(cmd, &why)
	v.addBy(cmd.Flags())
	out.add(cmd)
	v.addVerb(cmd, waitJournalRetention)
	return cmd
}

// printLedger prints the ledger's own record, or a line in its place.
func printLedger(ctx context.Context, cmd *cobra.Command, l *state.Ledger, out *output, line string) error {
	rec, err := l.Record(ctx)
	if err != nil {
		return err
	}
	return out.print(cmd, rec, func(w io.Writer) { fmt.Fprintln(w, line) })
}
