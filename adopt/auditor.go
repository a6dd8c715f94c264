package adopt

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-storage/holdfast/state"
)

// DefaultEvery is how often an Auditor audits.
const DefaultEvery = time.Minute

// firstPause is the pause after a first failure. It doubles, up to Every.
const firstPause = time.Second

// AuditorConfig says what an Auditor does.
type AuditorConfig struct {
	// Cluster is the one that is audited: the label of the metrics.
	Cluster string
	// Audit makes one audit. It may open what it needs anew each time, so that
	// whatever was away or wrong heals by itself.
	Audit func(context.Context) (*Report, error)
	// Every is the time from the begin of one audit to the next; default 1 min.
	Every time.Duration
	// ForGood tells errors that no waiting puts right. Before the first audit
	// that succeeds such an error ends Run; nil: none does.
	ForGood func(error) bool
	// Changed is called with what an audit has changed, if anything. An error of
	// it ends Run.
	Changed func([]Change) error
	// Audited is called after every audit, with its report or its error, and
	// with how long it is to the next.
	Audited func(r *Report, err error, next time.Duration)
	// Registerer gets the metrics; nil means none.
	Registerer prometheus.Registerer
}

// Auditor audits a cluster again and again.
type Auditor struct {
	cfg     AuditorConfig
	metrics *metrics
}

// NewAuditor makes an Auditor. It begins nothing.
func NewAuditor(cfg AuditorConfig) (*Auditor, error) {
	switch {
	case cfg.Audit == nil:
		return nil, fmt.Errorf("%w auditor: expected an Audit to make", state.ErrInvalid)
	case cfg.Every < 0:
		return nil, fmt.Errorf("%w time between audits %s: expected one above zero", state.ErrInvalid, cfg.Every)
	case cfg.Every == 0:
		cfg.Every = DefaultEvery
	}
	if err := state.ValidateCluster(cfg.Cluster); err != nil {
		return nil, err
	}
	return &Auditor{cfg: cfg, metrics: newMetrics(cfg.Cluster)}, nil
}

// Change is one thing that is otherwise than at the audit before.
type Change struct {
	// Type is "found" for a difference that is new, "gone" for one that is no
	// longer there, and "equal" when there is none: at the first audit, and
	// after the last difference has gone.
	Type string `json:"type"`
	*Finding
	// Report is the audit's.
	Report *Report `json:"-"`
}

// The types of a Change.
const (
	ChangeFound = "found"
	ChangeGone  = "gone"
	ChangeEqual = "equal"
)

// Run audits until ctx ends, and returns ctx's error then. An audit that fails
// is made again, after pauses that grow from a second to Every.
func (a *Auditor) Run(ctx context.Context) error {
	if a.cfg.Registerer != nil {
		if err := a.cfg.Registerer.Register(a.metrics); err != nil {
			return fmt.Errorf("metrics of the audit of cluster %s: %w", a.cfg.Cluster, err)
		}
		defer a.cfg.Registerer.Unregister(a.metrics)
	}
	var last *Report
	for pause := firstPause; ; {
		begun := time.Now()
		report, err := a.cfg.Audit(ctx)
		wait := a.cfg.Every - time.Since(begun)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && last == nil && a.cfg.ForGood != nil && a.cfg.ForGood(err):
			return err
		case err != nil:
			wait = min(pause, a.cfg.Every)
			pause = 2 * wait
		default:
			pause = firstPause
			a.metrics.succeeded(report, time.Now())
		}
		if a.cfg.Audited != nil {
			a.cfg.Audited(report, err, max(wait, 0))
		}
		if err == nil {
			if err := a.changed(last, report); err != nil {
				return err
			}
			last = report
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(max(d, 0))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *Auditor) changed(last, now *Report) error {
	changes := Changes(last, now)
	if len(changes) == 0 || a.cfg.Changed == nil {
		return nil
	}
	return a.cfg.Changed(changes)
}

// Changes is what one audit has found otherwise than the one before, which is
// nil for the first.
func Changes(last, now *Report) []Change {
	before, after := map[string]Finding{}, map[string]Finding{}
	if last != nil {
		for _, d := range last.Differences {
			before[d.key()] = d
		}
	}
	for _, d := range now.Differences {
		after[d.key()] = d
	}
	var out []Change
	tell := func(kind string, from, unlessIn map[string]Finding) {
		for _, key := range slices.Sorted(maps.Keys(from)) {
			if _, there := unlessIn[key]; !there {
				finding := from[key]
				out = append(out, Change{Type: kind, Finding: &finding, Report: now})
			}
		}
	}
	tell(ChangeGone, before, after)
	tell(ChangeFound, after, before)
	if len(after) == 0 && (last == nil || len(before) > 0) {
		out = append(out, Change{Type: ChangeEqual, Report: now})
	}
	return out
}
