package main

import (
	"context"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/state"
)

func newList() *cobra.Command {
	var v verb
	var out output
	var f listFilter
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List what is held, and what is in its grace period",
		Long: `Lists every hold of the ledger with its volume's state, and the volumes that are
in their grace period, by their last holder. Filters can be combined.`,
		Example: `  holdfast list
  holdfast list --cluster east --node node-1
  holdfast list --state lapsed`,
		Args: cli.Takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return v.read(cmd, func(ctx context.Context, l *state.Ledger) error {
				rows, err := f.list(ctx, l)
				if err != nil {
					return err
				}
				return out.print(cmd, itemsOf(rows), func(w io.Writer) { printList(w, rows) })
			})
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.cluster, "cluster", "", "only this cluster's, by `name`")
	fs.StringVar(&f.node, "node", "", "only this `node`'s")
	fs.Var(cli.NewChoice(&f.state, "", listStates...), "state", "only volumes in this state")
	out.add(cmd)
	v.addVerb(cmd)
	return cmd
}

var listStates = []string{
	string(state.StateAttached), string(state.StateGrace), string(state.StateMigrating), string(state.StateOverdue), string(state.StateLapsed),
}

// listRow is a hold or, for a volume in its grace period, the detachment of its
// last holder.
type listRow struct {
	Volume  string            `json:"volume"`
	State   state.VolumeState `json:"state"`
	Cluster string            `json:"cluster"`
	Node    string            `json:"node"`
	Mode    state.Mode        `json:"mode"`
	// Since is the time of the attach or, in the grace period, of the detach.
	Since  time.Time   `json:"since"`
	Token  state.Token `json:"token,omitempty"`
	By     string      `json:"by,omitempty"`
	Lapsed bool        `json:"lapsed"`
	// StandingUnknown: the etcd role does not reach what would tell.
	StandingUnknown bool   `json:"standingUnknown,omitempty"`
	Broken          string `json:"broken,omitempty"`
}

type listFilter struct{ cluster, node, state string }

func (f listFilter) check() error {
	if f.cluster != "" {
		if err := state.ValidateCluster(f.cluster); err != nil {
			return cli.Usagef("--cluster: %w", err)
		}
	}
	if f.node != "" {
		if err := state.ValidateNode(f.node); err != nil {
			return cli.Usagef("--node: %w", err)
		}
	}
	return nil
}

func (f listFilter) list(ctx context.Context, l *state.Ledger) ([]listRow, error) {
	var holds []state.Hold
	for h, err := range l.Holds(ctx, state.HoldFilter{Cluster: f.cluster, Node: f.node}) {
		if err != nil {
			return nil, err
		}
		holds = append(holds, h)
	}
	ended, err := f.graces(ctx, l)
	if err != nil {
		return nil, err
	}
	doubles, err := f.others(ctx, l, ended)
	if err != nil {
		return nil, err
	}
	windows := map[string]bool{}
	if len(doubles) > 0 {
		for m, err := range l.Migrations(ctx) {
			if err != nil {
				return nil, err
			}
			windows[m.Volume] = true
		}
	}
	var rows []listRow
	for _, h := range holds {
		rows = append(rows, rowOfHold(h, doubles[h.Volume], windows[h.Volume]))
	}
	for _, d := range ended {
		rows = append(rows, listRow{
			Volume: d.Volume, State: state.StateGrace, Cluster: d.Cluster, Node: d.Node, Mode: d.Mode,
			Since: d.At, Token: d.Token, By: d.By, Broken: text(d.Broken),
		})
	}
	if f.state != "" {
		rows = slices.DeleteFunc(rows, func(r listRow) bool {
			// One that may be lapsed must not be missed by whoever looks for those.
			unknown := r.StandingUnknown && f.state == string(state.StateLapsed)
			return string(r.State) != f.state && !unknown
		})
	}
	slices.SortStableFunc(rows, func(a, b listRow) int { return strings.Compare(a.Volume, b.Volume) })
	return rows, nil
}

// graces are the newest detachments that match, by volume.
func (f listFilter) graces(ctx context.Context, l *state.Ledger) (map[string]state.Detachment, error) {
	newest := map[string]state.Detachment{}
	for d, err := range l.Detachments(ctx, "") {
		if err != nil {
			return nil, err
		}
		if last, ok := newest[d.Volume]; !ok || d.ModRevision > last.ModRevision {
			newest[d.Volume] = d
		}
	}
	for volume, d := range newest {
		if f.cluster != "" && d.Cluster != f.cluster || f.node != "" && d.Node != f.node {
			delete(newest, volume)
		}
	}
	return newest, nil
}

// others walks the keys of all holds, whatever the filter, for what the holds
// that match don't tell: which volumes have two exclusive ones. The volumes that
// are held at all it takes out of ended.
func (f listFilter) others(ctx context.Context, l *state.Ledger, ended map[string]state.Detachment) (map[string]bool, error) {
	doubles := map[string]bool{}
	last := "" // holds come in the order of their volumes
	for h, err := range l.HoldKeys(ctx, "") {
		if err != nil {
			return nil, err
		}
		delete(ended, h.Volume)
		if h.Mode != state.Exclusive {
			continue
		}
		if h.Volume == last {
			doubles[h.Volume] = true
		}
		last = h.Volume
	}
	return doubles, nil
}

func rowOfHold(h state.Hold, double, window bool) listRow {
	row := listRow{
		Volume: h.Volume, State: state.StateAttached, Cluster: h.Cluster, Node: h.Node, Mode: h.Mode,
		Since: h.Since, Token: h.Token, By: h.By, Lapsed: h.Lapsed, StandingUnknown: h.StandingUnknown, Broken: text(h.Broken),
	}
	switch {
	case double && window:
		row.State = state.StateMigrating
	case double:
		row.State = state.StateOverdue
	case h.Lapsed:
		row.State = state.StateLapsed
	}
	return row
}

// token is empty where whoever ended the hold did not know it.
func token(t state.Token) string {
	if t == 0 {
		return ""
	}
	return t.String()
}

func printList(w io.Writer, rows []listRow) {
	t := newTable(w, "VOLUME", "CLUSTER", "NODE", "MODE", "STATE", "AGE", "TOKEN")
	for _, r := range rows {
		shown := string(r.State)
		if r.Broken != "" {
			shown += " (broken record)"
		} else if r.Lapsed && r.State != state.StateLapsed {
			shown += " (lapsed)"
		} else if r.StandingUnknown {
			shown += " (or lapsed)"
		}
		t.row(r.Volume, r.Cluster, r.Node, string(r.Mode), shown, age(r.Since), token(r.Token))
	}
	t.flush()
}
