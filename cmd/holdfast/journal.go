package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/state"
)

func newJournal() *cobra.Command {
	var v verb
	var out output
	var cluster string
	var since moment
	cmd := &cobra.Command{
		Use:   "journal",
		Short: "Show what was removed, evicted, forced, frozen: why, by whom, on which evidence",
		Long: `Shows the journal, oldest first: what ended a hold other than its own cluster's
detach, and what changed how the ledger works. Entries are kept for
--journal-retention of whoever wrote them. The evidence of a removal is in
-o json and -o yaml. To follow it: holdfast watch --kind journal.`,
		Example: `  holdfast journal
  holdfast journal --cluster east --since 2h
  holdfast journal --since 2026-08-01T12:00:00Z -o json`,
		Args: cli.Takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cluster != "" {
				if err := state.ValidateCluster(cluster); err != nil {
					return cli.Usagef("--cluster: %w", err)
				}
			}
			return v.read(cmd, func(ctx context.Context, l *state.Ledger) error {
				entries, err := entriesOf(ctx, l, "", cluster, since.Time)
				if cluster != "" && errors.Is(err, state.ErrBeyondRole) {
					// A cluster's own etcd role reaches no other's journal, nor the ledger's own.
					entries, err = entriesOf(ctx, l, cluster, cluster, since.Time)
				}
				if err != nil {
					return err
				}
				slices.SortStableFunc(entries, func(a, b entryView) int { return strings.Compare(a.ID, b.ID) })
				return out.print(cmd, itemsOf(entries), func(w io.Writer) { printJournal(w, entries) })
			})
		},
	}
	cmd.Flags().StringVar(&cluster, "cluster", "", "only this cluster's, by `name`, and the ledger's own")
	cmd.Flags().Var(&since, "since", "only what is newer: `how long` ago, or a time such as 2026-08-01T12:00:00Z")
	out.add(cmd)
	v.addVerb(cmd)
	return cmd
}

// entriesOf reads the journal of one cluster, or every one, and picks what
// concerns a cluster, or all.
func entriesOf(ctx context.Context, l *state.Ledger, from, cluster string, since time.Time) ([]entryView, error) {
	var entries []entryView
	for e, err := range l.Journal(ctx, from, since) {
		if err != nil {
			return nil, err
		}
		// The ledger's own, such as a freeze, concern every cluster.
		if cluster == "" || e.Cluster == cluster || e.Cluster == "" {
			entries = append(entries, viewEntry(e))
		}
	}
	return entries, nil
}

func printJournal(w io.Writer, entries []entryView) {
	t := newTable(w, "AGE", "ACTION", "VOLUME", "CLUSTER", "NODE", "REASON", "BY", "WHY")
	for _, e := range entries {
		action := string(e.Action)
		if e.Broken != "" {
			action = "(broken record)"
		}
		t.row(age(e.At), action, e.Volume, e.Cluster, e.Node, e.Reason, e.By, e.Why)
	}
	t.flush()
}

// moment is a flag of a time: as such, or as how long ago it was.
type moment struct{ time.Time }

func (m *moment) Set(s string) error {
	if ago, err := time.ParseDuration(s); err == nil && ago > 0 {
		m.Time = time.Now().Add(-ago)
		return nil
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return fmt.Errorf("expected how long ago, such as 2h, or a time such as 2026-08-01T12:00:00Z")
	}
	m.Time = at
	return nil
}

func (m *moment) Type() string { return "time" }

func (m *moment) String() string {
	if m.IsZero() {
		return ""
	}
	return m.Format(time.RFC3339)
}
