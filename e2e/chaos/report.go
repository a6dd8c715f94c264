package chaos

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-storage/holdfast/e2e/chaos/history"
	"github.com/holdfast-storage/holdfast/e2e/chaos/model"
)

// checkWithin bounds the linearizability check of one volume.
const checkWithin = 2 * time.Minute

// Report is what one run did, and what the checks say of it.
type Report struct {
	Seed uint64
	Took time.Duration
	// Found is when the first violation was seen, 0 where the run had to end for it.
	Found time.Duration
	// Counts are numbers of things that happened, by their names.
	Counts map[string]int
	// History is the invariants', Model the linearizability check's.
	History history.Report
	Model   *model.Report
	// Problems are everything else that is wrong. Pictures are files about
	// volumes whose history is not linearizable.
	Problems []error
	Pictures []string
}

func (r *run) report() *Report {
	for _, c := range r.controllers {
		r.count("controllers started", c.starts)
		r.count("controllers killed", c.kills)
		r.count("controllers ended by themselves", c.own)
		if err := c.faults(); err != nil {
			r.problem(err)
		}
	}
	for _, crash := range r.etcd.Crashes() {
		r.problem(errors.New("etcd crashed: " + crash))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return &Report{Seed: r.cfg.Seed, Took: r.now(), Found: r.found, Counts: maps.Clone(r.counts), Problems: slices.Clone(r.problems)}
}

func (p *Report) add(err error) {
	if err != nil {
		p.Problems = append(p.Problems, err)
	}
}

func (p *Report) take(h history.Report, err error) {
	p.History = h
	p.add(err)
	for kind, n := range h.Ended {
		p.Counts["ended by themselves: "+string(kind)] += n
	}
}

// check looks whether each volume's history is linearizable, and keeps those
// that are not.
func (p *Report) check(h model.History, folder string) {
	if text, err := json.Marshal(h); err != nil {
		p.add(err)
	} else {
		p.add(os.WriteFile(filepath.Join(folder, "calls.json"), text, 0o600))
	}
	p.Model = model.Check(h, checkWithin)
	drawn := map[string]bool{}
	for _, v := range p.Model.Violations {
		if drawn[v.Volume] || v.Volume == "" {
			continue
		}
		drawn[v.Volume] = true
		files, err := p.Model.Visualize(v.Volume, folder)
		p.add(err)
		p.Pictures = append(p.Pictures, files...)
	}
}

// Err is everything that was found; nil if nothing was.
func (p *Report) Err() error {
	errs := slices.Clone(p.Problems)
	errs = append(errs, p.History.Err())
	if p.Model != nil {
		for _, v := range p.Model.Violations {
			errs = append(errs, fmt.Errorf("volume %q, segment %d is not linearizable: %s", v.Volume, v.Segment, v.Reason))
		}
	}
	return errors.Join(errs...)
}

// Removed is how many orphans were removed, as etcd's history has it.
func (p *Report) Removed() int { return p.History.Removed }

// String is the report in lines.
func (p *Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %.0f s, %d revisions in %d lives of etcd\n", p.Seed, p.Took.Seconds(), p.History.Revisions, p.History.Segments)
	for _, k := range slices.Sorted(maps.Keys(p.Counts)) {
		fmt.Fprintf(&b, "  %-50s %d\n", k, p.Counts[k])
	}
	for _, k := range slices.Sorted(maps.Keys(p.History.Evaluated)) {
		fmt.Fprintf(&b, "  evaluated %-40s %d\n", k, p.History.Evaluated[k])
	}
	if p.Model != nil {
		fmt.Fprintf(&b, "  %s\n", strings.ReplaceAll(strings.TrimSpace(p.Model.String()), "\n", "\n  "))
	}
	return b.String()
}
