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

func newInit() *cobra.Command {
	var v verb
	var out output
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a ledger",
		Long: `Makes the ledger's own record, below --prefix. With --driver it is for the volumes
of that CSI driver alone. A ledger that is there already is left as it is.

A controller's first start does the same where it may. Where etcd has users it
may not: a cluster's role (holdfast etcd-role) only reads that record, and an
operator makes it, once, before the first controller.`,
		Example: `  holdfast init --driver csi.example.com --user alice --password-file alice.password`,
		Args:    cli.Takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			result := struct {
				Made   bool               `json:"made"`
				Prefix string             `json:"prefix"`
				Ledger state.LedgerRecord `json:"ledger"`
			}{}
			// The record is read first, without a look at what the role allows beyond
			// that: init on a ledger that is there changes nothing and asks for nothing.
			err := v.read(cmd, func(context.Context, *state.Ledger) error { return nil })
			open := v.read
			if errors.Is(err, state.ErrNoLedger) {
				result.Made = true
				open = func(cmd *cobra.Command, act func(context.Context, *state.Ledger) error) error {
					return v.open(cmd, func(*state.Config) {}, act)
				}
			} else if err != nil {
				return err
			}
			return open(cmd, func(ctx context.Context, l *state.Ledger) (err error) {
				result.Prefix = l.Config().Prefix
				if result.Ledger, err = l.Record(ctx); err != nil {
					return err
				}
				return out.print(cmd, result, func(w io.Writer) {
					is := "is there already"
					if result.Made {
						is = "is made"
					}
					line := fmt.Sprintf("ledger %s of %s %s, below %s", result.Ledger.UUID, driverOf(result.Ledger), is, result.Prefix)
					fmt.Fprintln(w, cli.OneLine(line))
				})
			})
		},
	}
	out.add(cmd)
	v.addVerb(cmd)
	return cmd
}

// driverOf says in words which volumes a ledger covers.
func driverOf(l state.LedgerRecord) string {
	if l.Driver == "" {
		return "any driver"
	}
	return "driver " + l.Driver
}
