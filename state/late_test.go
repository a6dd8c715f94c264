package state

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-storage/holdfast/state/statetest"
)

// What is carried out after its caller has given up, or is sent again after
// somebody else has acted.

// The caller is gone, and the detach is carried out later than its lease was
// meant for: the grace is whole all the same.
func TestLate_CallerGoneLeavesTheGraceWhole(t *testing.T) {
	const grace = 10 * time.Second
	proxy, through, l := proxied(t, func(c *Config) { c.GracePeriod = grace })
	c := asCluster(t, through, "a")
	attached(t, c, "pvc-1", "node-1")
	if _, err := through.waits.take(t.Context(), grace, 0); err != nil { // granted before the delay
		t.Fatal(err)
	}
	k := l.keys.detachment("pvc-1", Exclusive, "a", "node-1")
	changes := l.client.Watch(t.Context(), k)
	proxy.Delay(4 * time.Second)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := c.Detach(ctx, DetachRequest{Volume: "pvc-1", Node: "node-1"})
	mustBe(t, err, ErrUnknownOutcome)
	awaitKey(t, l, k)
	proxy.Delay(0)
	var put time.Time
	for r := range changes {
		for _, e := range r.Events {
			if e.Type == clientv3.EventTypePut {
				put = time.Now()
				continue
			}
			if whole := time.Since(put); whole < grace-200*time.Millisecond { // what the watch itself may take
				t.Errorf("the grace of %s ended %s after its record was last put", grace, whole)
			}
			return
		}
	}
}

// A release of the brake that is sent again does not cover what departs after
// the operator's word.
func TestLate_ReleaseIsPutOnce(t *testing.T) {
	proxy, through, l := proxied(t)
	ld := lead(t, asCluster(t, l, "a"))
	if _, err := through.retain(t.Context()); err != nil {
		t.Fatal(err)
	}
	proxy.PauseResponses()
	var e Entry
	told := make(chan error, 1)
	go func() {
		var err error
		e, err = through.ReleaseBrake(t.Context(), "a", "op", "on purpose")
		told <- err
	}()
	for len(journal(t, l, "a")) == 0 {
		continue // until the release is carried out
	}
	d := departed(t, ld, "node-9") // the next accident
	proxy.DropConnections()
	proxy.Resume()
	mustBe(t, <-told, nil)
	if e.ModRevision == 0 || e.ModRevision > d.ModRevision {
		t.Errorf("the release counts from revision %d and covers the departure of revision %d, made after it", e.ModRevision, d.ModRevision)
	}
}

// An unfreeze whose answer is lost does not undo the freeze of somebody else
// that came after it, nor raise the epoch twice.
func TestLate_UnfreezeLeavesALaterFreeze(t *testing.T) {
	proxy, through, l := proxied(t)
	mustBe(t, l.Freeze(t.Context(), "x", "maintenance"), nil)
	edits := 0
	told := make(chan error, 1)
	go func() {
		told <- through.change(t.Context(), "unfreeze", entryValue{Action: ActionUnfrozen, By: "x"}, func(rec *stops) error {
			if edits++; edits == 1 {
				if _, err := through.retain(t.Context()); err != nil { // a lease to put the entry under
					return err
				}
				proxy.PauseResponses() // the write that follows is carried out, and nobody hears of it
			}
			rec.Frozen, rec.Epoch = nil, rec.Epoch+1
			return nil
		})
	}()
	for {
		rec, err := l.Record(t.Context())
		mustBe(t, err, nil)
		if rec.Frozen == nil {
			break
		}
	}
	mustBe(t, l.Freeze(t.Context(), "y", "emergency"), nil)
	proxy.DropConnections()
	proxy.Resume()
	mustBe(t, <-told, ErrUnknownOutcome)
	rec, err := l.Record(t.Context())
	mustBe(t, err, nil)
	if rec.Frozen == nil || rec.Frozen.By != "y" || rec.Epoch != 1 {
		t.Errorf("after it the ledger is frozen by %+v, in epoch %d", rec.Frozen, rec.Epoch)
	}
}

// A resume that is carried out and not answered leaves the pause of somebody
// else alone that came after it.
func TestLate_ResumeLeavesALaterPause(t *testing.T) {
	proxy, through, l := proxied(t)
	mustBe(t, l.Pause(t.Context(), "a", "x", "maintenance", 0), nil)
	if _, err := through.retain(t.Context()); err != nil { // a lease to put the entry under
		t.Fatal(err)
	}
	proxy.Delay(time.Second) // between what it does and its answer
	told := make(chan error, 1)
	go func() { told <- through.Resume(t.Context(), "a", "x") }()
	gone(t, l, l.keys.pause("a"))
	proxy.PauseResponses()
	mustBe(t, l.Pause(t.Context(), "a", "y", "emergency", 0), nil)
	proxy.Delay(0)
	proxy.DropConnections()
	proxy.Resume()
	mustBe(t, <-told, ErrUnknownOutcome)
	if p, err := l.PauseOf(t.Context(), "a"); err != nil || p == nil || p.By != "y" {
		t.Errorf("after it the pause is %+v, %v", p, err)
	}
}

