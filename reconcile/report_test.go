package reconcile

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/state/statetest"
)

// told is a Reporter and a LapseReporter that remembers.
type told struct {
	mu   sync.Mutex
	all  []string
	each func() // called at each report
}

func (r *told) say(format string, args ...any) {
	if r.each != nil {
		r.each()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, fmt.Sprintf(format, args...))
}

func (r *told) OrphanRemoved(a state.Attachment, d state.Departure) {
	r.say("removed %s of %s: %s", a.Volume, a.Place(), d.Reason)
}
func (r *told) Brake(engaged bool, verdict string) { r.say("brake %v, %s", engaged, verdict) }
func (r *told) MigrationOverdue(v *state.Volume) {
	r.say("overdue %s: %s, %s", v.Name, v.Holds[0].Place(), v.Holds[1].Place())
}
func (r *told) HoldLapsed(h state.Hold, armed bool) {
	r.say("lapsed %s of %s: %v", h.Volume, h.Place(), armed)
}
func (r *told) HoldsLapsed(armed, stuck int) { r.say("lapsed %d, %d", armed, stuck) }

// list is what was told of something, sorted.
func (r *told) list(about string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, s := range r.all {
		if strings.HasPrefix(s, about) {
			out = append(out, s)
		}
	}
	slices.Sort(out)
	return out
}

// was waits until so many were told of something, and compares.
func (r *told) was(t *testing.T, about string, want ...string) {
	t.Helper()
	eventually(t, "it is told of: "+about, func() bool { return len(r.list(about)) >= len(want) })
	slices.Sort(want)
	if got := r.list(about); !slices.Equal(got, want) {
		t.Errorf("told is %q, want %q", got, want)
	}
}

func to(r Reporter) func(*Config) { return func(c *Config) { c.Reporter = r } }

// Each orphan is told of once, and only after it is removed.
func TestReporter_OrphansRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1"), noQuarantine)
	w.attach("vol-1", "gone")
	w.attach("vol-2", "gone")
	w.attach("vol-3", "n1")
	reporter := &told{each: func() {
		if w.held("vol-1") && w.held("vol-2") {
			t.Error("told of a removal before it was answered")
		}
	}}
	r := w.started(to(reporter))
	w.removed("vol-1", "vol-2")
	r.Stop()
	reporter.was(t, "", "removed vol-1 of a/gone: NodeGone", "removed vol-2 of a/gone: NodeGone")
	// One pass tells of all that it did before it returns.
	w.attach("vol-4", "gone")
	if err := w.pass(r); err != nil {
		t.Fatal(err)
	}
	reporter.was(t, "removed vol-4", "removed vol-4 of a/gone: NodeGone")
}

func TestReporter_Brake(t *testing.T) {
	t.Parallel()
	w, names, volumes := brakeWorld(t)
	w.nodes.relist(names[:4]...)
	reporter, dry := &told{}, &told{}
	r := w.started(to(reporter))
	d := w.reconciler(to(dry), func(c *Config) { c.DryRun = true })
	w.start(d)
	braked(t, r)
	braked(t, d)
	const on = "brake true, engaged: missing 4, removed 0, more than 2 of 10 nodes with attachments"
	reporter.was(t, "", on)
	if _, err := w.ledger.ReleaseBrake(t.Context(), "a", "test", "half the rack is off"); err != nil {
		t.Fatal(err)
	}
	w.removed(volumes[:4]...)
	unbraked(t, r)
	eventually(t, "it is told of the release", func() bool { return len(reporter.list("brake false, off: ")) == 1 })
	reporter.was(t, "brake true", on)
	d.Stop()
	dry.was(t, "") // a dry run tells nobody
}

// Whatever a Reporter does, orphans are removed, and a run ends.
func TestReporter_CannotHinder(t *testing.T) {
	t.Parallel()
	for name, each := range map[string]func(hang chan struct{}){
		"it blocks": func(hang chan struct{}) { <-hang },
		"it panics": func(chan struct{}) { panic("the Reporter is broken") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, newNodes("n1"), noQuarantine)
			for i := range 5 {
				w.attach(fmt.Sprint("vol-", i), "gone")
			}
			hang := make(chan struct{})
			defer close(hang)
			var log safeBuffer
			r := w.started(to(&told{each: func() { each(hang) }}), func(c *Config) {
				c.RemovalRate = 1000
				c.Logger = slog.New(slog.NewTextHandler(&log, nil))
			})
			w.removed("vol-0", "vol-1", "vol-2", "vol-3", "vol-4")
			r.Stop()
			if !strings.Contains(log.String(), "a report has failed") && !strings.Contains(log.String(), "left behind") {
				t.Errorf("the log does not say so: %s", log.String())
			}
		})
	}
}

