package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/state"
)

func newPause() *cobra.Command {
	var v verb
	var out output
	var why string
	var length time.Duration
	cmd := &cobra.Command{
		Use:   "pause CLUSTER --reason TEXT",
		Short: "Stop the removal of orphans in a cluster",
		Long: `Stops the removal of orphans in a cluster, at once and whoever leads. Attach,
detach and migrate go on. With --for it ends by itself, and not before; a pause
that is there already is replaced.`,
		Example: `  holdfast pause east --reason "storage upgrade" --for 2h
  holdfast resume east`,
		Args: cli.Takes("CLUSTER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needReason(why); err != nil {
				return err
			}
			return v.write(cmd, func(ctx context.Context, l *state.Ledger) error {
				if err := knownCluster(ctx, l, args[0]); err != nil {
					return err
				}
				if err := l.Pause(ctx, args[0], l.Config().By, why, length); err != nil {
					return err
				}
				p, err := l.PauseOf(ctx, args[0])
				if err != nil {
					return err
				}
				return out.print(cmd, p, func(w io.Writer) {
					end := "until 'holdfast resume " + args[0] + "'"
					if length > 0 {
						end = "for " + shortDuration(length)
					}
					fmt.Fprintf(w, "removal in cluster %s is paused %s\n", args[0], end)
				})
			})
		},
	}
	addReason(cmd, &why)
	cmd.Flags().Var(&duration{value: &length}, "for", "end by itself after this long (default never)")
	v.addBy(cmd.Flags())
	out.add(cmd)
	v.addVerb(cmd, waitJournalRetention)
	return cmd
}
