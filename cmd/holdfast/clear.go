package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/state"
)

func newClear() *cobra.Command {
	var v verb
	var out output
	cmd := &cobra.Command{
		Use:   "clear VOLUME --cluster NAME",
		Short: "End a volume's grace period before its time",
		Long: `Ends the grace periods that a cluster's detaches of a volume began, so that any
cluster may attach it at once. Do it once the node and the storage are done with
the volume: the grace period is what keeps a late write away from the next node.`,
		Example: `  holdfast clear vol-1 --cluster east`,
		Args:    cli.Takes("VOLUME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return v.as(cmd, func(ctx context.Context, c *state.Cluster) error {
				n, err := c.ClearVolume(ctx, args[0])
				if err != nil {
					return err
				}
				result := struct {
					Volume  string `json:"volume"`
					Cluster string `json:"cluster"`
					Cleared int    `json:"cleared"`
				}{args[0], c.Name(), n}
				return out.print(cmd, result, func(w io.Writer) {
					fmt.Fprintf(w, "grace of volume %s in cluster %s cleared (%d)\n", printable(args[0]), c.Name(), n)
				})
			})
		},
	}
	v.clusterFlags.add(cmd.Flags())
	v.addBy(cmd.Flags())
	out.add(cmd)
	v.addVerb(cmd)
	return cmd
}