// What a Reporter that hangs has not been told is bounded, and said once.
func TestReports_AreBounded(t *testing.T) {
	var log safeBuffer
	r := newReports(slog.New(slog.NewTextHandler(&log, nil)))
	hang := make(chan struct{})
	n := 0
	for range 3 * reportsWaiting {
		r.add(func() { <-hang; n++ })
	}
	close(hang)
	r.end()
	if n < reportsWaiting || n > reportsWaiting+1 {
		t.Errorf("%d reports were told, want what there was room for, %d", n, reportsWaiting)
	}
	if said := strings.Count(log.String(), "untold"); said != 1 {
		t.Errorf("the log says so %d times, want once", said)
	}
}

// After a long outage all holds have lapsed: the first few are told of one by
// one, the rest together.
func TestKeeper_ReportsLapses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1"), session(floorWait))
	const holds = lapsesOneByOne + 5
	for i := range holds {
		w.attach(fmt.Sprint("vol-", i), "n1")
	}
	for i := range holds {
		w.lapsed(fmt.Sprint("vol-", i))
	}
	reporter := &told{}
	k := w.keeper(w.cluster, func(c *KeeperConfig) { c.Reporter = reporter })
	eventually(t, "all are armed again", func() bool { return value(k.metrics.rearms.WithLabelValues(rearmed)) == holds })
	eventually(t, "the first are told of", func() bool { return len(reporter.list("lapsed vol-")) == lapsesOneByOne })
	k.stop()
	k.ended <- <-k.ended
	reporter.was(t, "lapsed 5", "lapsed 5, 0")
	if got := reporter.list("lapsed vol-"); len(got) != lapsesOneByOne || !strings.HasSuffix(got[0], "of a/n1: true") {
		t.Errorf("told one by one is %q, want %d", got, lapsesOneByOne)
	}
}

// One that cannot be armed again is told of as such, and plain detaches are not.
func TestKeeper_ReportsStuckLapses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1"), session(floorWait))
	w.attach("vol-1", "n1")
	w.attach("vol-2", "n1")
	etcd := statetest.Shared(t)
	if _, err := etcd.Client(t).Put(t.Context(), w.prefix+"v1/holds/vol-1/x/a/n1", "not JSON"); err != nil {
		t.Fatal(err)
	}
	w.lapsed("vol-2")
	reporter := &told{}
	k := w.keeper(w.cluster, func(c *KeeperConfig) { c.Reporter = reporter })
	reporter.was(t, "", "lapsed vol-1 of a/n1: false", "lapsed vol-2 of a/n1: true")
	w.detach("vol-2", "n1")
	eventually(t, "the detach is looked at", func() bool { return value(k.metrics.rearms.WithLabelValues(notLapsed)) == 1 })
	k.stop()
	k.ended <- <-k.ended
	reporter.was(t, "", "lapsed vol-1 of a/n1: false", "lapsed vol-2 of a/n1: true")
}

// The rest is summed up once in a while, without waiting for the end.
func TestLapseNews(t *testing.T) {
	reporter := &told{}
	k := &Keeper{sumUp: time.Millisecond, news: newLapseNews(reporter, testLog(t))}
	for i := range 100 {
		k.news.note(state.Hold{Volume: fmt.Sprint("vol-", i)}, i%10 != 9)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- k.tellNews(ctx) }()
	reporter.was(t, "lapsed 81", "lapsed 81, 9")
	for range 3 {
		k.news.note(state.Hold{}, true)
	}
	eventually(t, "it is told of more", func() bool { return len(reporter.list("lapsed 3")) > 0 || len(reporter.list("lapsed 1")) > 0 })
	cancel()
	<-ended
	k.news.end()
	if got := reporter.list("lapsed vol-"); len(got) != lapsesOneByOne {
		t.Errorf("told one by one is %q, want %d", got, lapsesOneByOne)
	}
	(*lapseNews)(nil).note(state.Hold{}, true) // there is no Reporter
}