// A conflict that follows an unanswered send is not the last word: the holder
// may leave, and the first send still arrive.
func TestLate_ConflictAfterAnUnansweredSend(t *testing.T) {
	proxy, through, l := proxied(t)
	c, other := asCluster(t, through, "a"), asCluster(t, l, "a")
	attached(t, c, "warm", "node-1")
	proxy.Pause()
	told := make(chan error, 1)
	go func() {
		_, err := c.Attach(t.Context(), AttachRequest{Volume: "pvc-1", Node: "node-1"})
		told <- err
	}()
	for sent := false; !sent; { // into the stalled connection
		through.writer.mu.Lock()
		sent = through.writer.flying > 0 && len(through.writer.waiting) == 0
		through.writer.mu.Unlock()
	}
	attached(t, other, "pvc-1", "node-2")
	proxy.DropConnections()
	proxy.Resume()
	err := <-told
	mustBe(t, err, ErrUnknownOutcome)
	mustBe(t, err, ErrConflict)
}

// Two detaches in one millisecond are two: only one that was sent before takes
// the record that it finds for its own.
func TestLate_SameMillisecond(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	attached(t, c, "pvc-1", "node-1")
	at := now()
	for i, want := range []bool{true, false} {
		op := &detach{c: c, req: DetachRequest{Volume: "pvc-1", Node: "node-1", Grace: time.Minute, Reason: "detached"}, at: at}
		mustBe(t, sendLate(t, c, c.guard(false), op, l.seen.Load()), nil)
		if op.ended.Existed != want {
			t.Errorf("detach %d: existed %v", i+1, op.ended.Existed)
		}
	}
}

// A watch ends when a restore was noticed, and says why.
func TestLate_WatchAfterARestore(t *testing.T) {
	l := openLedger(t)
	ended := make(chan error, 1)
	synced := make(chan struct{})
	go func() {
		ended <- l.Watch(t.Context(), ScopeAll(), func(b Batch) error {
			if b.Synced {
				close(synced)
			}
			return nil
		})
	}()
	<-synced
	l.seen.Add(1 << 40) // etcd is back at an older revision than this process has seen
	mustBe(t, <-ended, ErrRestored)
}

// A quarantine that was put so late that it was over before anybody could mend
// it is no quarantine: the departure is put anew, with a whole one.
func TestLate_QuarantineOverBeforeItsAnswer(t *testing.T) {
	const quarantine = floorGrace
	etcd := statetest.StartProcess(t, statetest.Binary(t, "etcd"))
	proxy := etcd.Proxy(t)
	l := openAt(t, etcd.Endpoints(), statetest.Prefix(t))
	through := openAt(t, proxy.Endpoints(), l.cfg.Prefix, func(c *Config) { c.RequestTimeout = time.Minute })
	ld := lead(t, asCluster(t, through, "a"))
	s, err := through.waits.take(t.Context(), quarantine, 0)
	mustBe(t, err, nil)
	etcd.Freeze()
	type answer struct {
		d   Departure
		err error
	}
	told := make(chan answer, 1)
	go func() {
		d, err := ld.Depart(t.Context(), Departure{Node: "node-1", Reason: NodeGone}, quarantine)
		told <- answer{d, err}
	}()
	for time.Now().Before(s.whole) { // until the lease is over, and etcd can't say so
		time.Sleep(50 * time.Millisecond)
	}
	proxy.PauseResponses()
	etcd.Thaw()
	k := l.keys.quarantine("a", "node-1")
	awaitKey(t, l, l.keys.departure("a", "node-1"))
	for keyThere(t, l, k) {
		time.Sleep(10 * time.Millisecond)
	}
	proxy.Resume()
	got := <-told
	mustBe(t, got.err, nil)
	if !keyThere(t, l, k) {
		t.Errorf("the departure is reported, put at %d, and its quarantine is over", got.d.ModRevision)
	}
}

func keyThere(t *testing.T, l *Ledger, k string) bool {
	t.Helper()
	resp, err := l.client.Get(t.Context(), k, clientv3.WithCountOnly())
	mustBe(t, err, nil)
	return resp.Count > 0
}
