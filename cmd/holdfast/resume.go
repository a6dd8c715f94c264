package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/state"
)

func newResume() *cobra.Command {
	var v verb
	var out output
	var why string
	var brake bool
	cmd := &cobra.Command{
		Use:   "resume CLUSTER",
		Short: "Let removal in a cluster go on: after a pause or, with --brake, after the brake",
		Long: `Ends the pause of a cluster. With --brake it lets a braked removal go on instead:
it is your word that the nodes that are gone are meant to be gone. The brake
counts anew from there. 'holdfast plan' shows what will be removed.`,
		Example: `  holdfast resume east

  # After looking at what that removes
  holdfast plan --cluster east --kubeconfig ~/.kube/config
  holdfast resume east --brake --reason "scaled down on purpose, ticket 4711"`,
		Args: cli.Takes("CLUSTER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if brake {
				if err := needReason(why); err != nil {
					return err
				}
			}
			return v.write(cmd, func(ctx context.Context, l *state.Ledger) error {
				if err := knownCluster(ctx, l, args[0]); err != nil {
					return err
				}
				if brake {
					return releaseBrake(ctx, cmd, l, &out, args[0], why)
				}
				if err := l.Resume(ctx, args[0], l.Config().By); err != nil {
					return err
				}
				result := struct {
					Cluster string `json:"cluster"`
					Paused  bool   `json:"paused"`
				}{args[0], false}
				return out.print(cmd, result, func(w io.Writer) {
					fmt.Fprintf(w, "removal in cluster %s goes on\n", args[0])
				})
			})
		},
	}
	cmd.Flags().BoolVar(&brake, "brake", false, "let a braked removal go on; needs --reason")
	cmd.Flags().StringVar(&why, "reason", "", "why the brake is released, a `text` for the journal")
	cli.OnlyTyped(cmd.Flags(), "brake")
	v.addBy(cmd.Flags())
	out.add(cmd)
	v.addVerb(cmd, waitJournalRetention)
	return cmd
}

func releaseBrake(ctx context.Context, cmd *cobra.Command, l *state.Ledger, out *output, cluster, why string) error {
	entry, err := l.ReleaseBrake(ctx, cluster, l.Config().By, why)
	if err != nil {
		return err
	}
	return out.print(cmd, viewEntry(entry), func(w io.Writer) {
		fmt.Fprintf(w, "the brake in cluster %s is released at revision %d: the departures on record no longer count. While the Node list is empty it stays on all the same\n",
			cluster, entry.ModRevision)
	})
}
