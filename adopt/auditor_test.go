package adopt

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-storage/holdfast/state"
)

var (
	errAway = errors.New("away")
	errGood = errors.New("wrong for good")
)

// rounds are the audits that a test's Auditor makes, one after the other; after
// the last one it ends.
type rounds struct {
	reports []*Report // nil is errAway
	begun   time.Time
	at      []time.Duration // when each began
	log     []string
}

func report(findings ...Finding) *Report { return &Report{Cluster: "east", Differences: findings} }

func finding(kind Kind, volume string) Finding { return Finding{Kind: kind, Volume: volume} }

func (r *rounds) run(t *testing.T, edit func(*AuditorConfig)) error {
	t.Helper()
	ctx, end := context.WithCancel(t.Context())
	defer end()
	r.begun = time.Now()
	cfg := AuditorConfig{
		Cluster: "east",
		Audit: func(ctx context.Context) (*Report, error) {
			if len(r.at) == len(r.reports) {
				end()
				return nil, ctx.Err()
			}
			report := r.reports[len(r.at)]
			r.at = append(r.at, time.Since(r.begun))
			if report == nil {
				return nil, errAway
			}
			return report, nil
		},
		Changed: func(changes []Change) error {
			for _, c := range changes {
				line := c.Type
				if c.Finding != nil {
					line += " " + oneFinding(*c.Finding)
				}
				r.log = append(r.log, line)
			}
			return nil
		},
	}
	if edit != nil {
		edit(&cfg)
	}
	a, err := NewAuditor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a.Run(ctx)
}

func TestAuditor_Changes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		missing, extra := finding(Missing, "vol-1"), finding(Extra, "vol-2")
		r := &rounds{reports: []*Report{
			report(), report(), report(missing), report(missing, extra), nil, report(missing, extra), report(extra), report(), report(),
		}}
		if err := r.run(t, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
		want := []string{"equal", "found missing, vol-1", "found extra, vol-2", "gone missing, vol-1", "gone extra, vol-2", "equal"}
		if !slices.Equal(r.log, want) {
			t.Errorf("told %q, want %q", r.log, want)
		}
	})
}

// It audits every so often, and after a failure sooner, but not at once.
func TestAuditor_Pauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rounds{reports: []*Report{report(), nil, nil, nil, nil, nil, report(), nil, report(), report()}}
		var told []string
		_ = r.run(t, func(c *AuditorConfig) {
			c.Every = 10 * time.Second
			c.Audited = func(_ *Report, err error, next time.Duration) { told = append(told, fmt.Sprint(err, " ", next)) }
		})
		const s = time.Second
		want := []time.Duration{0, 10 * s, 11 * s, 13 * s, 17 * s, 25 * s, 35 * s, 45 * s, 46 * s, 56 * s}
		if !slices.Equal(r.at, want) {
			t.Errorf("audits began at %v, want %v", r.at, want)
		}
		if told[0] != "<nil> 10s" || told[1] != "away 1s" || len(told) != len(want) {
			t.Errorf("told of %q", told)
		}
	})
}

func TestAuditor_ForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wrong := func(report *Report) error {
			first := true
			return (&rounds{reports: make([]*Report, 3)}).run(t, func(c *AuditorConfig) {
				away := c.Audit
				c.ForGood = func(err error) bool { return errors.Is(err, errGood) }
				c.Audit = func(ctx context.Context) (*Report, error) {
					if first && report != nil {
						first = false
						return report, nil
					}
					if _, err := away(ctx); ctx.Err() != nil {
						return nil, err
					}
					return nil, errGood
				}
			})
		}
		if err := wrong(nil); !errors.Is(err, errGood) {
			t.Errorf("what is wrong from the beginning ends with %v", err)
		}
		// What worked once may work again.
		if err := wrong(report()); !errors.Is(err, context.Canceled) {
			t.Errorf("what is wrong later ends with %v", err)
		}
	})
}

// An error of who is told ends it: nobody reads what it finds.
func TestAuditor_NobodyListens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closed := errors.New("closed")
		err := (&rounds{reports: []*Report{report(), report()}}).run(t, func(c *AuditorConfig) {
			c.Changed = func([]Change) error { return closed }
		})
		if !errors.Is(err, closed) {
			t.Errorf("it ended with %v, want what it was told", err)
		}
	})
}

func TestAuditor_Metrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		var seen []string
		r := &rounds{reports: []*Report{nil, report(finding(Missing, "v1"), finding(Missing, "v2")), nil, report()}}
		_ = r.run(t, func(c *AuditorConfig) {
			c.Registerer = registry
			c.Audited = func(*Report, error, time.Duration) { seen = append(seen, gathered(t, registry, r.begun)) }
		})
		missing := func(n int) string {
			return fmt.Sprintf("elsewhere 0, extra 0, missing %d, mode 0, twice 0", n)
		}
		want := []string{"", missing(2) + ", at 1s", missing(2) + ", at 1s", missing(0) + ", at 1m2s"}
		if !slices.Equal(seen, want) {
			t.Errorf("metrics were %q, want %q", seen, want)
		}
		if after := gathered(t, registry, r.begun); after != "" {
			t.Errorf("metrics of an Auditor that has ended: %s", after)
		}
	})
}

func gathered(t *testing.T, g prometheus.Gatherer, begun time.Time) string {
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if labels["cluster"] != "east" {
				t.Errorf("%s has the labels %v", f.GetName(), labels)
			}
			if kind := labels["kind"]; kind != "" {
				out = append(out, fmt.Sprintf("%s %v", kind, m.GetGauge().GetValue()))
			} else {
				at := time.Unix(0, int64(m.GetGauge().GetValue()*1e9))
				out = append(out, fmt.Sprint("at ", at.Sub(begun).Round(time.Second)))
			}
		}
	}
	return strings.Join(out, ", ")
}

func TestNewAuditor(t *testing.T) {
	audit := func(context.Context) (*Report, error) { return report(), nil }
	for name, cfg := range map[string]AuditorConfig{
		"no audit":      {Cluster: "east"},
		"no cluster":    {Audit: audit},
		"every so less": {Cluster: "east", Audit: audit, Every: -1},
	} {
		if _, err := NewAuditor(cfg); !errors.Is(err, state.ErrInvalid) {
			t.Errorf("%s: %v, want that it is invalid", name, err)
		}
	}
	a, err := NewAuditor(AuditorConfig{Cluster: "east", Audit: audit})
	if err != nil || a.cfg.Every != DefaultEvery {
		t.Errorf("an Auditor with defaults audits every %v, %v", a.cfg.Every, err)
	}
}
