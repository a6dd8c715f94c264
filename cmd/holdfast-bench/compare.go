package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-storage/holdfast/bench/report"
	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
)

func newCompare() *cobra.Command {
	var failIfWorse percent
	cmd := &cobra.Command{
		Use:   "compare OLD NEW",
		Short: "Show what has changed between results",
		Long: `Compares results, as run -o writes them: result.json, or the result.txt that
benchstat reads too. OLD and NEW may each be several: separated by commas, or a
pattern, in quotes. Of several a run is a sample; of a single result.json a round
is, which misses what differs from run to run. Ten runs each tell most.

  delta   by how much the median has grown; ~ where that may well be chance
  p       how likely it is that chance alone makes as much of a difference

Of many rows one in twenty is significant by chance.`,
		Example: `  holdfast-bench compare before/result.json after/result.json

  # Ten runs each, and exit code 1 if anything is significantly worse by over 10 %
  holdfast-bench compare 'before/*/result.txt' 'after/*/result.txt' --fail-if-worse 10`,
		Args: cli.Takes("OLD", "NEW"),
		RunE: func(cmd *cobra.Command, args []string) error {
			before, err := filesOf(args[0])
			if err != nil {
				return err
			}
			after, err := filesOf(args[1])
			if err != nil {
				return err
			}
			compared, err := report.Compare(before, after)
			if err != nil {
				return err
			}
			if err := compared.Write(cmd.OutOrStdout()); err != nil {
				return err
			}
			if !cmd.Flags().Changed("fail-if-worse") {
				return nil
			}
			return refuseWorse(compared, float64(failIfWorse)/100)
		},
	}
	cmd.Flags().Var(&failIfWorse, "fail-if-worse", "exit code 1 if something is significantly worse by more than this `percentage`")
	return cmd
}

// filesOf are those that an argument means.
func filesOf(argument string) ([]string, error) {
	var all []string
	for _, pattern := range strings.Split(argument, ",") {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return nil, cli.Usagef("invalid pattern %q: %w", pattern, err)
		}
		if len(found) == 0 {
			return nil, cli.Usagef("no file %s: expected a result that run -o has written", pattern)
		}
		all = append(all, found...)
	}
	return slices.Compact(all), nil
}

func refuseWorse(c *report.Comparison, share float64) error {
	var worst report.Change
	n := 0
	for _, ch := range c.Changes {
		if ch.Worse() > share {
			if n++; ch.Worse() > worst.Worse() {
				worst = ch
			}
		}
	}
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%d rows are worse by more than %g %%, most of all %s, %s, by %.1f %%", n, 100*share, worst.Name, worst.Unit, 100*worst.Worse())
}

// percent is a flag of a share.
type percent float64

func (p *percent) Set(s string) error {
	v, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
	if err != nil || v < 0 {
		return fmt.Errorf("expected a percentage of 0 or more, such as 10")
	}
	*p = percent(v)
	return nil
}

func (p *percent) Type() string   { return "percentage" }
func (p *percent) String() string { return "" }
