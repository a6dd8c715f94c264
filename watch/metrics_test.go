package watch

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

func TestMetrics(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	s := newStage(t, func(c *Config) { c.Registerer = registry })
	s.attach("v1", "n1")
	s.attach("v2", "gone")
	s.put("departures/a/gone", "?")
	stop := s.run("n1")
	s.until("gone", "in view", func(v NodeView) bool { return len(v.Attachments) == 1 && v.Departure != nil })
	s.attach("v3", "gone")
	s.detach("v1", "n1", 0)
	s.until("gone", "with two", func(v NodeView) bool { return len(v.Attachments) == 2 })
	eventually(t, "v1 is gone", func() bool { return s.w.Cluster().Attachments == 2 })

	want := `
holdfast_grace_watches{cluster="a",state="queued"} 0
holdfast_grace_watches{cluster="a",state="watched"} 0
holdfast_index_nodes{cluster="a",state="attached"} 1
holdfast_index_nodes{cluster="a",state="missing"} 1
holdfast_index_nodes{cluster="a",state="suspect"} 1
holdfast_index_records{cluster="a",kind="attachments"} 2
holdfast_index_records{cluster="a",kind="departures"} 1
holdfast_index_records{cluster="a",kind="nodes"} 1
holdfast_index_records{cluster="a",kind="quarantines"} 0
holdfast_index_undecodable_records{cluster="a",kind="attachments"} 0
holdfast_index_undecodable_records{cluster="a",kind="cluster"} 0
holdfast_index_undecodable_records{cluster="a",kind="departures"} 1
holdfast_index_undecodable_records{cluster="a",kind="freezes"} 0
holdfast_index_undecodable_records{cluster="a",kind="ledger"} 0
holdfast_index_undecodable_records{cluster="a",kind="pause"} 0
holdfast_index_undecodable_records{cluster="a",kind="quarantines"} 0
holdfast_lapses_waiting{cluster="a"} 1
holdfast_ledger_frozen{cause="operator",cluster="a"} 0
holdfast_ledger_frozen{cause="restore",cluster="a"} 0
holdfast_source_events_total{cluster="a",source="attachments",type="delete"} 1
holdfast_source_events_total{cluster="a",source="attachments",type="put"} 1
holdfast_source_events_total{cluster="a",source="cluster",type="delete"} 0
holdfast_source_events_total{cluster="a",source="cluster",type="put"} 0
holdfast_source_events_total{cluster="a",source="departures",type="delete"} 0
holdfast_source_events_total{cluster="a",source="departures",type="put"} 0
holdfast_source_events_total{cluster="a",source="freezes",type="delete"} 0
holdfast_source_events_total{cluster="a",source="freezes",type="put"} 0
holdfast_source_events_total{cluster="a",source="ledger",type="delete"} 0
holdfast_source_events_total{cluster="a",source="ledger",type="put"} 0
holdfast_source_events_total{cluster="a",source="nodes",type="delete"} 0
holdfast_source_events_total{cluster="a",source="nodes",type="put"} 0
holdfast_source_events_total{cluster="a",source="pause",type="delete"} 0
holdfast_source_events_total{cluster="a",source="pause",type="put"} 0
holdfast_source_events_total{cluster="a",source="quarantines",type="delete"} 0
holdfast_source_events_total{cluster="a",source="quarantines",type="put"} 0
holdfast_source_fresh{cluster="a",source="etcd"} 1
holdfast_source_fresh{cluster="a",source="nodes"} 1
holdfast_source_lists_total{cluster="a",source="attachments"} 1
holdfast_source_lists_total{cluster="a",source="cluster"} 1
holdfast_source_lists_total{cluster="a",source="departures"} 1
holdfast_source_lists_total{cluster="a",source="freezes"} 1
holdfast_source_lists_total{cluster="a",source="ledger"} 1
holdfast_source_lists_total{cluster="a",source="nodes"} 1
holdfast_source_lists_total{cluster="a",source="pause"} 1
holdfast_source_lists_total{cluster="a",source="quarantines"} 1
holdfast_source_node_errors_total{cluster="a"} 0
holdfast_source_synced{cluster="a",source="etcd"} 1
holdfast_source_synced{cluster="a",source="nodes"} 1
`
	got := gather(t, registry)
	var fixed []string
	floating := map[string]bool{}
	for _, line := range got {
		name, _, _ := strings.Cut(line, "{")
		if slices.Contains(notFixed, name) {
			floating[name] = true
		} else {
			fixed = append(fixed, line)
		}
	}
	if diff := cmp.Diff(strings.Split(strings.TrimSpace(want), "\n"), fixed); diff != "" {
		t.Errorf("-want +got: %s", diff)
	}
	if len(floating) != len(notFixed) {
		t.Errorf("of %v there are %v", notFixed, floating)
	}

	// Another Watcher may use the registry beside it only for another cluster;
	// after Run it is free again.
	twin, err := newWatcher(Config{Nodes: newFakeNodes(), Registerer: registry}, "a", &fakeRecords{}, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := twin.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "cluster a") {
		t.Errorf("a second Watcher of the cluster on one registry: %v", err)
	}
	stop()
	if left := gather(t, registry); len(left) > 0 {
		t.Errorf("after Run there are still %v", left)
	}
}

// notFixed are the metrics whose values depend on when one looks.
var notFixed = []string{
	"holdfast_source_contact_age_seconds", "holdfast_index_leases", "holdfast_queue_depth",
	"holdfast_queue_oldest_seconds", "holdfast_queue_wait_seconds",
}

// gather is a line for each metric, sorted: name{labels} value.
func gather(t *testing.T, from prometheus.Gatherer) []string {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "holdfast_") || f.GetHelp() == "" {
			t.Errorf("metric %s, help %q", f.GetName(), f.GetHelp())
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			value := m.GetGauge().GetValue() + m.GetCounter().GetValue()
			out = append(out, fmt.Sprintf("%s{%s} %v", f.GetName(), strings.Join(labels, ","), value))
		}
	}
	return out
}

func TestQueue_KnowsHowLongItsNodesWait(t *testing.T) {
	var waited []time.Duration
	o := &order{waited: func(d time.Duration) { waited = append(waited, d) }}
	q := newQueue(o)
	defer q.ShutDown()
	for _, name := range []string{"n1", "n2", "n1"} {
		q.Add(name)
	}
	if o.Len() != 2 || q.Len() != 2 || o.oldest() <= 0 {
		t.Errorf("%d wait (%d), the first for %v; want 2", o.Len(), q.Len(), o.oldest())
	}
	for _, want := range []string{"n1", "n2"} {
		if name, _ := q.Get(); name != want {
			t.Errorf("got %s, want %s", name, want)
		}
	}
	if len(waited) != 2 || o.oldest() != 0 {
		t.Errorf("waits %v, the first for %v; want two, and none left", waited, o.oldest())
	}
}
