package state

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-storage/holdfast/state/statetest"
)

// What many callers meet at an etcd that is slow, stalled or full: an answer or
// an error in time, a queue that they bound themselves, and nothing lost.

const manyCallers = 256

func many(do func(caller int)) {
	var joined sync.WaitGroup
	for i := range manyCallers {
		joined.Go(func() { do(i) })
	}
	joined.Wait()
}

// told is what callers know of the volumes that they attached.
type told struct {
	mu sync.Mutex
	// held: they hold it. never: it was never sent. Of all others they do not know.
	held, never map[string]bool
	late        time.Duration // by how much the latest error came after its deadline
	other       []error
}

func newTold() *told { return &told{held: map[string]bool{}, never: map[string]bool{}} }

// attach attaches a volume, within a time.
func (a *told) attach(t *testing.T, c *Cluster, volume string, within time.Duration) {
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	begun := time.Now()
	_, err := c.Attach(ctx, AttachRequest{Volume: volume, Node: "node-1"})
	late := time.Since(begun) - within
	a.mu.Lock()
	defer a.mu.Unlock()
	a.late = max(a.late, late)
	switch {
	case err == nil:
		a.held[volume] = true
	case errors.Is(err, ErrUnknownOutcome):
	case errors.Is(err, context.DeadlineExceeded):
		a.never[volume] = true
	default:
		a.other = append(a.other, err)
	}
}

// check holds what they know against what is there, once no request is under way.
func (a *told) check(t *testing.T, through, l *Ledger) {
	t.Helper()
	idle(t, through)
	there := heldVolumes(t, l)
	for v := range a.held {
		if !there[v] {
			t.Errorf("%s is lost: its caller was told that it is attached", v)
		}
	}
	for v := range a.never {
		if there[v] {
			t.Errorf("%s is attached: its caller was told that it was never sent", v)
		}
	}
	for _, err := range a.other {
		t.Errorf("not an error of a slow etcd: %v", err)
	}
	if a.late > 5*time.Second { // a request is given up after 30 s
		t.Errorf("a caller was told %v after its deadline", a.late)
	}
}

// idle waits until no request of a ledger is under way.
func idle(t *testing.T, l *Ledger) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); queued(l) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("requests are still under way after a minute")
		}
	}
}

// queued is how many calls wait in the writer, and requests are under way.
func queued(l *Ledger) int {
	l.writer.mu.Lock()
	defer l.writer.mu.Unlock()
	return len(l.writer.waiting) + l.writer.flying
}

func heldVolumes(t *testing.T, l *Ledger) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for h, err := range l.Holds(t.Context(), HoldFilter{}) {
		mustBe(t, err, nil)
		out[h.Volume] = true
	}
	return out
}

func patient(c *Config) { c.RequestTimeout = 30 * time.Second }

// A round trip of 40 ms more: calls that wait share the next request, so that
// many callers are served as well as a few.
func TestSlow_CallersShareRequests(t *testing.T) {
	const each = 8
	registry := prometheus.NewRegistry()
	proxy, through, l := proxied(t, func(c *Config) { c.Registerer = registry })
	c := asCluster(t, through, "a")
	attached(t, c, "warm", "node-1")
	proxy.Delay(20 * time.Millisecond)
	all := newTold()
	begun := time.Now()
	many(func(caller int) {
		for i := range each {
			all.attach(t, c, fmt.Sprintf("pvc-%d-%d", caller, i), time.Minute)
		}
	})
	took := time.Since(begun)
	all.check(t, through, l)
	requests := requestsOf(t, registry)
	t.Logf("%d attaches in %v, %.0f/s, in %d requests", len(all.held), took, float64(len(all.held))/took.Seconds(), requests)
	if len(all.held) != manyCallers*each {
		t.Errorf("%d of %d calls were carried out", len(all.held), manyCallers*each)
	}
	if requests > manyCallers*each/8 {
		t.Errorf("%d requests for %d calls", requests, manyCallers*each)
	}
}

func requestsOf(t *testing.T, g prometheus.Gatherer) uint64 {
	t.Helper()
	families, err := g.Gather()
	mustBe(t, err, nil)
	for _, f := range families {
		if f.GetName() == "holdfast_request_operations" {
			return f.GetMetric()[0].GetHistogram().GetSampleCount()
		}
	}
	t.Fatal("no metric of the requests")
	return 0
}

// Deadlines shorter than the round trip: each caller is told by its own, and
// what it is told is true.
func TestSlow_DeadlinesHold(t *testing.T) {
	proxy, through, l := proxied(t, patient)
	c := asCluster(t, through, "a")
	attached(t, c, "warm", "node-1")
	proxy.Delay(20 * time.Millisecond)
	all := newTold()
	many(func(caller int) {
		for i := range 20 {
			all.attach(t, c, fmt.Sprintf("pvc-%d-%d", caller, i), time.Duration(1+(caller+7*i)%80)*time.Millisecond)
		}
	})
	proxy.Delay(0)
	all.check(t, through, l)
	if len(all.never) == 0 {
		t.Error("every call was sent: no caller had to wait for too long")
	}
}

