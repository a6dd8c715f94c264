package state

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"
)

func TestAttach(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	h := attached(t, c, "pvc-1", "node-1")
	mustHold(t, l, "pvc-1", StateAttached, Place{"a", "node-1"})
	v := read(t, l, "pvc-1")
	if got := v.Holds[0]; got.Token != h.Token || got.By != "test" || got.Mode != Exclusive || got.Lapsed {
		t.Errorf("the hold reads %+v, and the attach said %+v", got, h)
	}
	if at := v.Attachments[0]; at.Token != h.Token || at.Lease == 0 || at.CreateRevision != h.Revision {
		t.Errorf("the attachment reads %+v, and the hold has token %s", at, h.Token)
	}
}

func TestAttach_Conflict(t *testing.T) {
	l := openLedger(t)
	a, b := asCluster(t, l, "a"), asCluster(t, l, "b")
	h := attached(t, a, "pvc-1", "node-1")
	for name, attach := range map[string]func() (Hold, error){
		"another node":    func() (Hold, error) { return a.Attach(t.Context(), AttachRequest{Volume: "pvc-1", Node: "node-2"}) },
		"another cluster": func() (Hold, error) { return b.Attach(t.Context(), AttachRequest{Volume: "pvc-1", Node: "node-1"}) },
		"shared": func() (Hold, error) {
			return a.Attach(t.Context(), AttachRequest{Volume: "pvc-1", Node: "node-2", Mode: Shared})
		},
		"same node, shared": func() (Hold, error) {
			return a.Attach(t.Context(), AttachRequest{Volume: "pvc-1", Node: "node-1", Mode: Shared})
		},
	} {
		_, err := attach()
		mustBe(t, err, ErrConflict)
		var e *ConflictError
		if !errors.As(err, &e) || len(e.Holders) != 1 || e.Holders[0].Token != h.Token || e.Volume != "pvc-1" || errors.Is(err, ErrLapsed) {
			t.Errorf("%s: the conflict says %v", name, err)
		}
	}
	lapse(t, l, "pvc-1", Place{"a", "node-1"})
	_, err := b.Attach(t.Context(), AttachRequest{Volume: "pvc-1", Node: "node-1"})
	mustBe(t, err, ErrConflict)
	mustBe(t, err, ErrLapsed)
	mustHold(t, l, "pvc-1", StateLapsed, Place{"a", "node-1"})
}

func TestAttach_Idempotent(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	first := attached(t, c, "pvc-1", "node-1")
	before := read(t, l, "pvc-1").Attachments[0]
	second := attached(t, c, "pvc-1", "node-1")
	if second.Token != first.Token || !second.Since.Equal(first.Since) {
		t.Errorf("attached again: %+v, want %+v", second, first)
	}
	if after := read(t, l, "pvc-1").Attachments[0]; after.ModRevision <= before.ModRevision || after.Token != first.Token {
		t.Errorf("attached again: the attachment is %+v and was %+v", after, before)
	}
}

func TestAttach_OwnLapsedHold(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	first := attached(t, c, "pvc-1", "node-1")
	lapse(t, l, "pvc-1", Place{"a", "node-1"})
	second := attached(t, c, "pvc-1", "node-1")
	v := read(t, l, "pvc-1")
	if second.Token != first.Token || v.State != StateAttached || v.Attachments[0].Token != first.Token {
		t.Errorf("attached a lapsed hold again: %+v, the volume %+v, want token %s", second, v, first.Token)
	}
}

func TestAttach_Shared(t *testing.T) {
	l := openLedger(t)
	a, b := asCluster(t, l, "a"), asCluster(t, l, "b")
	for _, c := range []*Cluster{a, b} {
		if _, err := c.Attach(t.Context(), AttachRequest{Volume: "pvc-1", Node: "node-1", Mode: Shared}); err != nil {
			t.Fatal(err)
		}
	}
	mustHold(t, l, "pvc-1", StateAttached, Place{"a", "node-1"}, Place{"b", "node-1"})
	_, err := a.Attach(t.Context(), AttachRequest{Volume: "pvc-1", Node: "node-2"})
	mustBe(t, err, ErrConflict)
	detached(t, a, "pvc-1", "node-1")
	mustHold(t, l, "pvc-1", StateAttached, Place{"b", "node-1"})
}

