package events

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	kubetesting "k8s.io/client-go/testing"

	"github.com/holdfast-storage/holdfast/watch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of a test. It is no measure of speed.
const patience = 30 * time.Second

// stage is a Recorder over a clientset of the test's own.
type stage struct {
	t    *testing.T
	kube *fake.Clientset
	r    *Recorder
	logs *lines
	reg  *prometheus.Registry
}

// claimsOf are claims by volume.
type claimsOf map[string]watch.Claim

func (c claimsOf) Claim(_ context.Context, driver, volume string) (watch.Claim, bool) {
	claim, ok := c[volume]
	return claim, ok && driver == "d.example"
}

func driver(name string) func() string { return func() string { return name } }

var theClaims = claimsOf{
	"vol-1": {Namespace: "shop", Name: "cart", UID: "uid-of-cart"},
	"vol-2": {Namespace: "shop", Name: "till", UID: "uid-of-till"},
}

func newStage(t *testing.T, tune ...func(*Config)) *stage {
	t.Helper()
	s := &stage{t: t, kube: fake.NewClientset(), logs: &lines{}, reg: prometheus.NewRegistry()}
	cfg := Config{
		Cluster: "east", ClusterUID: "uid-of-east", Driver: driver("d.example"), Client: s.kube.EventsV1(), Claims: theClaims,
		Logger: slog.New(slog.NewTextHandler(s.logs, nil)), Registerer: s.reg,
	}
	for _, f := range tune {
		f(&cfg)
	}
	var err error
	if s.r, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	return s
}

// run runs the Recorder until stop, or the test's end.
func (s *stage) run() (stop func()) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			s.t.Errorf("Run returned %v, want the context's error", err)
		}
	})
	s.t.Cleanup(stop)
	return stop
}

// events are all there are in the cluster, the first to be made first.
func (s *stage) events() []eventsv1.Event {
	s.t.Helper()
	all, err := s.kube.Tracker().List(eventsv1.SchemeGroupVersion.WithResource("events"), eventsv1.SchemeGroupVersion.WithKind("Event"), "")
	if err != nil {
		s.t.Fatal(err)
	}
	out := all.(*eventsv1.EventList).Items
	slices.SortFunc(out, func(a, b eventsv1.Event) int { return a.EventTime.Compare(b.EventTime.Time) })
	return out
}

// written waits for so many Events.
func (s *stage) written(n int) []eventsv1.Event {
	s.t.Helper()
	eventually(s.t, "the Events are there", func() bool { return len(s.events()) >= n })
	return s.events()
}

// count is a counter's value, of one result and of all reasons if reason is empty.
func (s *stage) count(reason Reason, result string) int {
	s.t.Helper()
	families, err := s.reg.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	n := 0.0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if f.GetName() == "holdfast_events_total" && labels["cluster"] == "east" && labels["result"] == result &&
				(reason == "" || labels["reason"] == string(reason)) {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return int(n)
}

func (s *stage) counted(reason Reason, result string, n int) {
	s.t.Helper()
	eventually(s.t, "it is counted", func() bool { return s.count(reason, result) >= n })
	if got := s.count(reason, result); got != n {
		s.t.Errorf("%d events of %q are %s, want %d", got, reason, result, n)
	}
}

// failing makes a verb on Events fail as fail says; nil lets it through.
func (s *stage) failing(verb string, fail func() error) {
	s.kube.PrependReactor(verb, "events", func(kubetesting.Action) (bool, runtime.Object, error) {
		err := fail()
		return err != nil, nil, err
	})
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for timeout := time.After(patience); !is(); {
		select {
		case <-again.C:
		case <-timeout:
			t.Fatalf("waited %s in vain until %s", patience, what)
		}
	}
}

// lines is a log that can be read while it is written.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) with(text string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}
