package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/state"
)

func newAttach() *cobra.Command {
	var v verb
	var out output
	var tell conflictFlags
	var req state.AttachRequest
	var mode string
	cmd := &cobra.Command{
		Use:   "attach VOLUME NODE --cluster NAME",
		Short: "Give a node a hold of a volume",
		Long: `Gives a node a hold of a volume, if nobody else has one and no other cluster's
grace period is on. Where the node has it already, it stays, and its token is
printed: attaching twice is attaching once.

A cluster goes on record when its controller first starts. One that never had a
controller needs --cluster-uid here, once.`,
		Example: `  holdfast attach vol-1 node-1 --cluster east
  holdfast attach vol-1 node-1 --cluster east --mode shared

  # The token, for the storage to fence by
  holdfast attach vol-1 node-1 --cluster east -o json | jq .token

  # Say on the claim of the volume who has it, if it is not to be had
  holdfast attach vol-1 node-1 --cluster east --kubeconfig ~/.kube/config`,
		Args: cli.Takes("VOLUME", "NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Volume, req.Node, req.Mode = args[0], args[1], state.Mode(mode)
			if req.IgnoreGrace && req.Why == "" {
				return cli.Usagef("--ignore-grace needs --reason: what makes it safe, for the journal")
			}
			return v.join(cmd, func(ctx context.Context, c *state.Cluster) error {
				h, err := c.Attach(ctx, req)
				if err != nil {
					tell.report(ctx, cmd.ErrOrStderr(), c, err)
					return err
				}
				return out.print(cmd, viewHold(h), func(w io.Writer) {
					fmt.Fprintf(w, "volume %s attached to node %s of cluster %s (%s, token %s)\n",
						printable(h.Volume), h.Node, h.Cluster, h.Mode, h.Token)
				})
			})
		},
	}
	fs := cmd.Flags()
	v.clusterFlags.add(fs)
	fs.Var(cli.NewChoice(&mode, string(state.Exclusive), string(state.Exclusive), string(state.Shared)), "mode", "alone, or together with other shared holds")
	fs.StringVar(&req.NodeUID, "node-uid", "", "`UID` of the Node object, for the record")
	fs.BoolVar(&req.IgnoreGrace, "ignore-grace", false, "attach although another cluster has just detached, and delete its grace")
	fs.StringVar(&req.Why, "reason", "", "why the grace is ignored, a `text` for the journal")
	cli.OnlyTyped(fs, "ignore-grace")
	tell.add(fs)
	v.addBy(fs)
	out.add(cmd)
	v.addVerb(cmd, waitAttachmentTTL, waitJournalRetention)
	return cmd
}
