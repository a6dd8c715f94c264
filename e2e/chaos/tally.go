package chaos

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/holdfast-storage/holdfast/e2e/chaos/history"
	"github.com/holdfast-storage/holdfast/e2e/chaos/model"
)

// Enough fails for a run in which too little happened for its silence to mean
// anything. The numbers are for a minute, and far below what a slow machine does.
func (p *Report) Enough(d time.Duration) error {
	part := min(d.Minutes(), 1)
	var errs []error
	for what, n := range map[string][2]int{
		"attaches":         {p.Model.Count(model.Attach, model.OK), 100},
		"detaches":         {p.Model.Count(model.Detach, model.OK), 50},
		"migrations":       {p.Model.Count(model.Migrate, model.OK), 10},
		"unknown outcomes": {p.unknown(), 5},
		"expiries":         {p.History.Ended[history.Detachments], 20},
		"removals":         {p.Removed(), len(clusterNames) * finalOrphans},
	} {
		least := n[1]
		if what != "removals" { // which the end of each run makes sure of
			least = int(float64(n[1]) * part)
		}
		if n[0] < least {
			errs = append(errs, fmt.Errorf("%s: %d, expected at least %d", what, n[0], least))
		}
	}
	return errors.Join(errs...)
}

func (p *Report) unknown() int {
	n := 0
	for kind := range p.Model.Calls {
		n += p.Model.Count(kind, model.Unknown)
	}
	return n
}

// Tally adds the figures to a file.
func (p *Report) Tally(path string) error {
	calls := 0
	for kind := range p.Model.Calls {
		for _, n := range p.Model.Calls[kind] {
			calls += n
		}
	}
	line, err := json.Marshal(map[string]any{
		"seed": p.Seed, "seconds": p.Took.Seconds(), "calls": calls, "byKind": p.Model.Calls, "unknown": p.unknown(), "counts": p.Counts,
		"removed": p.Removed(), "volumes": p.Model.Volumes, "expiries": p.Model.Expiries, "arrivals": p.Model.Arrivals,
		"revisions": p.History.Revisions, "lives": p.History.Segments, "evaluated": p.History.Evaluated, "clean": p.Err() == nil,
	})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}