// A shared hold's own attach again is answered with the hold as it is, and never
// writes it anew: another token would be nobody's.
func TestAttach_SharedAgain(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	req := AttachRequest{Volume: "pvc-1", Node: "node-1", NodeUID: "uid", Mode: Shared}
	first, err := c.Attach(t.Context(), req)
	mustBe(t, err, nil)
	strict := again(t, l, func(c *Config) { c.MatchNodeUID = true })
	mustAnswer := func(what string) {
		t.Helper()
		h, err := c.Attach(t.Context(), req)
		mustBe(t, err, nil)
		v := read(t, l, "pvc-1")
		if h.Token != first.Token || v.Holds[0].Since != first.Since || len(v.Attachments) != 1 || v.Attachments[0].Token != first.Token {
			t.Errorf("%s: answered %+v, and the volume is %+v; want the hold of token %s", what, h, v, first.Token)
		}
	}
	mustAnswer("attached again")
	lapse(t, l, "pvc-1", Place{"a", "node-1"})
	mustAnswer("attached again, lapsed")
	req.NodeUID = "another"
	mustAnswer("attached again under another UID")
	_, err = asCluster(t, strict, "a").Attach(t.Context(), req)
	mustBe(t, err, ErrConflict)
	_, err = c.Detach(t.Context(), DetachRequest{Volume: "pvc-1", Node: "node-1", Token: first.Token})
	mustBe(t, err, nil)
}

func TestAttach_NodeUID(t *testing.T) {
	l := openLedger(t)
	strict := asCluster(t, again(t, l, func(c *Config) { c.MatchNodeUID = true }), "a")
	loose := asCluster(t, l, "a")
	req := AttachRequest{Volume: "pvc-1", Node: "node-1", NodeUID: "old"}
	h, err := strict.Attach(t.Context(), req)
	mustBe(t, err, nil)
	same, err := strict.Attach(t.Context(), req)
	mustBe(t, err, nil)
	if same.Token != h.Token {
		t.Errorf("attached again under the same UID: token %s, want %s", same.Token, h.Token)
	}
	req.NodeUID = "new"
	before := read(t, l, "pvc-1").Attachments[0].ModRevision
	_, err = strict.Attach(t.Context(), req)
	mustBe(t, err, ErrConflict)
	if after := read(t, l, "pvc-1").Attachments[0].ModRevision; after != before {
		t.Error("a refused attach under another UID stood by the old hold")
	}
	if h, err = loose.Attach(t.Context(), req); err != nil || h.NodeUID != "old" {
		t.Errorf("by name alone: %+v, %v", h, err)
	}
}

// Two attaches of one volume, to two nodes, offered to one writer at the same
// moment: one wins, always.
func TestAttach_TwoAtOnce(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	const rounds, workers = 10_000, 64
	round := make(chan int, rounds)
	for i := range rounds {
		round <- i
	}
	close(round)
	var joined sync.WaitGroup
	for range workers {
		joined.Go(func() {
			for i := range round {
				twoAtOnce(t, c, fmt.Sprintf("pvc-%d", i))
			}
		})
	}
	joined.Wait()
	count := 0
	for h, err := range l.Holds(t.Context(), HoldFilter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if h.Lapsed {
			t.Errorf("the hold of %s has no attachment", h.Volume)
		}
		count++
	}
	if count != rounds {
		t.Errorf("%d volumes have %d holds", rounds, count)
	}
}

