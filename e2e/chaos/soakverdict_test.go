package chaos

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/e2e/chaos/model"
)

// series is one of a soak's, a minute between two rests.
func series(q quantity, values ...float64) Series {
	s := Series{Name: q.name, quantity: q, Values: values}
	for i := range values {
		s.At = append(s.At, time.Duration(i+1)*time.Minute)
	}
	return s
}

// ramp rises evenly over ten rests, and by noise that goes up and down. At the
// end, with nothing held, there is no more than in the beginning.
func ramp(from, to, noise float64) []float64 {
	var out []float64
	for i := range 10 {
		out = append(out, from+(to-from)*float64(i)/9+noise*float64(i%3-1))
	}
	return append(out, from)
}

func TestSeries_Verdict(t *testing.T) {
	for name, c := range map[string]struct {
		series Series
		want   string // in the error; "" means that it is flat
	}{
		"goroutines that come and go":       {series(goroutines, 75, 80, 73, 78, 74, 75), ""},
		"goroutines that stay":              {series(goroutines, ramp(75, 110, 0)...), "grown from 75 to 110, expected at most 105"},
		"goroutines that stay at the end":   {series(goroutines, 75, 75, 75, 75, 130), "grown from 75 to 130"},
		"descriptors that come and go":      {series(descriptors, 15, 17, 13, 16, 15), ""},
		"descriptors that stay":             {series(descriptors, ramp(15, 30, 1)...), "grown from 14 to 29"},
		"a heap with noise":                 {series(heap, ramp(8*mib, 8*mib, mib)...), ""},
		"a heap that has doubled":           {series(heap, ramp(40*mib, 80*mib, mib)...), "grown from 39.0M to 79.0M"},
		"a heap that grows slowly":          {series(heap, ramp(40*mib, 55*mib, mib)...), "grows by 100.0M an hour"},
		"a heap that was late to settle":    {series(heap, append([]float64{20 * mib, 30 * mib, 32 * mib}, ramp(33*mib, 33*mib, mib/2)...)...), ""},
		"a heap with one odd reading":       {series(heap, 20*mib, 20*mib, 20*mib, 20*mib, 20*mib, 44*mib, 20*mib, 20*mib, 20*mib, 20*mib, 20*mib), ""},
		"a heap that is too small to tell":  {series(heap, ramp(4*mib, 6*mib, 0)...), ""},
		"memory that is given back late":    {series(resident, 50*mib, 60*mib, 80*mib, 78*mib, 82*mib, 79*mib, 80*mib, 81*mib, 80*mib, 60*mib), ""},
		"memory that grows":                 {series(resident, ramp(100*mib, 160*mib, mib)...), "grows by"},
		"leases that stay":                  {series(leasesThere, ramp(20, 200, 5)...), "grown from 15 to 195"},
		"keys that stay":                    {series(keysThere, ramp(800, 1500, 20)...), "grown from 780 to 1480"},
		"a journal that nodes left much in": {series(kindsThere["journal"], ramp(50, 900, 20)...), ""},
		"a file that etcd reuses":           {series(database, ramp(3*mib, 20*mib, mib)...), ""},
		"a file that grows":                 {series(database, ramp(30*mib, 120*mib, mib)...), "grown from"},
		"too few rests":                     {series(heap, mib, mib), "expected at least 3 rests"},
	} {
		t.Run(name, func(t *testing.T) {
			switch err := c.series.err(); {
			case c.want == "" && err != nil:
				t.Errorf("it is flat, and the verdict is: %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("verdict %v, expected it to say %q", err, c.want)
			}
		})
	}
}

// A process that is to run for a month has grown, however slowly: by a tenth in
// half an hour is far too much, and within the limit between first and last.
func TestSeries_TrendIsAnHours(t *testing.T) {
	s := series(heap, ramp(80*mib, 95*mib, 0)...)
	for i := range s.At {
		s.At[i] = time.Duration(i+1) * 3 * time.Minute // a soak of half an hour
	}
	if s.last() > s.limit() {
		t.Fatal("the limit finds it already")
	}
	if hourly, _ := s.trend(); hourly < 33*mib || hourly > 34*mib {
		t.Errorf("the trend is %.1f MiB an hour, expected 15 MiB in 27 minutes", hourly/mib)
	}
	if s.err() == nil {
		t.Error("a heap that grows by a third an hour is called flat")
	}
}

func TestLeft_Account(t *testing.T) {
	clean := func() Left {
		return Left{Keys: map[string]int{"ledger": 1, "clusters": 2, "elections": 4, "witnesses": 2, "other": 1}, Leases: 4, Under: 4}
	}
	if err := clean().account(2, 4); err != nil {
		t.Errorf("all is accounted for, and it says: %v", err)
	}
	for _, kind := range []string{
		"holds", "attachments", "detachments", "migrations", "departures", "quarantines", "journal", "pauses", "freezes",
		"elections", "clusters", "witnesses", "other", "nobody's",
	} {
		l := clean()
		l.Keys[kind]++
		if err := l.account(2, 4); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", kind)) {
			t.Errorf("one key of kind %q too many: %v", kind, err)
		}
	}
	for _, kind := range []string{"ledger", "clusters", "elections"} {
		l := clean()
		l.Keys[kind]--
		if l.account(2, 4) == nil {
			t.Errorf("a key of kind %q is gone, and all is accounted for", kind)
		}
	}
	leaked := clean()
	leaked.Leases, leaked.Idle = 5, 1
	if leaked.account(2, 4) == nil {
		t.Error("a lease too many, and all is accounted for")
	}
}

