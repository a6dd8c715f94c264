package events

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/watch"
)

var errRefusedConnection = errors.New("dial tcp 10.0.0.1:6443: connect: connection refused")

func forbidden() error {
	return apierrors.NewForbidden(corev1.Resource("events"), "", errors.New("the role does not allow it"))
}

func terminating() error {
	err := apierrors.NewForbidden(corev1.Resource("events"), "", errors.New("the namespace is being terminated"))
	err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	return err
}

func TestNew_RefusesWhatCannotWork(t *testing.T) {
	client := fake.NewClientset().EventsV1()
	for want, cfg := range map[string]Config{
		"client":            {Cluster: "east"},
		"cluster":           {Client: client, Cluster: "East"},
		"rate of Events -1": {Client: client, Cluster: "east", Rate: -1},
		"burst -1":          {Client: client, Cluster: "east", Burst: -1},
	} {
		if _, err := New(cfg); !errors.Is(err, state.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("New gives %v, want an ErrInvalid that says %q", err, want)
		}
	}
}

// What goes beyond the rate is dropped, and the brake is told of all the same.
func TestRate(t *testing.T) {
	s := newStage(t, func(c *Config) { c.Rate, c.Burst = 0.001, 3 })
	defer s.run()()
	for i := range 10 {
		removed(s.r, fmt.Sprintf("vol-%d", i), "node-1")
	}
	s.counted(OrphanRemoved, resultDropped, 7)
	s.r.Brake(true, "engaged")
	s.counted(BrakeEngaged, resultSent, 1)
	s.counted(OrphanRemoved, resultSent, 3)
}

// What is beyond the rate anyway is not kept, and whose it is not looked for.
func TestRate_RemovalsBeyondIt(t *testing.T) {
	var looks atomic.Int64
	s := newStage(t, func(c *Config) { c.Rate, c.Burst, c.Claims = 0.001, 3, countedClaims{&looks} })
	defer s.run()()
	for i := range 3 {
		removed(s.r, fmt.Sprintf("vol-%d", i), "node-1")
	}
	s.counted(OrphanRemoved, resultSent, 3)
	for i := range 100 {
		removed(s.r, fmt.Sprintf("vol-%d", 3+i), "node-1")
	}
	s.counted(OrphanRemoved, resultDropped, 100)
	if n := looks.Load(); n != 3 {
		t.Errorf("%d removals were taken, want the 3 that the rate allows", n)
	}
}

type countedClaims struct{ looks *atomic.Int64 }

func (c countedClaims) Claim(context.Context, string, string) (watch.Claim, bool) {
	c.looks.Add(1)
	return watch.Claim{}, false
}

// Where the role does not allow it, that is said once, and counted; and said
// again when it has been allowed meanwhile.
func TestForbidden(t *testing.T) {
	s := newStage(t)
	defer s.run()()
	var fails atomic.Pointer[error]
	fail := func(err error) { fails.Store(&err) }
	s.failing("create", func() error { return *fails.Load() })
	said := func(text string, n int) {
		t.Helper()
		if got := s.logs.with(text); len(got) != n {
			t.Errorf("the log says %q %d times, want %d", text, len(got), n)
		}
	}
	fail(forbidden())
	for i := range 5 {
		removed(s.r, fmt.Sprintf("vol-%d", i), "node-1")
	}
	s.counted(OrphanRemoved, resultForbidden, 5)
	said("may not be written", 1)
	fail(nil)
	removed(s.r, "vol-9", "node-1")
	s.counted(OrphanRemoved, resultSent, 1)
	said("written again", 1)
	fail(terminating())
	removed(s.r, "vol-10", "node-1")
	s.counted(OrphanRemoved, resultError, 1)
	said("may not be written", 1) // of one namespace that goes the role knows nothing
	said("was refused", 1)
	fail(forbidden())
	removed(s.r, "vol-11", "node-1")
	s.counted(OrphanRemoved, resultForbidden, 6)
	said("may not be written", 2)
}

// While the API server is away an Event is tried again, for a time.
func TestAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		defer s.run()()
		var tries atomic.Int32
		var back atomic.Bool
		s.failing("create", func() error {
			switch n := tries.Add(1); {
			case back.Load():
				return nil
			case n%2 == 0:
				return apierrors.NewInternalError(errors.New("etcdserver: leader changed"))
			}
			return errRefusedConnection
		})
		removed(s.r, "vol-1", "node-1")
		time.Sleep(eventPatience / 2)
		synctest.Wait()
		if n := tries.Load(); n < 3 || n > 12 || s.count("", resultError) != 0 {
			t.Errorf("after %s: %d tries, %d given up; want a few, and none", eventPatience/2, n, s.count("", resultError))
		}
		time.Sleep(eventPatience)
		synctest.Wait()
		if s.count(OrphanRemoved, resultError) != 1 {
			t.Errorf("an Event is not given up after %s", eventPatience)
		}
		given := tries.Load()
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := tries.Load(); n != given {
			t.Errorf("it was tried %d times more", n-given)
		}
		removed(s.r, "vol-2", "node-1")
		synctest.Wait()
		back.Store(true)
		time.Sleep(lastPause)
		synctest.Wait()
		if s.count(OrphanRemoved, resultSent) != 1 || len(s.events()) != 1 {
			t.Errorf("the Event is not written when the API server is back")
		}
		if a, b := s.logs.with("cannot be written"), s.logs.with("written again"); len(a) != 1 || len(b) != 1 {
			t.Errorf("the log says %q and %q", a, b)
		}
	})
}

