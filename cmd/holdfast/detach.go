package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/state"
)

func newDetach() *cobra.Command {
	var v verb
	var out output
	var req state.DetachRequest
	var all state.DetachAllRequest
	var token uint64
	cmd := &cobra.Command{
		Use:   "detach VOLUME NODE --cluster NAME",
		Short: "End a node's hold of a volume",
		Long: `Ends a node's hold of a volume, and begins its grace period: until that is over
only the same cluster may attach the volume. Where the node has no hold, nothing
happens, and that is a success.

It goes on while the ledger is frozen.`,
		Example: `  holdfast detach vol-1 node-1 --cluster east

  # Only if the hold is still this one
  holdfast detach vol-1 node-1 --cluster east --token 1042

  # Everything that a node holds, before it is taken away
  holdfast detach --all-of-node node-1 --cluster east`,
		Args: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("all-of-node") || cmd.Flags().Changed("all-of-volume") {
				if len(args) > 0 {
					return fmt.Errorf("--all-of-node and --all-of-volume go without VOLUME and NODE, and %q was given", args)
				}
				return nil
			}
			return cli.Takes("VOLUME", "NODE")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				all.Reason = req.Reason
				return detachAll(cmd, &v, &out, all)
			}
			req.Volume, req.Node, req.Token = args[0], args[1], state.Token(token)
			return v.as(cmd, func(ctx context.Context, c *state.Cluster) error {
				ended, err := c.Detach(ctx, req)
				if err != nil {
					return err
				}
				return out.print(cmd, viewEnded(ended), func(w io.Writer) {
					if !ended.Existed {
						fmt.Fprintf(w, "volume %s was not attached to node %s of cluster %s: nothing to do; '%s' shows who holds it\n",
							printable(req.Volume), req.Node, c.Name(), command("get", []string{req.Volume}))
						return
					}
					printEnded(w, ended)
				})
			})
		},
	}
	fs := cmd.Flags()
	v.clusterFlags.add(fs)
	fs.Uint64Var(&token, "token", 0, "end only the hold of this `token` (default whichever the node has)")
	fs.StringVar(&all.Node, "all-of-node", "", "end every hold of the cluster's `node`, lapsed ones too")
	fs.StringVar(&all.Volume, "all-of-volume", "", "end every hold that the cluster has of the `volume`")
	cli.OnlyTyped(fs, "all-of-node", "all-of-volume")
	fs.StringVar(&req.Reason, "reason", "detached", "why, a `text` for the record")
	v.addBy(fs)
	out.add(cmd)
	v.addVerb(cmd, waitGracePeriod)
	return cmd
}

// endedView is one end of a hold.
type endedView struct {
	Existed    bool            `json:"existed"`
	Detachment *detachmentView `json:"detachment,omitempty"`
}

func viewEnded(e state.Ended) endedView {
	if !e.Existed {
		return endedView{}
	}
	d := viewDetachment(e.Detachment)
	return endedView{Existed: true, Detachment: &d}
}

func printEnded(w io.Writer, e state.Ended) {
	d := e.Detachment
	fmt.Fprintf(w, "volume %s detached from node %s of cluster %s; its grace period of %s has begun\n",
		printable(d.Volume), printable(d.Node), printable(d.Cluster), shortDuration(d.Grace))
}

func detachAll(cmd *cobra.Command, v *verb, out *output, req state.DetachAllRequest) error {
	return v.as(cmd, func(ctx context.Context, c *state.Cluster) error {
		ended, failed := c.DetachAll(ctx, req)
		views := make([]endedView, len(ended))
		for i, e := range ended {
			views[i] = viewEnded(e)
		}
		err := out.print(cmd, itemsOf(views), func(w io.Writer) {
			for _, e := range ended {
				printEnded(w, e)
			}
			if len(ended) == 0 && failed == nil {
				fmt.Fprintf(w, "cluster %s has no hold there: nothing to do\n", c.Name())
			}
		})
		return errors.Join(failed, err)
	})
}
