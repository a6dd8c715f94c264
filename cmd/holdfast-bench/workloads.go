package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-storage/holdfast/bench"
	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
)

func newWorkloads() *cobra.Command {
	return &cobra.Command{
		Use:     "workloads",
		Short:   "List what can be measured",
		Example: `  holdfast-bench workloads`,
		Args:    cli.Takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, w := range bench.Workloads() {
				fmt.Fprintf(cmd.OutOrStdout(), "%-10s  %s\n", w.Name, w.About)
			}
			return nil
		},
	}
}
