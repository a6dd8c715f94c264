package watch

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-storage/holdfast/state"
)

// sourceNodes and sourceEtcd name the two sources in labels and logs. The parts
// of etcd's are labelled by their own names. No label has a volume or a node.
const (
	sourceNodes = "nodes"
	sourceEtcd  = "etcd"
)

// queueWaits reach from what a change costs to what a stuck reconciler does.
var queueWaits = []float64{.001, .005, .01, .05, .1, .5, 1, 5, 10, 60, 300, 1800}

// metrics are what the Watcher counts as it goes, and what is read off the join
// when someone looks.
type metrics struct {
	w    *Watcher
	from prometheus.Registerer // nil while nothing is registered

	lists, events *prometheus.CounterVec
	errors        prometheus.Counter
	wait          prometheus.Histogram
}

func newMetrics(w *Watcher) *metrics {
	m := &metrics{w: w}
	m.lists = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "holdfast_source_lists_total", Help: "Whole lists taken, the first one included, by source.",
	}, []string{"source"})
	m.events = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "holdfast_source_events_total", Help: "Single changes taken, those of lists not included, by source and type (put, delete).",
	}, []string{"source", "type"})
	m.errors = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "holdfast_source_node_errors_total", Help: "Times that the Node list could not be read or watched.",
	})
	m.wait = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "holdfast_queue_wait_seconds", Help: "How long nodes waited on the work queue.", Buckets: queueWaits,
	})
	sources := []string{sourceNodes}
	for p := range parts {
		sources = append(sources, p.String())
	}
	for _, s := range sources { // shown as 0 before the first
		m.lists.WithLabelValues(s)
		m.events.WithLabelValues(s, string(state.Put))
		m.events.WithLabelValues(s, string(state.Delete))
	}
	return m
}

// register makes the metrics seen under a cluster's label, so that a process
// can watch several.
func (m *metrics) register(to prometheus.Registerer, cluster string) error {
	if to == nil {
		return nil
	}
	m.from = prometheus.WrapRegistererWith(prometheus.Labels{"cluster": cluster}, to)
	if err := m.from.Register(m); err != nil {
		m.from = nil
		return fmt.Errorf("metrics of the watcher of cluster %s: %w", cluster, err)
	}
	return nil
}

func (m *metrics) unregister() {
	if m.from != nil {
		m.from.Unregister(m)
		m.from = nil
	}
}

func (m *metrics) batch(p part, b state.Batch) {
	if b.Synced {
		m.lists.WithLabelValues(p.String()).Inc()
	}
	if m.w.index.parts[p].under || b.Reset {
		return
	}
	for _, e := range b.Events {
		m.events.WithLabelValues(p.String(), string(e.Type)).Inc()
	}
}

func (m *metrics) nodeList() { m.lists.WithLabelValues(sourceNodes).Inc() }

func (m *metrics) nodeEvent(deleted bool) {
	typ := state.Put
	if deleted {
		typ = state.Delete
	}
	m.events.WithLabelValues(sourceNodes, string(typ)).Inc()
}

func (m *metrics) nodeError() { m.errors.Inc() }

func (m *metrics) waited(d time.Duration) { m.wait.Observe(d.Seconds()) }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("holdfast_"+name, help, labels, nil)
}

var (
	descAge     = desc("source_contact_age_seconds", "Time since the source was last heard of; absent before the first time.", "source")
	descSynced  = desc("source_synced", "1 if the source has given a whole list and is not giving another.", "source")
	descFresh   = desc("source_fresh", "1 if the source was heard of lately and its last word was no error.", "source")
	descRecords = desc("index_records", "What the join holds, by kind.", "kind")
	descBroken  = desc("index_undecodable_records", "Records in view that do not decode, by kind. They are left alone.", "kind")
	descNodes   = desc("index_nodes", "Nodes of the join: attached (have attachments), missing (have attachments and are not in the Node list), "+
		"suspect (there is something to decide).", "state")
	descLeases = desc("index_leases", "Leases that attachments are under.")
	descDepth  = desc("queue_depth", "Nodes that wait on the work queue.")
	descOldest = desc("queue_oldest_seconds", "How long the first node on the work queue has waited.")
	descGraces = desc("grace_watches", "Volumes whose detachments a decision waits for: watched, or queued for a place.", "state")
	descFrozen = desc("ledger_frozen", "1 while the ledger is frozen, by cause: operator, or restore (somebody noticed a restored or replaced etcd). An alarm.", "cause")
	descLapses = desc("lapses_waiting", "Deleted attachments that the keeper has not looked at yet.")
)

// Describe lists every metric that there may be.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.counted() {
		c.Describe(ch)
	}
	for _, d := range []*prometheus.Desc{
		descAge, descSynced, descFresh, descRecords, descBroken, descNodes, descLeases, descDepth, descOldest, descGraces, descFrozen, descLapses,
	} {
		ch <- d
	}
}

func (m *metrics) counted() []prometheus.Collector {
	return []prometheus.Collector{m.lists, m.events, m.errors, m.wait}
}

// Collect reads the join.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.counted() {
		c.Collect(ch)
	}
	// No metric is sent under the lock: who receives may take his time.
	for _, g := range m.w.gauges() {
		ch <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, g.value, g.labels...)
	}
}

type gauge struct {
	desc   *prometheus.Desc
	value  float64
	labels []string
}

func (w *Watcher) gauges() []gauge {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	var out []gauge
	add := func(d *prometheus.Desc, value float64, labels ...string) {
		out = append(out, gauge{desc: d, value: value, labels: labels})
	}
	sources := w.sources(now)
	for name, s := range map[string]Source{sourceNodes: sources.Nodes, sourceEtcd: sources.Etcd} {
		add(descSynced, truth(s.Synced), name)
		add(descFresh, truth(s.Fresh), name)
		if !s.LastContact.IsZero() {
			add(descAge, now.Sub(s.LastContact).Seconds(), name)
		}
	}
	ix := w.index
	add(descRecords, float64(ix.listed), sourceNodes)
	add(descRecords, float64(ix.attachments), partAttachments.String())
	add(descRecords, float64(ix.departures), partDepartures.String())
	add(descRecords, float64(ix.quarantines), partQuarantines.String())
	for p := range parts {
		add(descBroken, float64(ix.broken[p]), p.String())
	}
	add(descNodes, float64(ix.attached), "attached")
	add(descNodes, float64(len(ix.missing.names)), "missing")
	add(descNodes, float64(len(ix.suspects.names)), "suspect")
	add(descLeases, float64(len(ix.leases)))
	add(descDepth, float64(w.order.Len()))
	add(descOldest, w.order.oldest().Seconds())
	add(descGraces, float64(len(w.graces.watching)), "watched")
	add(descGraces, float64(len(w.graces.queued)), "queued")
	add(descFrozen, truth(ix.ledger.Frozen != nil), "operator")
	add(descFrozen, truth(len(ix.freezes) > 0), "restore")
	add(descLapses, float64(len(ix.lapses.lapses)))
	return out
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
