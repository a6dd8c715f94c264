package bench

import (
	"context"
	"errors"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// near allows what a histogram of three digits leaves out.
func near(got, want time.Duration) bool {
	return math.Abs(float64(got-want)) <= 0.002*float64(want)
}

// A call that had to wait for the ones before it has waited: its latency counts
// from when it was meant to start.
func TestOffer_CountsFromTheIntendedStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// 10 a second for a second are meant, and a caller manages 2.
		m := Offer(t.Context(), 1, time.Second, 10, func(context.Context, int, int) error {
			time.Sleep(500 * time.Millisecond)
			return nil
		})
		if m.Calls != 10 || m.Failed() != 0 {
			t.Errorf("%d calls, %d failed; want 10 and 0", m.Calls, m.Failed())
		}
		if want := 5 * time.Second; m.Took != want {
			t.Errorf("took %v, want %v", m.Took, want)
		}
		// The first took its 500 ms; the last was meant at 900 ms, and done at 5 s.
		if got := time.Duration(m.Latency.Min()); !near(got, 500*time.Millisecond) {
			t.Errorf("the shortest latency is %v, want 500ms", got)
		}
		if got := m.Quantile(1); !near(got, 4100*time.Millisecond) {
			t.Errorf("the longest latency is %v, want 4.1s", got)
		}
	})
}

// With callers enough, calls start when they are meant to.
func TestOffer_KeepsItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var at []time.Duration
		begin := time.Now()
		m := Offer(t.Context(), 8, time.Second, 10, func(context.Context, int, int) error {
			mu.Lock()
			at = append(at, time.Since(begin))
			mu.Unlock()
			time.Sleep(500 * time.Millisecond)
			return nil
		})
		var want []time.Duration
		for i := range 10 {
			want = append(want, time.Duration(i)*100*time.Millisecond)
		}
		if diff := cmp.Diff(want, at); diff != "" {
			t.Errorf("when calls started (-want +got):\n%s", diff)
		}
		if got := m.Quantile(1); !near(got, 500*time.Millisecond) {
			t.Errorf("the longest latency is %v, want 500ms", got)
		}
	})
}

func TestOffer_EndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
		defer cancel()
		m := Offer(ctx, 4, time.Hour, 10, func(context.Context, int, int) error { return nil })
		if m.Calls != 3 || m.Took != 250*time.Millisecond {
			t.Errorf("%d calls in %v, want 3 in 250ms", m.Calls, m.Took)
		}
	})
}

func TestLoop_CountsErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused, lost := errors.New("refused"), errors.New("lost")
		m := Loop(t.Context(), 3, time.Minute, 12, func(_ context.Context, _, i int) error {
			time.Sleep(time.Duration(i+1) * time.Millisecond)
			switch i % 4 {
			case 1:
				return refused
			case 2:
				if i > 2 {
					return lost
				}
			}
			return nil
		})
		want := map[string]int{"refused": 3, "lost": 2}
		if diff := cmp.Diff(want, m.Errors); diff != "" || m.Failed() != 5 {
			t.Errorf("errors, %d in all (-want +got):\n%s", m.Failed(), diff)
		}
		if m.Calls != 7 || m.Latency.TotalCount() != 7 {
			t.Errorf("%d calls, of %d latencies; want the 7 that succeeded", m.Calls, m.Latency.TotalCount())
		}
		if got, want := m.PerSecond(), 7/m.Took.Seconds(); got != want {
			t.Errorf("%v a second, want %v: what failed is no throughput", got, want)
		}
	})
}

func TestLoop_EndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		callers, calls := map[int]int{}, map[int]bool{}
		m := Loop(t.Context(), 4, time.Second, 0, func(_ context.Context, caller, i int) error {
			mu.Lock()
			callers[caller]++
			calls[i] = true
			mu.Unlock()
			time.Sleep(30 * time.Millisecond)
			return nil
		})
		if m.Took < time.Second || m.Took > time.Second+4*30*time.Millisecond {
			t.Errorf("took %v, want a second, and the calls that had begun", m.Took)
		}
		if len(callers) != 4 || len(calls) != m.Calls || !calls[0] || !calls[m.Calls-1] {
			t.Errorf("callers %v, %d numbers of %d calls; want all callers, and each number once", callers, len(calls), m.Calls)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		m := Loop(ctx, 2, time.Hour, 0, func(ctx context.Context, _, _ int) error {
			<-ctx.Done()
			return ctx.Err()
		})
		if m.Took != time.Second || m.Failed() != 2 {
			t.Errorf("took %v with %d errors, want a second with 2", m.Took, m.Failed())
		}
	})
}
