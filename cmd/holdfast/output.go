package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/holdfast-storage/holdfast/cmd/internal/cli"
)

// The forms of -o.
const (
	formTable = "table"
	formJSON  = "json"
	formYAML  = "yaml"
)

// output is the form in which a verb prints its result.
type output struct{ form string }

func (o *output) add(cmd *cobra.Command) {
	cmd.Flags().VarP(cli.NewChoice(&o.form, formTable, formTable, formJSON, formYAML), "output", "o", "how to print the result")
	// It fails only for a flag that is not there.
	_ = cmd.RegisterFlagCompletionFunc("output",
		cobra.FixedCompletions([]string{formTable, formJSON, formYAML}, cobra.ShellCompDirectiveNoFileComp))
}

// print prints value in the machine-readable forms, and calls table for the one
// for people.
func (o *output) print(cmd *cobra.Command, value any, table func(w io.Writer)) error {
	w := cmd.OutOrStdout()
	switch o.form {
	case formJSON:
		return printJSON(w, value, "  ")
	case formYAML:
		return printYAML(w, value)
	}
	table(w)
	return nil
}

// items is what every list prints: an object, so that a later version can say
// more than the list.
type items[T any] struct {
	Items []T `json:"items"`
}

func itemsOf[T any](list []T) items[T] {
	if list == nil {
		list = []T{}
	}
	return items[T]{Items: list}
}

func printJSON(w io.Writer, value any, indent string) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(value); err != nil {
		return fmt.Errorf("printing the result: %w", err)
	}
	return nil
}

func printYAML(w io.Writer, value any) error {
	data, err := yaml.Marshal(value)
	if err == nil {
		_, err = w.Write(data)
	}
	if err != nil {
		return fmt.Errorf("printing the result: %w", err)
	}
	return nil
}

// table prints rows below headers as kubectl does. Its cells are made
// printable; an empty one is <none>.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer, headers ...string) *table {
	t := &table{tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)}
	t.row(headers...)
	return t
}

func (t *table) row(cells ...string) {
	for i, c := range cells {
		if c = printable(c); c == "" {
			c = "<none>"
		}
		if i > 0 {
			fmt.Fprint(t.w, "\t")
		}
		fmt.Fprint(t.w, c)
	}
	fmt.Fprintln(t.w)
}

func (t *table) flush() { t.w.Flush() }

// printable keeps a name on its line and away from the terminal's controls: a
// volume handle is any UTF-8, and what lies in etcd is any bytes. It writes them as
// cli.Harmless does, with backslashes doubled, so that what is read is never
// ambiguous.
func printable(s string) string { return cli.Harmless(strings.ReplaceAll(s, `\`, `\\`)) }

// age is how long ago t was, in the two greatest units that say something, as
// kubectl prints it.
func age(t time.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return span(time.Since(t))
}

// span is a length of time in few characters. Clocks differ a little between
// machines: what lies in the future by that is 0s.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", max(d, 0)/time.Second)
	case d < 10*time.Minute:
		return joinUnits(d, time.Minute, "m", time.Second, "s")
	case d < 3*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 2*day:
		return joinUnits(d, time.Hour, "h", time.Minute, "m")
	case d < 8*day:
		return joinUnits(d, day, "d", time.Hour, "h")
	}
	return fmt.Sprintf("%dd", d/day)
}

func joinUnits(d, large time.Duration, largeName string, small time.Duration, smallName string) string {
	text := fmt.Sprintf("%d%s", d/large, largeName)
	if rest := d % large / small; rest > 0 {
		text += fmt.Sprintf("%d%s", rest, smallName)
	}
	return text
}

// shortDuration is d as a flag takes it, without units that are zero: 5m, not 5m0s.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