func TestLeft_Crowded(t *testing.T) {
	l := Left{Keys: map[string]int{"elections": 4, "journal": 10, "attachments": 430, "holds": 430}, Under: 4 + 10 + 53 + 6, Idle: 100}
	if err := l.crowded(2); err != nil {
		t.Error(err)
	}
	if l.Under++; l.crowded(2) == nil {
		t.Error("a lease more than gathering leaves is not crowded")
	}
}

func TestFiguresOf(t *testing.T) {
	got := map[string]float64{}
	for _, f := range figuresOf(`# HELP go_goroutines Number of goroutines that currently exist.
# TYPE go_goroutines gauge
go_goroutines 75
process_resident_memory_bytes 5.1e+07
holdfast_queue_depth{cluster="a"} 2
holdfast_queue_depth{cluster="b of two"} 3
holdfast_queue_depth_else 7
`) {
		got[f.quantity.name] = f.value
	}
	for name, want := range map[string]float64{"goroutines": 75, "resident": 5.1e7, "queue": 5} {
		if got[name] != want {
			t.Errorf("%s is %v, expected %v", name, got[name], want)
		}
	}
}

// A soak in which nothing happened is no success.
func TestSoakReport_Enough(t *testing.T) {
	p := &SoakReport{Rate: 100, Counts: map[string]int{"calls " + string(model.Attach): 2000, "calls " + string(model.Get): 900}}
	if err := p.enough(30 * time.Second); err != nil {
		t.Error(err)
	}
	if p.enough(58*time.Second+time.Second) == nil {
		t.Error("half of the calls were not made, and it is enough")
	}
	if p.enough(time.Minute) == nil {
		t.Error("no orphan was removed, and it is enough")
	}
}

func TestOfRound(t *testing.T) {
	steps := []step{{at: time.Second, lasts: 5 * time.Second}, {at: 9 * time.Second, lasts: 5 * time.Second}, {at: 12 * time.Second}}
	first, second := ofRound(steps, 0, 10*time.Second), ofRound(steps, 1, 10*time.Second)
	if len(first) != 2 || len(second) != 1 {
		t.Fatalf("%d and %d steps in the rounds, expected 2 and 1", len(first), len(second))
	}
	if first[1].lasts != time.Second || second[0].at != 2*time.Second {
		t.Errorf("a step lasts %v, expected it to end with its round; one begins at %v, expected 2s", first[1].lasts, second[0].at)
	}
}
