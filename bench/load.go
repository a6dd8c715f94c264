package bench

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Call makes the i-th call of a round, as one of its callers; both count from 0.
type Call func(ctx context.Context, caller, i int) error

// Measured is what a round came to.
type Measured struct {
	// Calls succeeded; Errors are the others, by what they said.
	Calls  int
	Errors map[string]int
	// Took is from the first call's start to the last one's end.
	Took time.Duration
	// Latency is of the calls that succeeded, in nanoseconds, each counted from
	// when it was meant to start.
	Latency *hdrhistogram.Histogram
}

// PerSecond is how many calls a second succeeded.
func (m Measured) PerSecond() float64 { return float64(m.Calls) / m.Took.Seconds() }

// Failed is how many calls failed.
func (m Measured) Failed() int {
	n := 0
	for _, k := range m.Errors {
		n += k
	}
	return n
}

// Quantile is the latency that the share q of all calls, 0 to 1, stayed within.
func (m Measured) Quantile(q float64) time.Duration {
	return time.Duration(m.Latency.ValueAtQuantile(100 * q))
}

// NewLatency holds latencies from a microsecond to ten minutes, to three digits.
func NewLatency() *hdrhistogram.Histogram {
	return hdrhistogram.New(int64(time.Microsecond), int64(10*time.Minute), 3)
}

// meter is one caller's share of a round, so that callers share nothing.
type meter struct {
	latency *hdrhistogram.Histogram
	errors  map[string]int
}

func (m *meter) count(meant time.Time, err error) {
	if err != nil {
		m.errors[err.Error()]++
		return
	}
	_ = m.latency.RecordValue(int64(max(time.Since(meant), time.Microsecond))) // beyond ten minutes nobody waits
}

// Loop has callers that each make one call after another, until the time is over
// or, where calls is not 0, that many were made.
func Loop(ctx context.Context, callers int, length time.Duration, calls int, call Call) Measured {
	var next atomic.Int64
	begin := time.Now()
	return measure(ctx, callers, func(ctx context.Context, caller int, m *meter) {
		for time.Since(begin) < length && ctx.Err() == nil {
			i := int(next.Add(1)) - 1
			if calls > 0 && i >= calls {
				return
			}
			meant := time.Now()
			m.count(meant, call(ctx, caller, i))
		}
	})
}

// Offer makes calls at a fixed rate a second, whether or not the ones before have
// been answered, with at most so many callers. Where all of them are busy the
// call waits, and its wait counts.
func Offer(ctx context.Context, callers int, length time.Duration, rate float64, call Call) Measured {
	var next atomic.Int64
	begin := time.Now()
	return measure(ctx, callers, func(ctx context.Context, caller int, m *meter) {
		for {
			i := int(next.Add(1)) - 1
			after := time.Duration(float64(i) / rate * float64(time.Second))
			if after >= length {
				return
			}
			meant := begin.Add(after)
			select {
			case <-time.After(time.Until(meant)):
			case <-ctx.Done():
				return
			}
			m.count(meant, call(ctx, caller, i))
		}
	})
}

func measure(ctx context.Context, callers int, work func(ctx context.Context, caller int, m *meter)) Measured {
	meters := make([]meter, callers)
	begin := time.Now()
	var working sync.WaitGroup
	for c := range callers {
		m := &meters[c]
		m.latency, m.errors = NewLatency(), map[string]int{}
		working.Go(func() { work(ctx, c, m) })
	}
	working.Wait()
	all := Measured{Took: time.Since(begin), Latency: NewLatency(), Errors: map[string]int{}}
	for _, m := range meters {
		all.Latency.Merge(m.latency)
		for what, n := range m.errors {
			all.Errors[what] += n
		}
	}
	all.Calls = int(all.Latency.TotalCount())
	return all
}
