package state

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"
)

// together has calls go into one request: each is begun, and when all wait the writer
// may send. It returns what each came to.
func together(l *Ledger, calls int, begin func(i int) error) []error {
	w := l.writer
	w.mu.Lock()
	w.flying = requestsUnderWay
	w.mu.Unlock()
	errs := make([]error, calls)
	var joined sync.WaitGroup
	for i := range calls {
		joined.Go(func() { errs[i] = begin(i) })
	}
	for waiting := 0; waiting < calls; runtime.Gosched() {
		w.mu.Lock()
		waiting = len(w.waiting)
		w.mu.Unlock()
	}
	w.mu.Lock()
	w.flying = 1
	w.joined.Add(1)
	go w.fly()
	w.mu.Unlock()
	joined.Wait()
	return errs
}

func trustOf(l *Ledger, level trustLevel) {
	l.writer.mu.Lock()
	defer l.writer.mu.Unlock()
	l.writer.trust = trust{level: level}
}

// A full request of each kind is one that etcd takes, and one round trip.
func TestBundle_AFullRequestIsTaken(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	sent := counting(l)
	for _, level := range []trustLevel{trustNothing, trustCalls, trustVolumes} {
		volume := func(i int) string { return fmt.Sprintf("pvc-%d-%d", level, i) }
		for _, step := range []struct {
			what string
			call func(i int) error
		}{
			{"attach", func(i int) error {
				_, err := c.Attach(t.Context(), AttachRequest{Volume: volume(i), Node: "node-1", IgnoreGrace: i%8 == 0, Why: "test"})
				return err
			}},
			{"detach", func(i int) error {
				e, err := c.Detach(t.Context(), DetachRequest{Volume: volume(i), Node: "node-1"})
				if err == nil && !e.Existed {
					err = errors.New("it held nothing")
				}
				return err
			}},
		} {
			trustOf(l, level)
			sent.sent.Store(0)
			for i, err := range together(l, requestOperations, step.call) {
				if err != nil {
					t.Errorf("%s of %s: %v", step.what, volume(i), err)
				}
			}
			if got := sent.sent.Load(); got != 1 {
				t.Errorf("%d calls to %s took %d requests at trust %d, want 1", requestOperations, step.what, got, level)
			}
		}
	}
}

// What stands in the way of one call spoils its bundle for nobody, and bundles are
// not made for a while.
func TestBundle_OneConflictIsOnesOwn(t *testing.T) {
	l := openLedger(t)
	a, b := asCluster(t, l, "a"), asCluster(t, l, "b")
	const taken, calls = 5, 20
	attached(t, b, "pvc-5", "node-b")
	sent := counting(l)
	trustOf(l, trustVolumes)
	errs := together(l, calls, func(i int) error {
		_, err := a.Attach(t.Context(), AttachRequest{Volume: fmt.Sprintf("pvc-%d", i), Node: "node-1"})
		return err
	})
	if got := sent.sent.Load(); got < 2 || got > 1+calls {
		t.Errorf("%d calls took %d requests", calls, got)
	}
	for i, err := range errs {
		if i == taken {
			if !errors.Is(err, ErrConflict) {
				t.Errorf("the attach of a held volume: %v, want a conflict", err)
			}
			continue
		}
		if err != nil {
			t.Errorf("beside a conflict: %v", err)
		}
		mustHold(t, l, fmt.Sprintf("pvc-%d", i), StateAttached, Place{"a", "node-1"})
	}
	mustHold(t, l, "pvc-5", StateAttached, Place{"b", "node-b"})
	if got := l.writer.trusts(); got != trustCalls {
		t.Errorf("after one refusal trust is %d, want %d", got, trustCalls)
	}
}

// A volume that its own cluster has just detached takes a second round trip where
// nobody expected it, and one from then on.
func TestBundle_HandoffsAreExpectedOnceSeen(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	sent := counting(l)
	for i, want := range []int64{2, 1, 1} {
		volume := fmt.Sprintf("pvc-%d", i)
		attached(t, c, volume, "node-1")
		detached(t, c, volume, "node-1")
		sent.sent.Store(0)
		attached(t, c, volume, "node-2")
		if got := sent.sent.Load(); got != want {
			t.Errorf("handoff %d took %d round trips, want %d", i, got, want)
		}
	}
}

func TestTrust(t *testing.T) {
	for _, c := range []struct {
		before         trust
		refused, clean int
		after          trust
	}{
		{trust{trustVolumes, 5}, 0, 64, trust{trustVolumes, 69}},
		{trust{trustVolumes, trustAfter - 1}, 0, 1, trust{trustVolumes, 0}},
		{trust{trustVolumes, 500}, 1, 63, trust{trustCalls, 0}},
		{trust{trustCalls, 500}, 2, 0, trust{trustNothing, 0}},
		{trust{trustNothing, 500}, 64, 0, trust{trustNothing, 0}},
		{trust{trustNothing, trustAfter - 64}, 0, 64, trust{trustCalls, 0}},
		{trust{trustCalls, trustAfter - 64}, 0, 63, trust{trustCalls, trustAfter - 1}},
	} {
		got := c.before
		if got.learn(c.refused, c.clean); got != c.after {
			t.Errorf("%+v, %d refused and %d not: %+v, want %+v", c.before, c.refused, c.clean, got, c.after)
		}
	}
}

// Many calls about one volume do not wait for each other's answers, but each goes
// in a request of its own, of which there are not too many.
func TestWriter_OneVolumesCallsGoSideBySide(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	attached(t, c, "pvc-0", "node-1") // so that nobody waits for a lease
	const calls = mostUnderWay + 10
	h := &heldEach{KVClient: l.kv, held: make(chan chan struct{}, 2*calls)}
	l.kv = h
	errs := make(chan error, calls)
	for i := range calls {
		go func() {
			_, err := c.Attach(t.Context(), AttachRequest{Volume: "pvc-1", Node: fmt.Sprintf("node-%d", i)})
			errs <- err
		}()
	}
	var held []chan struct{}
	for range mostUnderWay {
		select {
		case let := <-h.held:
			held = append(held, let)
		case <-time.After(10 * time.Second):
			t.Fatalf("%d requests are under way, want %d", len(held), mostUnderWay)
		}
	}
	won, lost := 0, 0
	go func() {
		for _, let := range held {
			close(let)
		}
		for let := range h.held {
			close(let)
		}
	}()
	for range calls {
		switch err := <-errs; {
		case err == nil:
			won++
		case errors.Is(err, ErrConflict):
			lost++
		default:
			t.Error(err)
		}
	}
	close(h.held)
	if won != 1 || lost != calls-1 {
		t.Errorf("%d attaches of one volume succeeded and %d were refused", won, lost)
	}
	for left := -1; left != 0; runtime.Gosched() {
		l.writer.mu.Lock()
		left = l.writer.flying + len(l.writer.waiting)
		l.writer.mu.Unlock()
	}
}
