package state

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the ledger's own. docs/metrics.md tells what each is for.
type metrics struct {
	registerer prometheus.Registerer

	operations *prometheus.HistogramVec
	conflicts  prometheus.Counter
	requests   prometheus.Histogram
	leases     prometheus.Counter
	keepAlives *prometheus.CounterVec
	leader     *prometheus.GaugeVec
	relists    *prometheus.CounterVec
	graceLate  prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		registerer: r,
		operations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "holdfast_operation_duration_seconds",
			Help:    "Time of an operation on the ledger, resends included, by kind and result.",
			Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 2.5, 5, 15},
		}, []string{"operation", "result"}),
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_conflicts_total",
			Help: "Attaches and migrations that another hold stood in the way of.",
		}),
		requests: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "holdfast_request_operations",
			Help:    "Operations that shared one etcd transaction.",
			Buckets: []float64{1, 2, 4, 8, 16, 32, 64},
		}),
		leases: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_leases_granted_total",
			Help: "Leases granted for attachments and waits.",
		}),
		keepAlives: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_keepalives_total",
			Help: "Keep-alives of attachment leases, by result.",
		}, []string{"result"}),
		leader: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "holdfast_leader",
			Help: "1 while this process leads the cluster's controllers.",
		}, []string{"cluster"}),
		relists: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_etcd_relists_total",
			Help: "Lists that began a watch of etcd anew, the first one included, by kind of record.",
		}, []string{"kind"}),
		graceLate: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "holdfast_grace_late_seconds",
			Help:    "How long after its grace period a watched detachment ended, by the clock of who put it.",
			Buckets: []float64{.5, 1, 1.5, 2, 3, 5, 10, 30, 60},
		}),
	}
	if r != nil {
		r.MustRegister(m.collectors()...)
	}
	return m
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.operations, m.conflicts, m.requests, m.leases, m.keepAlives, m.leader, m.relists, m.graceLate}
}

// close lets another ledger of the process use the registerer.
func (m *metrics) close() {
	if m.registerer == nil {
		return
	}
	for _, c := range m.collectors() {
		m.registerer.Unregister(c)
	}
}

func (m *metrics) conflict()               { m.conflicts.Inc() }
func (m *metrics) request(operations int)  { m.requests.Observe(float64(operations)) }
func (m *metrics) leaseGranted()           { m.leases.Inc() }
func (m *metrics) keepAlive(result string) { m.keepAlives.WithLabelValues(result).Inc() }
func (m *metrics) relist(kd kind)          { m.relists.WithLabelValues(string(kd)).Inc() }

// ended counts the end of a grace. One before its time was cleared by hand.
func (m *metrics) ended(late time.Duration) {
	if late >= 0 {
		m.graceLate.Observe(late.Seconds())
	}
}

// opened makes a cluster's gauge, at 0 where it is new: that nobody has ever led
// can be seen too.
func (m *metrics) opened(cluster string) { m.leader.WithLabelValues(cluster) }

func (m *metrics) leading(cluster string, is bool) {
	value := 0.0
	if is {
		value = 1
	}
	m.leader.WithLabelValues(cluster).Set(value)
}

// measured times an operation and counts its result.
func measured[T any](l *Ledger, operation string, call func() (T, error)) (T, error) {
	begun := time.Now()
	out, err := call()
	l.metrics.operations.WithLabelValues(operation, result(err)).Observe(time.Since(begun).Seconds())
	return out, err
}

// results are the label values of an operation's result, by error.
var results = []struct {
	err  error
	name string
}{
	{ErrUnknownOutcome, "unknown"}, {ErrShortWait, "short_wait"}, {ErrConflict, "conflict"}, {ErrNotFound, "not_found"}, {ErrInGrace, "in_grace"},
	{ErrStaleToken, "stale_token"}, {ErrFrozen, "frozen"}, {ErrPaused, "paused"}, {ErrNotLeader, "not_leader"},
	{ErrClusterMismatch, "cluster_mismatch"}, {ErrNoSpace, "no_space"}, {ErrRestored, "restored"},
	{ErrPermission, "permission"}, {ErrUnavailable, "unavailable"}, {ErrReadOnly, "read_only"},
}

func result(err error) string {
	if err == nil {
		return "ok"
	}
	for _, r := range results {
		if errors.Is(err, r.err) {
			return r.name
		}
	}
	return "error"
}