// Nothing comes through, and callers come, give up and come again: they are told
// by their deadlines, and what they leave in the queue does not add up.
func TestStalled_QueueIsBounded(t *testing.T) {
	proxy, through, l := proxied(t, patient)
	c := asCluster(t, through, "a")
	attached(t, c, "warm", "node-1")
	proxy.Pause()
	all := newTold()
	var longest int
	many(func(caller int) {
		for i := range 40 {
			all.attach(t, c, fmt.Sprintf("pvc-%d-%d", caller, i), 10*time.Millisecond)
			n := queued(through)
			all.mu.Lock()
			longest = max(longest, n)
			all.mu.Unlock()
		}
	})
	t.Logf("at most %d in the queue, told at most %v late", longest, all.late)
	if longest > 3*manyCallers {
		t.Errorf("%d calls in the queue of %d callers", longest, manyCallers)
	}
	proxy.Resume()
	all.check(t, through, l)
	attached(t, c, "after", "node-1")
}

// Somebody with all the time of the world waits for a lease: who has a deadline
// does not wait for it with him.
func TestStalled_DeadlineBehindAGrant(t *testing.T) {
	proxy, through, l := proxied(t, patient)
	c := asCluster(t, through, "a")
	attached(t, c, "warm", "node-1")
	c.sessions.drop(read(t, l, "warm").Attachments[0].Lease)
	proxy.Pause()
	stuck := time.AfterFunc(20*time.Second, proxy.Resume)
	defer stuck.Stop()
	all := newTold()
	var first sync.WaitGroup
	first.Go(func() { all.attach(t, c, "pvc-1", time.Minute) })
	for queued(through) == 0 {
		time.Sleep(time.Millisecond)
	}
	for i := range requestsUnderWay + 1 {
		all.attach(t, c, fmt.Sprintf("pvc-%d", 2+i), 50*time.Millisecond)
	}
	proxy.Resume()
	first.Wait()
	all.check(t, through, l)
	if !all.held["pvc-1"] {
		t.Error("the call that waited was not carried out")
	}
}

// A full etcd refuses every call: at once, however many there are and without
// keeping anything of them, and all goes on when there is space again.
func TestFull_RefusesForAsLongAsItTakes(t *testing.T) {
	const rounds, each = 10, 40 // 102,400 calls
	etcd := statetest.Start(t, statetest.WithQuota(2<<20))
	l := openAt(t, etcd.Endpoints(), "/holdfast/")
	c := asCluster(t, l, "a")
	attached(t, c, "warm", "node-1")
	etcd.FillUp(t)
	before := etcd.Dump(t, "/holdfast/")
	var memory []uint64
	for range rounds {
		many(func(caller int) {
			for i := range each {
				volume := fmt.Sprintf("pvc-%d-%d", caller, i)
				call := func() error {
					_, err := c.Attach(t.Context(), AttachRequest{Volume: volume, Node: "node-1"})
					return err
				}
				if caller%2 == 1 {
					call = func() error {
						_, err := c.Detach(t.Context(), DetachRequest{Volume: volume, Node: "node-1"})
						return err
					}
				}
				if err := call(); !errors.Is(err, ErrNoSpace) {
					t.Errorf("%s: %v, want %v", volume, err, ErrNoSpace)
				}
			}
		})
		memory = append(memory, inUse())
	}
	t.Logf("memory after each %d refused calls: %d", manyCallers*each, memory)
	if grown := int64(memory[rounds-1]) - int64(memory[0]); grown > 4<<20 {
		t.Errorf("memory has grown by %d bytes over %d refused calls", grown, (rounds-1)*manyCallers*each)
	}
	if after := etcd.Dump(t, "/holdfast/"); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("there was %v, and is %v", before, after)
	}

	etcd.FreeSpace(t)
	mustHold(t, l, "warm", StateAttached, Place{"a", "node-1"})
	all := newTold()
	many(func(caller int) { all.attach(t, c, fmt.Sprintf("pvc-%d", caller), time.Minute) })
	all.check(t, l, l)
	if len(all.held) != manyCallers {
		t.Errorf("with space again, %d of %d calls were carried out", len(all.held), manyCallers)
	}
}

// A full etcd that is slow as well: those whose calls share a request share what
// it is told of a lease, and need not each wait for a refusal of their own.
func TestFull_AndSlow(t *testing.T) {
	etcd := statetest.Start(t)
	proxy := etcd.Proxy(t)
	l := openAt(t, proxy.Endpoints(), "/holdfast/", func(c *Config) { c.RequestTimeout, c.GracePeriod = time.Second, 4*time.Second })
	c := asCluster(t, l, "a")
	h := attached(t, c, "warm", "node-1")
	c.sessions.drop(read(t, l, h.Volume).Attachments[0].Lease)
	etcd.AlarmNoSpace(t)
	proxy.Delay(20 * time.Millisecond)
	begun := time.Now()
	many(func(caller int) {
		_, err := c.Attach(t.Context(), AttachRequest{Volume: fmt.Sprintf("pvc-%d", caller), Node: "node-1"})
		if !errors.Is(err, ErrNoSpace) {
			t.Errorf("caller %d: %v, want %v", caller, err, ErrNoSpace)
		}
	})
	t.Logf("%d callers were told within %v", manyCallers, time.Since(begun))
	if v := len(heldVolumes(t, l)); v != 1 {
		t.Errorf("%d volumes are held, want 1", v)
	}
}

// inUse is the memory that something still refers to.
func inUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
