package bench

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Workload is one thing that is measured.
type Workload struct {
	// Name is what --workloads calls it, and its rows.
	Name string
	// About is one line on what is measured, for the help and the report.
	About string
	// Run measures. What it writes is below the prefix of one of r's ledgers, or
	// of r.Prefix; it need not be cleaned up but where it would burden the next.
	Run func(ctx context.Context, r *Run) error
}

// Workloads are all there are, in the order in which they run: what leaves the
// etcd big comes last.
func Workloads() []Workload {
	return []Workload{
		attach, detach, churn, conflict,
		volumeAttachment, orphans, storm, expiry, fanout, resync, coldstart,
	}
}

// Choose gives the workloads of these names, in their own order; all for none.
func Choose(names ...string) ([]Workload, error) {
	all := Workloads()
	if len(names) == 0 {
		return all, nil
	}
	var have []string
	for _, w := range all {
		have = append(have, w.Name)
	}
	for _, n := range names {
		if !slices.Contains(have, n) {
			return nil, fmt.Errorf("no workload %q: expected some of %s", n, strings.Join(have, ", "))
		}
	}
	return slices.DeleteFunc(all, func(w Workload) bool { return !slices.Contains(names, w.Name) }), nil
}
