package state

import (
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-storage/holdfast/state/statetest"
)

// What arrives late, or again, touches nothing that came after it was sent.

func TestResend_AttachAfterDetach(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	for _, m := range []Mode{Exclusive, Shared} {
		op := &attach{c: c, req: AttachRequest{Volume: "pvc-1", Node: "node-1", Mode: m}, since: now()}
		r := l.seen.Load()
		mustBe(t, sendLate(t, c, c.guard(true), op, r), nil)
		detached(t, c, "pvc-1", "node-1")
		mustBe(t, sendLate(t, c, c.guard(true), op, r), errPast)
		mustHold(t, l, "pvc-1", StateGrace)
	}
}

func TestResend_DetachAfterAttach(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	attached(t, c, "pvc-1", "node-1")
	op := &detach{c: c, req: DetachRequest{Volume: "pvc-1", Node: "node-1", Grace: time.Minute, Reason: "detached"}, at: now()}
	r := l.seen.Load()
	mustBe(t, sendLate(t, c, c.guard(false), op, r), nil)
	h := attached(t, c, "pvc-1", "node-1")
	mustBe(t, sendLate(t, c, c.guard(false), op, r), errPast)
	if v := read(t, l, "pvc-1"); len(v.Holds) != 1 || v.Holds[0].Token != h.Token {
		t.Errorf("after the late detach: %+v, want token %s", v.Holds, h.Token)
	}
}

func TestResend_MigrateAfterAbort(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	h := attached(t, c, "pvc-1", "node-1")
	req := MigrateRequest{Volume: "pvc-1", Source: "node-1", SourceToken: h.Token, Target: Place{Node: "node-2"}}
	mustBe(t, req.check(c), nil)
	op := &migrate{c: c, target: c, req: req, id: newID(), since: now()}
	r := l.seen.Load()
	mustBe(t, sendLate(t, c, c.guard(true), op, r), nil)
	mustBe(t, c.Abort(t.Context(), op.migration), nil)
	mustBe(t, sendLate(t, c, c.guard(true), op, r), errPast)
	mustHold(t, l, "pvc-1", StateAttached, Place{"a", "node-1"})
}

func TestResend_AttachAfterRemoval(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	op := &attach{c: c, req: AttachRequest{Volume: "pvc-1", Node: "node-1", Mode: Exclusive}, since: now()}
	r := l.seen.Load()
	mustBe(t, sendLate(t, c, c.guard(true), op, r), nil)
	ld := lead(t, c)
	if got := remove(t, ld, orphan(t, l, "pvc-1", departed(t, ld, "node-1"))); !got.Ended {
		t.Fatalf("not removed: %+v", got)
	}
	mustBe(t, sendLate(t, c, c.guard(true), op, r), errPast)
	mustHold(t, l, "pvc-1", StateGrace)
}

// proxied opens a ledger through a proxy that can lose answers, and the same
// ledger past it.
func proxied(t *testing.T, edit ...func(*Config)) (proxy *statetest.Proxy, through, direct *Ledger) {
	t.Helper()
	proxy = statetest.Shared(t).Proxy(t)
	direct = openLedger(t)
	through = openAt(t, proxy.Endpoints(), direct.cfg.Prefix, edit...)
	return proxy, through, direct
}

// The answer of an attach is lost: the call finds out by itself.
func TestUnknownOutcome_AttachIsSentAgain(t *testing.T) {
	proxy, through, l := proxied(t)
	c := asCluster(t, through, "a")
	attached(t, c, "warm", "node-1") // the lease and the connection are there
	proxy.LoseNextResponse("Txn")
	h := attached(t, c, "pvc-1", "node-1")
	if proxy.Lost() != 1 {
		t.Fatal("no answer was lost")
	}
	if v := read(t, l, "pvc-1"); len(v.Holds) != 1 || v.Holds[0].Token != h.Token || v.State != StateAttached {
		t.Errorf("the attach said %+v, and the volume is %+v", h, v)
	}
}

