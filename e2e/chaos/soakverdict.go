package chaos

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-storage/holdfast/e2e/chaos/history"
	"github.com/holdfast-storage/holdfast/e2e/chaos/model"
)

const mib = 1 << 20

// quantity is what is measured, and how far it may grow between the first rest
// and the last ones: to ratio times the first, and plus. Without a ratio it is
// only shown.
type quantity struct {
	name  string
	bytes bool
	ratio float64
	plus  float64
	// hourly is the part of itself that it may grow by in an hour, by its trend
	// over the second half of the rests; 0: that is not looked at. Growth of less
	// than noise in that half is none.
	hourly, noise float64
}

// The quantities. What a process has at rest depends on the connections that it
// happens to have to etcd, a few goroutines and a descriptor each: hence the
// allowances of numbers. Memory is compared after a garbage collection; the
// runtime gives pages back late and in large pieces, hence the allowance of
// what is resident. Nothing here is meant to find a leak of a few bytes in a
// minute: it finds what a process would die of within weeks.
var (
	goroutines  = quantity{name: "goroutines", ratio: 1, plus: 30}
	descriptors = quantity{name: "descriptors", ratio: 1, plus: 10}
	heap        = quantity{name: "heap in use", bytes: true, ratio: 1.5, plus: 16 * mib, hourly: 0.25, noise: 2 * mib}
	resident    = quantity{name: "resident", bytes: true, ratio: 1.5, plus: 16 * mib, hourly: 0.25, noise: 8 * mib}
	queue       = quantity{name: "queue", ratio: 1}
	// This process also has the proxies before etcd, in which each connection is
	// several goroutines and two descriptors.
	ownGoroutines  = quantity{name: "goroutines", ratio: 1, plus: 150}
	ownDescriptors = quantity{name: "descriptors", ratio: 1, plus: 60}
	// What stands at a rest is a matter of chance, and bounded by the volumes. At
	// the end all of it is accounted for, to the last one.
	leasesThere = quantity{name: "leases", ratio: 1.5, plus: 64}
	idleLeases  = quantity{name: "leases without a key", ratio: 1.5, plus: 64}
	keysThere   = quantity{name: "keys but the journal's", ratio: 1.5, plus: 100}
	database    = quantity{name: "database", bytes: true, ratio: 2, plus: 32 * mib}
	kindsThere  = map[string]quantity{
		"holds":       {name: "keys of holds", ratio: 1.5, plus: 50},
		"attachments": {name: "keys of attachments", ratio: 1.5, plus: 50},
		// As many as nodes happened to leave within the last retention: no limit
		// but that all of them end.
		"journal": {name: "keys of the journal"},
	}
)

func (q quantity) show(v float64) string {
	if q.bytes {
		return fmt.Sprintf("%.1fM", v/mib)
	}
	return fmt.Sprintf("%.0f", v)
}

// Series is one quantity of one process.
type Series struct {
	Name string
	// Values are the measurements at the rests, the last with nothing held any
	// more. Peak is the greatest reading of all.
	At     []time.Duration
	Values []float64
	Peak   float64

	quantity quantity
}

func (s Series) first() float64 { return s.Values[0] }
func (s Series) last() float64  { return s.Values[len(s.Values)-1] }
func (s Series) limit() float64 { return s.quantity.ratio*s.first() + s.quantity.plus }

// churned are the measurements with the volumes in use, which compare with each other.
func (s Series) churned() ([]time.Duration, []float64) {
	n := len(s.Values) - 1
	return s.At[:n], s.Values[:n]
}

// err says whether it has grown. The last rest counts, and the end.
func (s Series) err() error {
	if len(s.Values) < 3 {
		return fmt.Errorf("%s: measured %d times, expected at least 3 rests", s.Name, len(s.Values))
	}
	_, values := s.churned()
	q := s.quantity
	if now := max(values[len(values)-1], s.last()); q.ratio > 0 && now > s.limit() {
		return fmt.Errorf("%s: grown from %s to %s, expected at most %s", s.Name, q.show(s.first()), q.show(now), q.show(s.limit()))
	}
	if hourly, grown := s.trend(); q.hourly > 0 && grown > q.noise && hourly > q.hourly*s.first() {
		return fmt.Errorf("%s: grows by %s an hour, by its trend over the second half, expected at most %.0f%% of %s",
			s.Name, q.show(hourly), 100*q.hourly, q.show(s.first()))
	}
	return nil
}

