package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/state"
)

func newClusters() *cobra.Command {
	var v verb
	var out output
	cmd := &cobra.Command{
		Use:   "clusters",
		Short: "List the clusters on record, and what is paused or frozen; rebind a name",
		Long: `Lists the clusters on record, who has paused which, and whether the ledger is
frozen. A cluster's identity is the UID of its kube-system namespace: a second
cluster that comes under the same name is refused.`,
		Example: `  holdfast clusters
  holdfast clusters rebind east --uid 0b7e… --reason "built anew after the fire"`,
		Args: cli.Takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return v.read(cmd, func(ctx context.Context, l *state.Ledger) error {
				rows, err := listClusters(ctx, l)
				if err != nil {
					return err
				}
				ledger, err := l.Record(ctx)
				if err != nil {
					return err
				}
				freezes, err := restoreFreezes(ctx, l)
				if err != nil {
					return err
				}
				result := clusterList{itemsOf(rows), ledger, freezes}
				return out.print(cmd, result, result.print)
			})
		},
	}
	out.add(cmd)
	v.addVerb(cmd)
	cmd.AddCommand(newRebind())
	return cmd
}

// clusterList is what clusters prints.
type clusterList struct {
	items[clusterRow]
	Ledger state.LedgerRecord `json:"ledger"`
	// Freezes are those of whoever noticed a restored etcd.
	Freezes []state.RestoreFreeze `json:"freezes,omitempty"`
}

// clusterRow is a cluster on record, with its pause.
type clusterRow struct {
	state.ClusterRecord
	Pause  *state.Pause `json:"pause,omitempty"`
	Broken string       `json:"broken,omitempty"`
}

func listClusters(ctx context.Context, l *state.Ledger) ([]clusterRow, error) {
	pauses := map[string]*state.Pause{}
	for p, err := range l.Pauses(ctx) {
		if err != nil {
			return nil, err
		}
		pauses[p.Cluster] = &p
	}
	var rows []clusterRow
	for c, err := range l.Clusters(ctx) {
		if err != nil {
			return nil, err
		}
		rows = append(rows, clusterRow{c, pauses[c.Cluster], text(c.Broken)})
	}
	return rows, nil
}

func (l clusterList) print(w io.Writer) {
	t := newTable(w, "CLUSTER", "UID", "AGE", "PAUSED")
	for _, r := range l.Items {
		paused := "no"
		if p := r.Pause; p != nil {
			paused = fmt.Sprintf("since %s by %s: %s", age(p.Since), p.By, p.Why)
		}
		uid := r.UID
		if r.Broken != "" {
			uid = "(broken record)"
		}
		t.row(r.Cluster, uid, age(r.Since), paused)
	}
	t.flush()
	frozen := "not frozen"
	if f := l.Ledger.Frozen; f != nil {
		frozen = fmt.Sprintf("frozen since %s by %s: %s", age(f.Since), f.By, f.Why)
	} else if len(l.Freezes) > 0 {
		frozen = "frozen after a restore"
	}
	fmt.Fprintf(w, "\n%s\n", cli.OneLine(fmt.Sprintf("Ledger %s of %s, epoch %d: %s", l.Ledger.UUID, driverOf(l.Ledger), l.Ledger.Epoch, frozen)))
	for _, r := range l.Freezes {
		f := r.Freeze()
		fmt.Fprintln(w, cli.OneLine(fmt.Sprintf("Restore noticed %s ago by %s: %s", age(f.Since), f.By, f.Why)))
	}
	if len(l.Freezes) > 0 {
		fmt.Fprintf(w, "%s\n", afterRestore)
	}
}

// restoreFreezes are those of whoever noticed a restored etcd.
func restoreFreezes(ctx context.Context, l *state.Ledger) ([]state.RestoreFreeze, error) {
	var out []state.RestoreFreeze
	for f, err := range l.Freezes(ctx) {
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

func newRebind() *cobra.Command {
	var v verb
	var out output
	var uid, why string
	cmd := &cobra.Command{
		Use:   "rebind CLUSTER --uid UID --reason TEXT",
		Short: "Give a cluster's name to a cluster that was built anew",
		Long: `Puts another kube-system UID on record for a cluster's name. From then on the
old cluster's controllers can write nothing, not even a detach. The holds of the
name stay, and are the new cluster's.`,
		Example: `  # The UID of the cluster that is to have the name
  kubectl get namespace kube-system -o jsonpath='{.metadata.uid}'
  holdfast clusters rebind east --uid 0b7e… --reason "built anew after the fire"`,
		Args: cli.Takes("CLUSTER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if uid == "" {
				return cli.Usagef("--uid is missing: expected the UID of the new cluster's kube-system namespace")
			}
			if err := needReason(why); err != nil {
				return err
			}
			return v.write(cmd, func(ctx context.Context, l *state.Ledger) error {
				before, err := l.Cluster(ctx, state.Identity{Name: args[0]})
				if err != nil {
					return err
				}
				if err := l.Rebind(ctx, args[0], uid, l.Config().By, why); err != nil {
					return err
				}
				result := struct {
					Cluster string `json:"cluster"`
					UID     string `json:"uid"`
					Was     string `json:"was"`
				}{args[0], uid, before.UID()}
				return out.print(cmd, result, func(w io.Writer) {
					fmt.Fprintf(w, "cluster %s is rebound to %s; it was %s\n", args[0], printable(uid), printable(before.UID()))
				})
			})
		},
	}
	cmd.Flags().StringVar(&uid, "uid", "", "`UID` of the new cluster's kube-system namespace (required)")
	addReason(cmd, &why)
	v.addBy(cmd.Flags())
	out.add(cmd)
	v.addVerb(cmd, waitJournalRetention)
	return cmd
}

// addReason registers why an operator does something, for the journal.
func addReason(cmd *cobra.Command, why *string) {
	cmd.Flags().StringVar(why, "reason", "", "why, a `text` for whoever wonders later (required)")
}

func needReason(why string) error {
	if why == "" {
		return cli.Usagef("--reason is missing: expected why, for whoever wonders later")
	}
	return nil
}