func TestUnknownOutcome_DetachIsSentAgain(t *testing.T) {
	proxy, through, l := proxied(t)
	c := asCluster(t, through, "a")
	attached(t, c, "pvc-0", "node-1")
	h := attached(t, c, "pvc-1", "node-1")
	detached(t, c, "pvc-0", "node-1")
	proxy.LoseNextResponse("Txn")
	begun := time.Now()
	e, err := c.Detach(t.Context(), DetachRequest{Volume: "pvc-1", Node: "node-1", Token: h.Token})
	mustBe(t, err, nil)
	if proxy.Lost() != 1 {
		t.Fatal("no answer was lost")
	}
	d := read(t, l, "pvc-1").Detachments
	if !e.Existed || len(d) != 1 || d[0].Token != h.Token {
		t.Fatalf("detached: %+v, on record %+v", e, d)
	}
	left, err := l.TimeLeft(t.Context(), d[0].Lease)
	if err != nil || left < DefaultGracePeriod-time.Since(begun) {
		t.Errorf("the grace has %s left after %s, %v", left, time.Since(begun), err)
	}
}

func TestUnknownOutcome_MigrateAndCommitAreSentAgain(t *testing.T) {
	proxy, through, l := proxied(t)
	c := asCluster(t, through, "a")
	h := attached(t, c, "pvc-1", "node-1")
	if _, err := through.waits.take(t.Context(), DefaultMigrationWindow, 0); err != nil {
		t.Fatal(err)
	}
	proxy.LoseNextResponse("Txn")
	m, err := c.Migrate(t.Context(), MigrateRequest{Volume: "pvc-1", Source: "node-1", SourceToken: h.Token, Target: Place{Node: "node-2"}})
	mustBe(t, err, nil)
	mustHold(t, l, "pvc-1", StateMigrating, Place{"a", "node-1"}, Place{"a", "node-2"})
	proxy.LoseNextResponse("Txn")
	mustBe(t, c.Commit(t.Context(), m), nil)
	mustHold(t, l, "pvc-1", StateAttached, Place{"a", "node-2"})
	if proxy.Lost() != 2 {
		t.Fatalf("%d answers were lost, want 2", proxy.Lost())
	}
}

// The first send is lost, and what it did is undone before the next one: the
// caller is told that the outcome is unknown, and nothing comes back.
func TestUnknownOutcome_OvertakenByAnEnd(t *testing.T) {
	proxy, through, l := proxied(t)
	c, other := asCluster(t, through, "a"), asCluster(t, l, "a")
	attached(t, c, "warm", "node-1")
	proxy.PauseResponses()
	told := make(chan error, 1)
	go func() {
		_, err := c.Attach(t.Context(), AttachRequest{Volume: "pvc-1", Node: "node-1"})
		told <- err
	}()
	awaitKey(t, l, l.keys.hold("pvc-1", Exclusive, "a", "node-1"))
	detached(t, other, "pvc-1", "node-1")
	proxy.DropConnections()
	proxy.Resume()
	mustBe(t, <-told, ErrUnknownOutcome)
	mustHold(t, l, "pvc-1", StateGrace)
}

// awaitKey waits until a key is there.
func awaitKey(t testing.TB, l *Ledger, k string) {
	t.Helper()
	resp, err := l.client.Get(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.Kvs) > 0 {
		return
	}
	for r := range l.client.Watch(t.Context(), k, clientv3.WithRev(resp.Header.Revision+1)) {
		for _, e := range r.Events {
			if e.Type == clientv3.EventTypePut {
				return
			}
		}
	}
}

// Nobody answers: the error comes within half a grace and says what it means.
func TestUnknownOutcome_EndsInTime(t *testing.T) {
	proxy, through, _ := proxied(t, func(c *Config) { c.GracePeriod, c.RequestTimeout = floorGrace, 300*time.Millisecond })
	c := asCluster(t, through, "a")
	attached(t, c, "warm", "node-1")
	proxy.PauseResponses()
	begun := time.Now()
	_, err := c.Attach(t.Context(), AttachRequest{Volume: "pvc-1", Node: "node-1"})
	mustBe(t, err, ErrUnknownOutcome)
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("it took %s to say so", took)
	}
	proxy.Resume()
}