// trend is the growth an hour over the second half of the rests, and what that
// half has grown by at this pace: by the median slope between any two of its
// measurements, which a third of them can be wrong without moving.
func (s Series) trend() (hourly, grown float64) {
	at, values := s.churned()
	half := len(at) / 2
	at, values = at[half:], values[half:]
	var slopes []float64
	for i := range at {
		for j := range i {
			slopes = append(slopes, (values[i]-values[j])/(at[i]-at[j]).Hours())
		}
	}
	if len(slopes) < 3 { // two points are no trend
		return 0, 0
	}
	slices.Sort(slopes)
	hourly = slopes[len(slopes)/2]
	return hourly, hourly * (at[len(at)-1] - at[0]).Hours()
}

// SoakReport is what a soak did, and what its measurements say.
type SoakReport struct {
	Seed    uint64
	Rate    float64
	Volumes int
	Took    time.Duration
	// Counts are numbers of things that happened, by their names.
	Counts map[string]int
	Series []Series
	// Left is what stood in etcd at the very end.
	Left Left
	// History is what the invariants' observer found.
	History history.Report
	// Problems are everything else that is wrong.
	Problems []error
}

// Grown are the names of what has grown.
func (p *SoakReport) Grown() []string {
	var out []string
	for _, s := range p.Series {
		if s.err() != nil {
			out = append(out, s.Name)
		}
	}
	return out
}

// Err is everything that was found; nil if nothing was.
func (p *SoakReport) Err() error {
	errs := slices.Clone(p.Problems)
	for _, s := range p.Series {
		errs = append(errs, s.err())
	}
	for i, v := range p.History.Violations {
		if i == toldViolations {
			errs = append(errs, fmt.Errorf("and so on: %d violations of the history's invariants", p.History.Violated))
			break
		}
		errs = append(errs, v)
	}
	return errors.Join(errs...)
}

// toldViolations bounds those that are told one by one.
const toldViolations = 10

// driven are the kinds of calls that drivers make.
var driven = []model.Kind{model.Attach, model.Detach, model.Migrate, model.Commit, model.Abort, model.Get}

// enough fails for a soak in which too little happened for its figures to mean
// anything: a machine that cannot offer the rate, or faults that did not come.
func (p *SoakReport) enough(d time.Duration) error {
	calls := 0
	for _, kind := range driven {
		calls += p.Counts["calls "+string(kind)]
	}
	var errs []error
	if offered := p.Rate * d.Seconds(); float64(calls) < offered/2 {
		errs = append(errs, fmt.Errorf("%d calls, expected at least half of the %.0f that were due", calls, offered))
	}
	if d >= time.Minute && p.History.Evaluated[history.WrongRemoval] == 0 {
		errs = append(errs, errors.New("no orphan was removed"))
	}
	return errors.Join(errs...)
}

// String is the report in lines.
func (p *SoakReport) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "soak, seed %d: %.0f s, %.0f calls a second over %d volumes, %d revisions, %d orphans removed\n",
		p.Seed, p.Took.Seconds(), p.Rate, p.Volumes, p.History.Revisions, p.History.Evaluated[history.WrongRemoval])
	for _, k := range slices.Sorted(maps.Keys(p.Counts)) {
		fmt.Fprintf(&b, "  %-40s %d\n", k, p.Counts[k])
	}
	const row = "  %-32s %9s %9s %9s %9s %9s %10s  %s\n"
	fmt.Fprintf(&b, row, "", "first", "last rest", "at end", "peak", "limit", "an hour", "")
	for _, s := range p.Series {
		if len(s.Values) < 2 {
			fmt.Fprintf(&b, "  %-32s not measured\n", s.Name)
			continue
		}
		_, values := s.churned()
		q, trend, limit, verdict := s.quantity, "", "", ""
		if q.ratio > 0 {
			limit, verdict = q.show(s.limit()), "flat"
		}
		if hourly, _ := s.trend(); q.hourly > 0 {
			trend = fmt.Sprintf("%+.1fM", hourly/mib)
		}
		if s.err() != nil {
			verdict = "GROWN"
		}
		fmt.Fprintf(&b, row, s.Name, q.show(s.first()), q.show(values[len(values)-1]), q.show(s.last()), q.show(s.Peak), limit, trend, verdict)
	}
	fmt.Fprintf(&b, "  at the end: %d leases, %d of them without a key; keys:", p.Left.Leases, p.Left.Idle)
	for _, kind := range slices.SortedFunc(maps.Keys(p.Left.Keys), cmp.Compare) {
		fmt.Fprintf(&b, " %d %s", p.Left.Keys[kind], kind)
	}
	if p.Err() == nil {
		b.WriteString("\n  verdict: flat, and every key and lease is accounted for\n")
	} else {
		fmt.Fprintf(&b, "\n  verdict: FAILED: %s\n", strings.ReplaceAll(p.Err().Error(), "\n", "\n    "))
	}
	return b.String()
}
