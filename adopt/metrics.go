package adopt

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are an Auditor's. docs/metrics.md tells what each is for. Before the
// first audit that succeeds there is nothing to say; after one that fails, what
// the last one said stays, and its time grows old.
type metrics struct {
	differences, succeededAt *prometheus.Desc
	cluster                  string

	mu    sync.Mutex
	at    time.Time
	found map[Kind]int
}

var _ prometheus.Collector = (*metrics)(nil)

func newMetrics(cluster string) *metrics {
	return &metrics{
		differences: prometheus.NewDesc("holdfast_audit_differences",
			"Differences between the ledger and the cluster's VolumeAttachments at the last audit that succeeded, by kind.",
			[]string{"cluster", "kind"}, nil),
		succeededAt: prometheus.NewDesc("holdfast_audit_last_success_timestamp_seconds",
			"When an audit last succeeded, in seconds since 1970.", []string{"cluster"}, nil),
		cluster: cluster,
	}
}

func (m *metrics) succeeded(r *Report, at time.Time) {
	found := map[Kind]int{}
	for _, d := range r.Differences {
		found[d.Kind]++
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.at, m.found = at, found
}

// Describe is a prometheus.Collector's.
func (m *metrics) Describe(out chan<- *prometheus.Desc) { out <- m.differences; out <- m.succeededAt }

// Collect is a prometheus.Collector's. What it tells is of one audit.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.at.IsZero() {
		return
	}
	for _, k := range Kinds() {
		out <- prometheus.MustNewConstMetric(m.differences, prometheus.GaugeValue, float64(m.found[k]), m.cluster, string(k))
	}
	seconds := float64(m.at.UnixMilli()) / 1000
	out <- prometheus.MustNewConstMetric(m.succeededAt, prometheus.GaugeValue, seconds, m.cluster)
}
