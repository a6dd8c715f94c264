package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/state/statetest"
)

const metricsPage = "../../docs/metrics.md"

// recorder is a registry that remembers every metric it was ever given, those
// too that have nothing to say yet.
type recorder struct {
	*prometheus.Registry
	mu   sync.Mutex
	seen map[string]metric
}

// metric is what the page says of one, and what the registry does.
type metric struct{ name, kind, labels string }

func newRecorder() *recorder {
	return &recorder{Registry: prometheus.NewRegistry(), seen: map[string]metric{}}
}

func (r *recorder) Register(c prometheus.Collector) error {
	if err := r.Registry.Register(c); err != nil {
		return err
	}
	descs := make(chan *prometheus.Desc)
	go func() { defer close(descs); c.Describe(descs) }()
	for d := range descs {
		m, err := parseDesc(d.String())
		if err != nil {
			return err
		}
		r.mu.Lock()
		r.seen[m.name] = m
		r.mu.Unlock()
	}
	return nil
}

func (r *recorder) MustRegister(all ...prometheus.Collector) {
	for _, c := range all {
		if err := r.Register(c); err != nil {
			panic(err)
		}
	}
}

var (
	descForm  = regexp.MustCompile(`^Desc\{fqName: "([^"]+)", help: ".*", constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)
	constName = regexp.MustCompile(`([a-z_]+)="`)
)

// parseDesc reads the name and the labels of a description, which tells them to
// nobody but its String.
func parseDesc(text string) (metric, error) {
	m := descForm.FindStringSubmatch(text)
	if m == nil {
		return metric{}, fmt.Errorf("a description of another form: %s", text)
	}
	var labels []string
	for _, c := range constName.FindAllStringSubmatch(m[2], -1) {
		labels = append(labels, c[1])
	}
	for _, l := range strings.Split(m[3], ",") {
		if l != "" {
			labels = append(labels, l)
		}
	}
	slices.Sort(labels)
	return metric{name: m[1], labels: strings.Join(labels, ", ")}, nil
}

// kinds are the metrics of which a sample is there, with their types.
func (r *recorder) kinds(t *testing.T) map[string]string {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]string{}
	for _, f := range families {
		kinds[f.GetName()] = strings.ToLower(f.GetType().String())
	}
	return kinds
}

var (
	metricRow   = regexp.MustCompile("^\\| `([^`]+)` \\| (\\w+) \\| ([^|]*) \\| ([^|]+) \\| ([^|]+) \\| ([^|]+) \\|$")
	metricFirst = regexp.MustCompile("^\\| `holdfast_\\w+` \\|")
	metricName  = regexp.MustCompile(`holdfast_\w+`)
	boundLabels = []string{"action", "cause", "cluster", "go", "kind", "obstacle", "operation", "reason", "result", "source", "state", "step", "type", "version"}
)

// The page tells of every metric that a controller has, and of no other, with
// its type and its labels.
func TestMetricsPage(t *testing.T) {
	t.Parallel()
	registered, kinds := runningMetrics(t)

	page, err := os.ReadFile(metricsPage)
	if err != nil {
		t.Fatal(err)
	}
	written := map[string]metric{}
	for line := range strings.Lines(string(page)) {
		for _, named := range metricName.FindAllString(line, -1) {
			if _, there := registered[named]; !there {
				t.Errorf("%s names %s, which no controller has", metricsPage, named)
			}
		}
		if !metricFirst.MatchString(line) {
			continue
		}
		row := metricRow.FindStringSubmatch(strings.TrimSpace(line))
		if row == nil {
			t.Errorf("%s: expected metric, type, labels, unit, meaning and alert: %s", metricsPage, line)
			continue
		}
		if _, twice := written[row[1]]; twice {
			t.Errorf("%s tells of %s twice", metricsPage, row[1])
		}
		written[row[1]] = metric{name: row[1], kind: row[2], labels: strings.Trim(strings.ReplaceAll(row[3], "`", ""), " –")}
	}

	for name, want := range registered {
		if !strings.HasPrefix(name, "holdfast_") {
			t.Errorf("%s: expected a name that begins with holdfast_", name)
		}
		for label := range strings.SplitSeq(want.labels, ", ") {
			if label != "" && !slices.Contains(boundLabels, label) {
				t.Errorf("%s has the label %s, which is none of %v: is it bounded?", name, label, boundLabels)
			}
		}
		got, there := written[name]
		switch kind := kinds[name]; {
		case !there:
			t.Errorf("%s has no row for %s, a %s with labels %q", metricsPage, name, kind, want.labels)
		case got.labels != want.labels:
			t.Errorf("%s gives %s the labels %q, and it has %q", metricsPage, name, got.labels, want.labels)
		case kind == "":
			t.Errorf("%s has shown no sample, so that its type is not known: let the test bring one about", name)
		case got.kind != kind:
			t.Errorf("%s calls %s a %s, and it is a %s", metricsPage, name, got.kind, kind)
		}
	}
}

// runningMetrics are those of a controller that has had something to do.
func runningMetrics(t *testing.T) (map[string]metric, map[string]string) {
	t.Helper()
	etcd, prefix := statetest.Shared(t), statetest.Prefix(t)
	nodes := &nodeFile{path: filepath.Join(t.TempDir(), "nodes.json")}
	if err := nodes.write("node-1", "node-2"); err != nil {
		t.Fatal(err)
	}
	var flags controllerFlags
	cmd := &cobra.Command{Use: "controller"}
	flags.addTo(cmd)
	err := cmd.ParseFlags([]string{"--cluster", "east", "--endpoints", etcd.Endpoint(), "--prefix", prefix,
		"--nodes", nodes.path, "--listen", "", "--quarantine", "0", "--grace-period", "2s", "--attachment-ttl", "3s"})
	if err != nil {
		t.Fatal(err)
	}
	d, err := flags.daemon(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	all := newRecorder()
	d.registry = all
	auditing(t, all) // what an audit that goes on serves, beside
	telling(t, all)  // and one whose nodes come from Kubernetes

	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the controller: %v", err)
		}
	}()
	wait := func(what string, ask func(context.Context) (bool, error)) {
		t.Helper()
		if err := until(t.Context(), patience, what, ask); err != nil {
			t.Fatal(err)
		}
	}
	wait("the controller is ready", func(context.Context) (bool, error) { return len(d.ready.list()) == 0, nil })

	ledger, err := state.Open(t.Context(), state.Config{Endpoints: etcd.Endpoints(), Prefix: prefix, AttachmentTTL: 3 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer ledger.Close()
	east, err := ledger.Cluster(t.Context(), state.Identity{Name: "east"})
	if err != nil {
		t.Fatal(err)
	}
	for i, node := range nodes.names {
		if _, err := east.Attach(t.Context(), state.AttachRequest{Volume: name("vol", i+1), Node: node}); err != nil {
			t.Fatal(err)
		}
	}
	if err := nodes.write("node-2"); err != nil {
		t.Fatal(err)
	}
	wait("vol-1 is removed", func(ctx context.Context) (bool, error) {
		v, err := ledger.Volume(ctx, "vol-1")
		return err == nil && len(v.Holds) == 0, err
	})
	var kinds map[string]string
	wait("a keep-alive is counted", func(context.Context) (bool, error) {
		kinds = all.kinds(t)
		return kinds["holdfast_operation_duration_seconds"] != "" && kinds["holdfast_keepalives_total"] != "", nil
	})
	all.mu.Lock()
	defer all.mu.Unlock()
	return all.seen, kinds
}
