package reconcile

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-multierror"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/watch"
)

// value reads a metric: the sum of its series.
func value(c prometheus.Collector) float64 {
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		panic(err)
	}
	sum := 0.0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

func judgements(r *Reconciler) float64 { return value(r.metrics.judgements) }

func TestNewReconciler_RequiresLedger(t *testing.T) {
	_, err := New(Config{Nodes: newNodes()})
	if !errors.Is(err, state.ErrInvalid) || !strings.Contains(err.Error(), "ledger") {
		t.Errorf("error is %v, want ErrInvalid that names the ledger", err)
	}
}

func TestNewReconciler_RequiresNodeSource(t *testing.T) {
	w := newWorld(t, newNodes())
	_, err := New(Config{Cluster: w.cluster})
	if !errors.Is(err, state.ErrInvalid) || !strings.Contains(err.Error(), "nodes") {
		t.Errorf("error is %v, want ErrInvalid that names the source of nodes", err)
	}
}

func TestNewReconciler_DefaultValues(t *testing.T) {
	w := newWorld(t, newNodes())
	r, err := New(Config{Cluster: w.cluster, Nodes: w.nodes})
	if err != nil {
		t.Fatal(err)
	}
	if r.Resync() != 5*time.Minute || r.GracePeriod() != 30*time.Second {
		t.Errorf("resync %s and grace period %s, want 5m and 30s", r.Resync(), r.GracePeriod())
	}
	if r.cfg.RemovalRate != 500 || r.cfg.Brake != (BrakeConfig{Fraction: 0.2, Min: 2, Window: 10 * time.Minute}) || r.cfg.ID != "test" {
		t.Errorf("config is %+v", r.cfg)
	}
}

func TestNewReconciler_RefusesWhatCannotBeUsed(t *testing.T) {
	w := newWorld(t, newNodes())
	watcher, err := watch.New(watch.Config{Cluster: w.cluster, Nodes: w.nodes, MatchNodeUID: true})
	if err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(*Config){
		"negative rate":    func(c *Config) { c.RemovalRate = -1 },
		"negative workers": func(c *Config) { c.Workers = -1 },
		"negative resync":  func(c *Config) { c.Resync = -1 },
		"brake":            func(c *Config) { c.Brake.Fraction = 2 },
		"other watcher":    func(c *Config) { c.Watcher = watcher },
	} {
		cfg := Config{Cluster: w.cluster, Nodes: w.nodes}
		edit(&cfg)
		if _, err := New(cfg); !errors.Is(err, state.ErrInvalid) {
			t.Errorf("%s: error is %v, want ErrInvalid", name, err)
		}
	}
}

func TestReconciler_GetGracePeriod(t *testing.T) {
	w := newWorld(t, newNodes(), func(c *state.Config) { c.GracePeriod = 45 * time.Second })
	if got := w.reconciler().GracePeriod(); got != 45*time.Second {
		t.Errorf("grace period is %s, want 45s", got)
	}
}

func TestReconciler_StartStop(t *testing.T) {
	w := newWorld(t, newNodes("n1"), noQuarantine)
	r := w.reconciler()
	r.Stop() // nothing to stop
	w.start(r)
	if err := r.Start(t.Context()); !errors.Is(err, ErrRunning) {
		t.Errorf("a second start: error is %v, want ErrRunning", err)
	}
	if err := r.Run(t.Context()); !errors.Is(err, ErrRunning) {
		t.Errorf("a run beside it: error is %v, want ErrRunning", err)
	}
	r.Stop()
	r.Stop()
	for range 5 { // a stop right after a start
		w.start(r)
		r.Stop()
	}
	w.start(r)
	eventually(t, "it leads", r.Leading)
	w.attach("vol-1", "n2")
	w.removed("vol-1")
}

func TestReconciler_ContextCancellation(t *testing.T) {
	w := newWorld(t, newNodes("n1"), noQuarantine)
	r := w.reconciler()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	eventually(t, "it leads", r.Leading)
	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error is %v, want the context's", err)
		}
	case <-time.After(patience):
		t.Fatal("it does not stop")
	}
	// The same with Start, and at once again.
	ctx, cancel = context.WithCancel(t.Context())
	if err := r.Start(ctx); err != nil {
		t.Fatal(err)
	}
	cancel()
	w.start(r)
	eventually(t, "it leads again", r.Leading)
	w.attach("vol-1", "n2")
	w.removed("vol-1")
}

