package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
	"github.com/holdfast-storage/holdfast/state"
)

func newGet() *cobra.Command {
	var v verb
	var out output
	cmd := &cobra.Command{
		Use:   "get VOLUME",
		Short: "Show one volume: who holds it, since when, and what would free it",
		Long: `Shows everything that the ledger has of one volume. What is left of a grace
period, a migration's window or an attachment is as etcd says it.

A volume that the ledger never saw is free. States: free, grace, attached,
migrating, overdue (two hold it and the window is over), lapsed (held, and its
cluster has been away for a while).`,
		Example: `  holdfast get vol-1
  holdfast get vol-1 -o json | jq '.holds[].token'`,
		Args: cli.Takes("VOLUME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return v.read(cmd, func(ctx context.Context, l *state.Ledger) error {
				volume, err := viewVolume(ctx, l, args[0])
				if err != nil {
					return err
				}
				return out.print(cmd, volume, volume.print)
			})
		},
	}
	out.add(cmd)
	v.addVerb(cmd)
	return cmd
}

// volumeView is what get prints.
type volumeView struct {
	Volume      string            `json:"volume"`
	State       state.VolumeState `json:"state"`
	Holds       []holdView        `json:"holds"`
	Attachments []attachmentView  `json:"attachments"`
	Detachments []detachmentView  `json:"detachments"`
	Migration   *migrationView    `json:"migration,omitempty"`
	// Frees are the ways to free it, a sentence each, for people.
	Frees    []string `json:"frees"`
	Revision int64    `json:"revision"`
}

func viewVolume(ctx context.Context, l *state.Ledger, name string) (*volumeView, error) {
	v, err := l.Volume(ctx, name)
	if err != nil {
		return nil, err
	}
	out := &volumeView{
		Volume: v.Name, State: v.State, Revision: v.Revision,
		Holds: []holdView{}, Attachments: []attachmentView{}, Detachments: []detachmentView{},
	}
	for _, h := range v.Holds {
		out.Holds = append(out.Holds, viewHold(h))
	}
	for _, a := range v.Attachments {
		out.Attachments = append(out.Attachments, viewAttachment(a))
	}
	for _, d := range v.Detachments {
		out.Detachments = append(out.Detachments, viewDetachment(d))
	}
	if v.Migration != nil {
		m := viewMigration(*v.Migration)
		out.Migration = &m
	}
	if err := out.ask(ctx, newLeases(l)); err != nil {
		return nil, err
	}
	out.Frees = remedies(v, out.wait())
	return out, nil
}

// ask fills in what is left of each lease.
func (v *volumeView) ask(ctx context.Context, leases *leases) error {
	var errs []error
	for i := range v.Attachments {
		errs = append(errs, leases.left(ctx, v.Attachments[i].Lease, &v.Attachments[i].LeftSeconds))
	}
	for i := range v.Detachments {
		errs = append(errs, leases.left(ctx, v.Detachments[i].Lease, &v.Detachments[i].LeftSeconds))
	}
	if v.Migration != nil {
		errs = append(errs, leases.left(ctx, v.Migration.Lease, &v.Migration.LeftSeconds))
	}
	return errors.Join(errs...)
}

// wait is how long the volume's state lasts if nobody does anything: what is
// left of its window or, for another cluster, of its grace.
func (v *volumeView) wait() time.Duration {
	longest := 0.0
	if v.Migration != nil {
		longest = *v.Migration.LeftSeconds
	} else {
		for _, d := range v.Detachments {
			if d.Mode == state.Exclusive {
				longest = max(longest, *d.LeftSeconds)
			}
		}
	}
	return time.Duration(longest * float64(time.Second))
}

func (v *volumeView) print(w io.Writer) {
	fmt.Fprintf(w, "Volume:    %s\nState:     %s\nRevision:  %d\n", printable(v.Volume), v.State, v.Revision)
	if len(v.Holds) > 0 {
		fmt.Fprintf(w, "\nHolds:\n")
		t := newTable(w, "CLUSTER", "NODE", "MODE", "AGE", "TOKEN", "BY", "STANDING")
		for _, h := range v.Holds {
			t.row(h.Cluster, h.Node, string(h.Mode), age(h.Since), h.Token.String(), h.By, v.standing(h))
		}
		t.flush()
	}
	if m := v.Migration; m != nil {
		fmt.Fprintf(w, "\nMigration:\n")
		t := newTable(w, "FROM", "TO", "AGE", "LEFT", "BY")
		t.row(m.Source.String(), m.Target.String(), age(m.Since), seconds(*m.LeftSeconds), m.By)
		t.flush()
	}
	if len(v.Detachments) > 0 {
		fmt.Fprintf(w, "\nDetachments:\n")
		t := newTable(w, "CLUSTER", "NODE", "MODE", "AGE", "GRACE", "LEFT", "REASON", "BY")
		for _, d := range v.Detachments {
			t.row(d.Cluster, d.Node, string(d.Mode), age(d.At), seconds(d.GraceSeconds), seconds(*d.LeftSeconds), d.Reason, d.By)
		}
		t.flush()
	}
	v.printBroken(w)
	fmt.Fprintln(w)
	for _, line := range v.Frees {
		fmt.Fprintln(w, cli.OneLine(line))
	}
}

// standing says whether a hold's cluster stands by it, and for how long yet
// if its controllers were gone now.
func (v *volumeView) standing(h holdView) string {
	switch {
	case h.Lapsed:
		return "lapsed"
	case h.StandingUnknown:
		return "unknown" // the etcd role does not reach another cluster's attachments
	}
	for _, a := range v.Attachments {
		if a.Cluster == h.Cluster && a.Node == h.Node {
			return "for " + seconds(*a.LeftSeconds)
		}
	}
	return ""
}

func (v *volumeView) printBroken(w io.Writer) {
	var broken []string
	for _, h := range v.Holds {
		broken = append(broken, h.Broken)
	}
	for _, a := range v.Attachments {
		broken = append(broken, a.Broken)
	}
	for _, d := range v.Detachments {
		broken = append(broken, d.Broken)
	}
	if v.Migration != nil {
		broken = append(broken, v.Migration.Broken)
	}
	for _, b := range broken {
		if b != "" {
			fmt.Fprintf(w, "\nThe volume counts as held, although a %s\n", cli.OneLine(b))
		}
	}
}

func seconds(s float64) string { return span(time.Duration(s * float64(time.Second))) }