func twoAtOnce(t *testing.T, c *Cluster, volume string) {
	var errs [2]error
	var both sync.WaitGroup
	for n := range errs {
		both.Go(func() {
			_, errs[n] = c.Attach(t.Context(), AttachRequest{Volume: volume, Node: fmt.Sprintf("node-%d", n)})
		})
	}
	both.Wait()
	won, lost := errs[0], errs[1]
	if won != nil {
		won, lost = lost, won
	}
	if won != nil || !errors.Is(lost, ErrConflict) {
		t.Errorf("%s: %v and %v, want one success and one conflict", volume, errs[0], errs[1])
	}
}

// The last look at a request catches two operations about one volume, which
// etcd would both let pass.
func TestWriter_OneOperationAVolume(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	var batch []*call
	for _, n := range []string{"node-1", "node-2"} {
		op := &attach{c: c, req: AttachRequest{Volume: "pvc-1", Node: n, Mode: Exclusive}, since: now()}
		batch = append(batch, &call{about: "pvc-1", op: op, guard: c.guard(true), attempt: attempt{r: l.seen.Load()}, done: make(chan struct{})})
	}
	_, err := l.writer.commit(t.Context(), batch)
	mustBe(t, err, ErrInvalid)
	mustHold(t, l, "pvc-1", StateFree)

	// And what gathers calls never puts two into one request.
	for _, c := range batch {
		l.writer.mu.Lock()
		l.writer.waiting = append(l.writer.waiting, c)
		l.writer.flying = mostUnderWay
		l.writer.mu.Unlock()
	}
	if got := l.writer.next(); len(got) != 1 {
		t.Errorf("the first request has %d operations about one volume", len(got))
	}
	l.writer.next()
	l.writer.next()
}

// One member of a request that spoils it (here: a lease that is gone) does not
// spoil it for the others.
func TestWriter_MembersGoSingly(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	attached(t, c, "pvc-0", "node-1")
	lapse(t, l, "pvc-0", Place{"a", "node-1"}) // the pool's lease is gone now
	var joined sync.WaitGroup
	for i := range 200 {
		joined.Go(func() { attached(t, c, fmt.Sprintf("pvc-%d", i), "node-1") })
	}
	joined.Wait()
	for i := range 200 {
		mustHold(t, l, fmt.Sprintf("pvc-%d", i), StateAttached, Place{"a", "node-1"})
	}
}

func TestToken_Grows(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	var last Token
	for range 5 {
		h := attached(t, c, "pvc-1", "node-1")
		if h.Token <= last {
			t.Fatalf("token %s after %s", h.Token, last)
		}
		last = h.Token
		detached(t, c, "pvc-1", "node-1")
	}
	mustBe(t, l.Freeze(t.Context(), "op", "restored"), nil)
	mustBe(t, l.Unfreeze(t.Context(), "op", true), nil)
	h := attached(t, c, "pvc-1", "node-1")
	if h.Token.Epoch() != 1 || h.Token <= last {
		t.Errorf("token %s of epoch %d, after %s", h.Token, h.Token.Epoch(), last)
	}
	if got := read(t, l, "pvc-1").Holds[0].Token; got != h.Token {
		t.Errorf("the record has token %s, the attach said %s", got, h.Token)
	}
	if NewToken(3, 17).Revision() != 17 || NewToken(3, 17).Epoch() != 3 {
		t.Error("a token does not give back what it was made of")
	}
}

func TestAttach_CancelledBeforeItIsSent(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	call := &call{
		about: "pvc-1",
		op:    &attach{c: c, req: AttachRequest{Volume: "pvc-1", Node: "node-1", Mode: Exclusive}, since: time.Now()},
		guard: c.guard(true), done: make(chan struct{}),
	}
	call.taken.Store(true)
	l.writer.mu.Lock()
	l.writer.waiting = append(l.writer.waiting, call)
	l.writer.flying++
	l.writer.mu.Unlock()
	if got := l.writer.next(); got != nil {
		t.Errorf("a call that was taken back is sent: %v", got)
	}
}