func TestReconciler_ClearsStaleAttachment_NodeDeleted(t *testing.T) {
	w := newWorld(t, newNodes("n1"), noQuarantine)
	w.attach("vol-1", "n2")
	if err := w.pass(w.reconciler()); err != nil {
		t.Fatal(err)
	}
	w.mustHold("vol-1")
	got := w.journal(state.ActionRemoved)
	if len(got) != 1 {
		t.Fatalf("%d journal entries, want 1", len(got))
	}
	e := got[0]
	if e.Volume != "vol-1" || e.Node != "n2" || e.Reason != string(state.NodeGone) || e.Evidence == nil || e.Evidence.LiveCheckedAt.IsZero() ||
		e.Evidence.DepartureRevision == 0 || e.Evidence.LeaderRevision == 0 || e.Evidence.Fenced || e.Evidence.NodeUID != "uid-of-n2" {
		t.Errorf("journal entry is %+v with evidence %+v", e, e.Evidence)
	}
}

func TestReconciler_PreservesValidAttachment_NodeExists(t *testing.T) {
	nodes := newNodes("n1", "n2", "n3")
	nodes.put(watch.Node{Name: "n2", UID: "uid-of-n2", Deleting: true})
	nodes.put(watch.Node{Name: "n3", UID: "made-anew"}) // not ready, and under another UID
	w := newWorld(t, nodes, noQuarantine)
	for _, n := range []string{"n1", "n2", "n3"} {
		w.attach("vol-of-"+n, n)
	}
	if err := w.pass(w.reconciler()); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"n1", "n2", "n3"} {
		w.mustHold("vol-of-"+n, n)
	}
	if n := w.departures("n"); n != 0 {
		t.Errorf("%d departures were put", n)
	}
}

func TestReconciler_RespectsGracePeriod(t *testing.T) {
	w := newWorld(t, newNodes("n1"), noQuarantine, func(c *state.Config) { c.GracePeriod = floorWait })
	r := w.started()
	w.nodes.add("n2")
	w.attach("vol-1", "n2")
	w.detach("vol-1", "n2")
	w.attach("vol-1", "n2")
	w.nodes.remove("n2")

	refused := func() bool {
		return value(r.metrics.removals.WithLabelValues(string(state.NodeGone), resultRefused)) > 0
	}
	eventually(t, "a removal is refused", refused)
	w.mustHold("vol-1", "n2")
	eventually(t, "it is held back", func() bool { return value(r.metrics.heldBack.WithLabelValues("in-grace")) == 1 })
	before := judgements(r)
	// Resync is an hour: only the end of the grace can ask again.
	w.removed("vol-1")
	if n := judgements(r) - before; n > 10 {
		t.Errorf("judged %v times within the grace: that is polling", n)
	}
	v, err := w.ledger.Volume(t.Context(), "vol-1")
	if err != nil || len(v.Detachments) != 1 || !strings.Contains(v.Detachments[0].Reason, string(state.NodeGone)) {
		t.Errorf("volume is %+v (%v), want the removal's own detachment", v, err)
	}
}

func TestReconciler_HandlesAPIErrors(t *testing.T) {
	t.Run("from the start", func(t *testing.T) {
		w := newWorld(t, newNodes("n1"), noQuarantine)
		w.attach("vol-1", "n2")
		w.nodes.fail(errAPI)
		r := w.reconciler()
		if err := w.pass(r); !errors.Is(err, errAPI) || !errors.Is(err, watch.ErrNotSynced) {
			t.Errorf("error is %v, want the API's", err)
		}
		w.mustHold("vol-1", "n2")
		w.nodes.fail(nil)
		if err := w.pass(r); err != nil {
			t.Fatal(err)
		}
		w.mustHold("vol-1")
	})
	t.Run("after the list", func(t *testing.T) {
		w := newWorld(t, newNodes("n1"), noQuarantine)
		r := w.started()
		w.nodes.fail(errAPI)
		w.attach("vol-1", "n2")
		eventually(t, "the attachment is seen", func() bool { return len(r.watcher.Suspects()) == 1 })
		if err := w.pass(r); !errors.Is(err, errAPI) || !errors.Is(err, watch.ErrStale) {
			t.Errorf("error is %v, want the API's", err)
		}
		w.mustHold("vol-1", "n2")
		w.nodes.fail(nil)
		w.removed("vol-1")
	})
	t.Run("at the live checks", func(t *testing.T) {
		w := newWorld(t, newNodes("n1"), noQuarantine)
		w.attach("vol-1", "n2")
		w.attach("vol-2", "n3")
		w.nodes.atLive(func(context.Context, string) error { return errAPI })
		r := w.reconciler()
		err := w.pass(r)
		var gathered *multierror.Error
		if !errors.Is(err, errAPI) || !errors.As(err, &gathered) || len(gathered.Errors) != 2 {
			t.Errorf("error is %v, want both nodes'", err)
		}
		w.mustHold("vol-1", "n2")
		w.mustHold("vol-2", "n3")
	})
}
