package reconcile

import (
	"errors"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/watch"
)

// metrics are the Reconciler's. docs/metrics.md tells what each is for. No
// label has a volume or a node.
type metrics struct {
	orphans, heldBack               *prometheus.GaugeVec
	brake, overdue                  prometheus.Gauge
	judgements, passes              *prometheus.CounterVec
	departures, fences, live, fails *prometheus.CounterVec
	removals, witness               *prometheus.CounterVec
	restores                        prometheus.Counter
	latency                         *prometheus.HistogramVec
}

// The values of the label result, and of action.
const (
	resultOK      = "ok"
	resultError   = "error"
	resultRefused = "refused"
	resultUnknown = "unknown"
	// resultRestored: etcd is not the one it was.
	resultRestored = "restored"

	liveConfirmed    = "confirmed"
	liveContradicted = "contradicted"

	departurePut       = "put"
	departureReplaced  = "replaced"
	departureReturned  = "returned"
	departureWithdrawn = "withdrawn"
)

var allReasons = []state.DepartureReason{state.NodeGone, state.NodeReplaced, state.OutOfService}

func newMetrics() *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "holdfast_" + name, Help: help}, labels)
	}
	m := &metrics{
		orphans: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "holdfast_orphans", Help: "Attachments that no node stands behind, by reason.",
		}, []string{"reason"}),
		heldBack: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "holdfast_held_back", Help: "Orphans that are not removed yet, by the first obstacle in their way.",
		}, []string{"obstacle"}),
		brake: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "holdfast_brake_engaged", Help: "1 while the leader removes nothing because too many nodes are missing. An alarm.",
		}),
		overdue: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "holdfast_overdue_migrations",
			Help: "Volumes that the cluster and another node hold both, and whose migration's window is over, on the leader. An alarm.",
		}),
		judgements: counter("judgements_total", "Nodes judged, by what came next.", "step"),
		passes:     counter("passes_total", "Explicit passes over all suspects, by result.", "result"),
		departures: counter("departures_total",
			"Departures put, replaced (put anew), returned (the node is back) and withdrawn (nothing needs it any more).", "action"),
		fences:  counter("fences_total", "Calls of the fencer, by result.", "result"),
		live:    counter("live_checks_total", "Look-ups of a node just before a removal, by result.", "result"),
		fails:   counter("reconcile_errors_total", "Judgements that ended with an error and are tried again, by reason.", "reason"),
		witness: counter("witness_rounds_total", "Comparisons and renewals of the leader's witness, in etcd and outside it, by result.", "result"),
		restores: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_restores_noticed_total", Help: "Times that a leader found, by its witness, that etcd was restored or replaced. An alarm.",
		}),
		removals: counter("removals_total", "Orphans that a removal was sent for, by reason and result.", "reason", "result"),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "holdfast_removal_latency_seconds",
			Help:    "Time from a node's departure, as it was put last, to the removal of its orphans, waits included, by reason.",
			Buckets: []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 30, 45, 60, 120, 300, 900, 3600},
		}, []string{"reason"}),
	}
	m.zero()
	return m
}

// zero shows every series from the start, and again when a run has ended.
func (m *metrics) zero() {
	m.brake.Set(0)
	m.overdue.Set(0)
	for _, o := range Obstacles() {
		m.heldBack.WithLabelValues(string(o)).Set(0)
	}
	for _, r := range allReasons {
		m.orphans.WithLabelValues(string(r)).Set(0)
		m.latency.WithLabelValues(string(r))
		for _, result := range []string{resultOK, resultRefused, resultError, resultUnknown} {
			m.removals.WithLabelValues(string(r), result)
		}
	}
	for _, s := range []Step{StepNone, StepReturn, StepDepart, StepWait, StepRemove} {
		m.judgements.WithLabelValues(string(s))
	}
	for vec, values := range map[*prometheus.CounterVec][]string{
		m.passes:     {resultOK, resultError},
		m.fences:     {resultOK, resultError},
		m.witness:    {resultOK, resultError, resultRestored},
		m.live:       {liveConfirmed, liveContradicted, resultError},
		m.departures: {departurePut, departureReplaced, departureReturned, departureWithdrawn},
	} {
		for _, v := range values {
			vec.WithLabelValues(v)
		}
	}
	for _, r := range failures {
		m.fails.WithLabelValues(r.name)
	}
	m.fails.WithLabelValues(failureOther)
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		m.orphans, m.heldBack, m.brake, m.overdue, m.judgements, m.passes, m.departures, m.fences, m.live, m.fails, m.removals, m.latency,
		m.witness, m.restores,
	}
}

// register makes collectors seen under a cluster's label, so that a process can
// reconcile several, and returns what takes them back.
func register(to prometheus.Registerer, cluster string, all []prometheus.Collector) (unregister func(), err error) {
	if to == nil {
		return func() {}, nil
	}
	to = prometheus.WrapRegistererWith(prometheus.Labels{"cluster": cluster}, to)
	for i, c := range all {
		if err := to.Register(c); err != nil {
			for _, c := range all[:i] {
				to.Unregister(c)
			}
			return nil, fmt.Errorf("metrics of cluster %s: %w", cluster, err)
		}
	}
	return func() {
		for _, c := range all {
			to.Unregister(c)
		}
	}, nil
}

// failures are the values of the label reason of an error.
var failures = []struct {
	err  error
	name string
}{
	{errFence, "fencer"}, {errLive, "live_check"}, {watch.ErrNotSynced, "not_synced"}, {watch.ErrStale, "stale"},
	{state.ErrUnknownOutcome, "unknown_outcome"}, {state.ErrNotLeader, "not_leader"}, {state.ErrFrozen, "frozen"},
	{state.ErrPaused, "paused"}, {state.ErrClusterMismatch, "cluster_mismatch"}, {state.ErrNoSpace, "no_space"},
	{state.ErrRestored, "restored"}, {state.ErrPermission, "permission"}, {state.ErrUnavailable, "unavailable"},
}

const failureOther = "other"

func failure(err error) string {
	for _, f := range failures {
		if errors.Is(err, f.err) {
			return f.name
		}
	}
	return failureOther
}

// tally keeps the gauges of orphans true, node by node. It is safe for
// concurrent use.
type tally struct {
	metrics *metrics

	mu    sync.Mutex
	nodes map[string]share
}

// share is what one node puts into the gauges.
type share struct {
	orphans map[state.DepartureReason]int
	held    map[Obstacle]int
}

func newTally(m *metrics) *tally { return &tally{metrics: m, nodes: map[string]share{}} }

func (t *tally) note(p NodePlan) {
	now := share{orphans: map[state.DepartureReason]int{}, held: map[Obstacle]int{}}
	for _, o := range p.Orphans {
		now.orphans[o.Reason]++
		if len(o.Obstacles) > 0 {
			now.held[o.Obstacles[0]]++
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.add(t.nodes[p.Node], -1)
	t.add(now, 1)
	if len(p.Orphans) == 0 {
		delete(t.nodes, p.Node)
	} else {
		t.nodes[p.Node] = now
	}
}

func (t *tally) add(s share, sign int) {
	for r, n := range s.orphans {
		t.metrics.orphans.WithLabelValues(string(r)).Add(float64(sign * n))
	}
	for o, n := range s.held {
		t.metrics.heldBack.WithLabelValues(string(o)).Add(float64(sign * n))
	}
}

// replaced are the nodes whose names are other machines' now.
func (t *tally) replaced() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for name, s := range t.nodes {
		if s.orphans[state.NodeReplaced] > 0 {
			out = append(out, name)
		}
	}
	return out
}