// Whoever reports is never kept waiting: not by an API server that hangs, nor
// before Run.
func TestNothingBlocks(t *testing.T) {
	s := newStage(t, func(c *Config) { c.Burst = 10_000 })
	const many = 3 * reportsQueued
	report := func() {
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range many {
				removed(s.r, fmt.Sprintf("vol-%d", i), "node-1")
			}
		}()
		select {
		case <-done:
		case <-time.After(patience):
			t.Fatal("a report blocks")
		}
	}
	report()
	hang, once := make(chan struct{}), make(chan struct{}, 1)
	s.failing("create", func() error {
		select {
		case once <- struct{}{}:
		default:
		}
		<-hang
		return nil
	})
	stop := s.run()
	<-once
	report()
	eventually(t, "what there is no room for is counted", func() bool { return s.count(OrphanRemoved, resultDropped) > many })
	close(hang)
	stop()
}

// The broadcaster is not kept waiting either: it has a goroutine for each Event.
func TestSink_NeverBlocks(t *testing.T) {
	s := newStage(t)
	s.reg.MustRegister(prometheus.WrapCollectorWith(prometheus.Labels{"cluster": "east"}, s.r.metrics))
	full := sink{s.r, make(chan write)}
	e := &eventsv1.Event{Reason: string(OrphanRemoved)}
	if got, err := full.Create(t.Context(), e); got != e || err != nil {
		t.Errorf("Create gives %v, %v", got, err)
	}
	if got, err := full.Patch(t.Context(), e, []byte("{}")); got != e || err != nil {
		t.Errorf("Patch gives %v, %v", got, err)
	}
	s.counted(OrphanRemoved, resultDropped, 2)
	if _, err := full.Update(t.Context(), e); err == nil {
		t.Error("Update is taken, which the role does not allow")
	}
}

// It can run again, but not twice at a time.
func TestRunAgain(t *testing.T) {
	s := newStage(t)
	stop := s.run()
	removed(s.r, "vol-1", "node-1")
	s.written(1)
	if err := s.r.Run(t.Context()); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("a second Run returned %v", err)
	}
	stop()
	removed(s.r, "vol-2", "node-1") // waits for the next
	defer s.run()()
	s.written(2)
	// The next process, or another cluster of this one, finds the metrics free.
	other, err := New(Config{Cluster: "west", Client: s.kube.EventsV1(), Registerer: s.reg})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := other.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("the recorder of another cluster: %v", err)
	}
}

func TestRun_MetricsTaken(t *testing.T) {
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "holdfast_events_total", Help: "another one"}))
	r, err := New(Config{Cluster: "east", Client: fake.NewClientset().EventsV1(), Registerer: reg})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "east") {
		t.Errorf("Run returned %v", err)
	}
}

func TestOnce(t *testing.T) {
	conflict := conflictOver("vol-1", heldIn("west", "node-3"))
	for name, test := range map[string]struct {
		fail error
		want string // of the error
	}{
		"written":   {},
		"forbidden": {forbidden(), "the role does not allow it"},
		"away":      {errRefusedConnection, "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.failing("create", func() error { return test.fail })
			cfg := Config{Cluster: "east", Driver: driver("d.example"), Client: s.kube.EventsV1(), Claims: theClaims, Logger: slog.New(slog.DiscardHandler)}
			err := Once(t.Context(), cfg, conflict)
			switch {
			case test.want == "" && (err != nil || len(s.events()) != 1 || s.events()[0].Regarding.Name != "cart"):
				t.Errorf("Once gives %v, and there is %+v", err, s.events())
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("Once gives %v, want %q in it", err, test.want)
			}
			if err := Once(t.Context(), cfg, state.ErrUnavailable); err != nil {
				t.Errorf("Once, of what is no conflict, gives %v", err)
			}
		})
	}
	if err := Once(t.Context(), Config{}, conflict); !errors.Is(err, state.ErrInvalid) {
		t.Errorf("Once without a client gives %v", err)
	}
}

// hangingClaims know nothing for as long as they are asked.
type hangingClaims struct{}

func (hangingClaims) Claim(ctx context.Context, _, _ string) (watch.Claim, bool) {
	<-ctx.Done()
	return watch.Claim{}, false
}

// Claims that do not answer keep nobody for longer than he waits.
func TestOnce_InTime(t *testing.T) {
	s := newStage(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	cfg := Config{Cluster: "east", Client: s.kube.EventsV1(), Claims: hangingClaims{}, Logger: slog.New(slog.DiscardHandler)}
	err := Once(ctx, cfg, conflictOver("vol-1", heldIn("west", "node-3")))
	if err == nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Once gives %v, want that it was not in time", err)
	}
}
