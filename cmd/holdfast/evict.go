package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/state"
)

func newEvict() *cobra.Command {
	var v verb
	var out output
	var f evictFlags
	cmd := &cobra.Command{
		Use:   "evict CLUSTER [--reason TEXT --yes]",
		Short: "Give up the lapsed holds of a cluster that is lost",
		Long: `Ends the lapsed holds of a cluster: those that none of its controllers stands by
any more. It is your word that the cluster's nodes can no longer write to these
volumes: Holdfast can't see that. Holds that are stood by are left alone, and a
cluster that comes back in the middle keeps what is left.

Without --yes it shows what it would evict, and changes nothing.`,
		Example: `  holdfast evict east
  holdfast evict east --reason "site east is under water" --yes

  # Only some
  holdfast evict east --volume vol-1 --volume vol-2 --reason "moved by hand" --yes`,
		Args: cli.Takes("CLUSTER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needReason(f.why); f.yes && err != nil {
				return err
			}
			open := v.read
			if f.yes {
				open = v.write
			}
			return open(cmd, func(ctx context.Context, l *state.Ledger) error {
				e, err := f.find(ctx, l, args[0])
				if err == nil && f.yes {
					err = f.evict(ctx, l, e)
				}
				if e == nil {
					return err
				}
				return errors.Join(err, out.print(cmd, e, e.print))
			})
		},
	}
	fs := cmd.Flags()
	fs.StringArrayVar(&f.volumes, "volume", nil, "only the hold of this `volume`; may be given again")
	fs.StringVar(&f.node, "node", "", "only the holds of this `node`")
	fs.BoolVar(&f.yes, "yes", false, "evict them; without it they are only listed")
	fs.StringVar(&f.why, "reason", "", "why, a `text` for whoever wonders later; needed with --yes")
	cli.OnlyTyped(fs, "yes")
	v.addBy(fs)
	out.add(cmd)
	v.addVerb(cmd, waitGracePeriod, waitJournalRetention)
	return cmd
}

type evictFlags struct {
	volumes []string
	node    string
	why     string
	yes     bool
}

// eviction is what evict prints.
type eviction struct {
	Cluster string         `json:"cluster"`
	Evicted bool           `json:"evicted"` // false: only listed
	Items   []evictionItem `json:"items"`
	// Standing are the holds left alone because their cluster stands by them.
	Standing int `json:"standing"`

	holds []state.Hold
}

type evictionItem struct {
	holdView
	Ended   bool   `json:"ended"`
	Refused string `json:"refused,omitempty"`
}

func (f *evictFlags) find(ctx context.Context, l *state.Ledger, cluster string) (*eviction, error) {
	if err := knownCluster(ctx, l, cluster); err != nil {
		return nil, err
	}
	e := &eviction{Cluster: cluster, Evicted: f.yes, Items: []evictionItem{}}
	for h, err := range l.Holds(ctx, state.HoldFilter{Cluster: cluster, Node: f.node}) {
		switch {
		case err != nil:
			return nil, err
		case len(f.volumes) > 0 && !slices.Contains(f.volumes, h.Volume):
		case !h.Lapsed:
			e.Standing++
		default:
			e.holds = append(e.holds, h)
			e.Items = append(e.Items, evictionItem{holdView: viewHold(h)})
		}
	}
	if len(f.volumes) > 0 && len(e.Items) == 0 {
		return nil, e.nothing(f.volumes)
	}
	return e, nil
}

// nothing says why none of the volumes that were named can be evicted.
func (e *eviction) nothing(volumes []string) error {
	if e.Standing > 0 {
		return fmt.Errorf("%w: cluster %s stands by its holds of %q: they have not lapsed, and can be detached", state.ErrConflict, e.Cluster, volumes)
	}
	return fmt.Errorf("%w: cluster %s has no hold of %q there", state.ErrNotFound, e.Cluster, volumes)
}

func (f *evictFlags) evict(ctx context.Context, l *state.Ledger, e *eviction) error {
	results, err := l.Evict(ctx, e.Cluster, e.holds, l.Config().By, f.why)
	left := 0
	for i, r := range results {
		e.Items[i].Ended, e.Items[i].Refused = r.Ended, r.Refused
		if !r.Ended && r.Err == nil {
			left++
		}
	}
	if left > 0 {
		err = errors.Join(err, fmt.Errorf("%w: %d of %d holds were not evicted, because they changed meanwhile", state.ErrConflict, left, len(results)))
	}
	return err
}

func (e *eviction) print(w io.Writer) {
	if len(e.Items) > 0 {
		t := newTable(w, "VOLUME", "NODE", "MODE", "AGE", "TOKEN", "RESULT")
		for _, i := range e.Items {
			result := "would be evicted"
			switch {
			case i.Ended:
				result = "evicted"
			case i.Refused != "":
				result = "kept: " + i.Refused
			case e.Evicted:
				result = "failed"
			}
			t.row(i.Volume, i.Node, string(i.Mode), age(i.Since), i.Token.String(), result)
		}
		t.flush()
	}
	switch {
	case len(e.Items) == 0:
		fmt.Fprintf(w, "cluster %s has no lapsed hold there: nothing to evict (%d stood by)\n", e.Cluster, e.Standing)
	case !e.Evicted:
		fmt.Fprintf(w, "nothing was changed: add --reason and --yes to evict these %d (%d stood by are left alone)\n", len(e.Items), e.Standing)
	}
}
