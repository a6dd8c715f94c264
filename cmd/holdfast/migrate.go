package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/state"
)

type migrateFlags struct {
	to            state.Place
	toUID, from   string
	token         uint64
	commit, abort bool
}

func newMigrate() *cobra.Command {
	var v verb
	var out output
	var f migrateFlags
	cmd := &cobra.Command{
		Use:   "migrate VOLUME (--to NODE | --commit | --abort) --cluster NAME",
		Short: "Move a volume between two nodes that both hold it for a while",
		Long: `Gives a second node a hold of a volume that is held exclusively, for the length
of the migration window. --commit then ends the first node's hold, and --abort
the second one's; a detach of either does too.

A window that ends by itself frees nothing: both nodes still hold the volume,
which is then overdue, and one of the two has to be detached.

--cluster is the cluster of the node that holds the volume.`,
		Example: `  holdfast migrate vol-1 --to node-2 --cluster east
  holdfast migrate vol-1 --commit --cluster east

  # Into another cluster
  holdfast migrate vol-1 --to node-7 --to-cluster west --cluster east`,
		Args: cli.Takes("VOLUME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return v.as(cmd, func(ctx context.Context, c *state.Cluster) error {
				m, done, err := f.act(ctx, c, args[0])
				if err != nil {
					return err
				}
				return out.print(cmd, viewMigration(m), func(w io.Writer) { fmt.Fprintln(w, done) })
			})
		},
	}
	fs := cmd.Flags()
	v.clusterFlags.add(fs)
	fs.StringVar(&f.to.Node, "to", "", "begin: the `node` that gets the second hold")
	fs.StringVar(&f.to.Cluster, "to-cluster", "", "the `cluster` of --to (default --cluster)")
	fs.StringVar(&f.toUID, "to-uid", "", "`UID` of the Node object of --to, for the record")
	fs.StringVar(&f.from, "from", "", "the `node` that holds the volume (default the one that does)")
	fs.Uint64Var(&f.token, "token", 0, "begin only if the hold is the one of this `token`")
	fs.BoolVar(&f.commit, "commit", false, "finish: end the first node's hold")
	fs.BoolVar(&f.abort, "abort", false, "take back: end the second node's hold")
	cli.OnlyTyped(fs, "commit", "abort")
	v.addBy(fs)
	out.add(cmd)
	v.addVerb(cmd, waitMigrationWindow, waitGracePeriod, waitAttachmentTTL)
	return cmd
}

func (f *migrateFlags) check() error {
	given := 0
	for _, is := range []bool{f.to.Node != "", f.commit, f.abort} {
		if is {
			given++
		}
	}
	if given != 1 {
		return cli.Usagef("expected exactly one of --to NODE, --commit and --abort")
	}
	if f.to.Node == "" && (f.to.Cluster != "" || f.toUID != "" || f.from != "" || f.token != 0) {
		return cli.Usagef("--to-cluster, --to-uid, --from and --token go with --to: the window itself says the rest")
	}
	return nil
}

// act carries out what the flags say and tells it in a line.
func (f *migrateFlags) act(ctx context.Context, c *state.Cluster, volume string) (state.Migration, string, error) {
	v, err := c.Ledger().Volume(ctx, volume)
	if err != nil {
		return state.Migration{}, "", err
	}
	if f.to.Node != "" {
		source, err := f.source(v, c.Name())
		if err != nil {
			return state.Migration{}, "", err
		}
		m, err := c.Migrate(ctx, state.MigrateRequest{
			Volume: volume, Source: source, SourceToken: state.Token(f.token), Target: f.to, TargetUID: f.toUID,
		})
		return m, fmt.Sprintf("volume %s migrates from %s to %s (token %s); the window of %s ends with --commit, --abort, or by itself",
			printable(volume), m.Source, m.Target, m.TargetToken, shortDuration(m.Deadline.Sub(m.Since))), err
	}
	if v.Migration == nil {
		return state.Migration{}, "", noMigration(v)
	}
	m := *v.Migration
	winner := m.Target
	if f.abort {
		winner, err = m.Source, c.Abort(ctx, m)
	} else {
		err = c.Commit(ctx, m)
	}
	return m, fmt.Sprintf("volume %s is held by %s alone", printable(volume), printable(winner.String())), err
}

// source is the node to migrate from: the one that holds the volume, unless the
// flags name another. Whether it may be migrated the transaction says.
func (f *migrateFlags) source(v *state.Volume, cluster string) (string, error) {
	if f.from != "" {
		return f.from, nil
	}
	if v.Migration != nil && v.Migration.Source.Cluster == cluster {
		return v.Migration.Source.Node, nil
	}
	for _, h := range v.Holds {
		if h.Cluster == cluster && h.Mode == state.Exclusive {
			return h.Node, nil
		}
	}
	if len(v.Holds) == 0 {
		return "", fmt.Errorf("%w: volume %q has no hold to migrate; it is %s", state.ErrNotFound, v.Name, inWords(v.State))
	}
	return "", &state.ConflictError{
		Volume: v.Name, Holders: v.Holds, Revision: v.Revision,
		Detail: fmt.Sprintf("cluster %s has no exclusive hold to migrate from", cluster),
	}
}

func inWords(s state.VolumeState) string {
	if s == state.StateGrace {
		return "in its grace period"
	}
	return string(s)
}

func noMigration(v *state.Volume) error {
	why := "it is " + inWords(v.State)
	if v.State == state.StateOverdue {
		why = "its window is over: detach one of its two holders"
	}
	return fmt.Errorf("%w: volume %q is not migrating; %s", state.ErrNotFound, v.Name, why)
}
