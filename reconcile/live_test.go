package reconcile

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/watch"
)

type liveFunc func(context.Context) (watch.Node, error)

func (f liveFunc) Live(ctx context.Context, _ string) (watch.Node, error) { return f(ctx) }

func TestProofConfirms(t *testing.T) {
	found := func(n watch.Node) proof { return proof{found: true, node: n} }
	for name, c := range map[string]struct {
		proof    proof
		reason   state.DepartureReason
		matchUID bool
		want     bool
	}{
		"gone and not found":                {proof{}, state.NodeGone, false, true},
		"gone and there":                    {found(watch.Node{UID: "old"}), state.NodeGone, false, false},
		"gone and there under another UID":  {found(watch.Node{UID: "new"}), state.NodeGone, true, false},
		"replaced and not found":            {proof{}, state.NodeReplaced, true, false},
		"replaced and the same":             {found(watch.Node{UID: "old"}), state.NodeReplaced, true, false},
		"replaced":                          {found(watch.Node{UID: "new"}), state.NodeReplaced, true, true},
		"replaced by one without a UID":     {found(watch.Node{}), state.NodeReplaced, true, false},
		"out of service and not found":      {proof{}, state.OutOfService, false, false},
		"out of service, taint off":         {found(watch.Node{UID: "old"}), state.OutOfService, false, false},
		"out of service":                    {found(watch.Node{UID: "new", OutOfService: true}), state.OutOfService, false, true},
		"out of service, but another's UID": {found(watch.Node{UID: "new", OutOfService: true}), state.OutOfService, true, false},
		"an unknown reason":                 {proof{}, "Tired", false, false},
	} {
		o := Orphan{Reason: c.reason, Attachment: state.Attachment{NodeUID: "old"}}
		if got := c.proof.confirms(o, c.matchUID); got != c.want {
			t.Errorf("%s: confirmed is %v, want %v (%s)", name, got, c.want, c.proof)
		}
	}
}

// A proof counts from before the look-up, which has no longer than that itself.
func TestProve(t *testing.T) {
	before := time.Now()
	var deadline time.Time
	p, err := prove(t.Context(), liveFunc(func(ctx context.Context) (watch.Node, error) {
		deadline, _ = ctx.Deadline()
		if time.Now().Before(before) {
			t.Error("time runs backwards")
		}
		return watch.Node{}, watch.ErrNodeNotFound
	}), "n1", time.Minute)
	if err != nil || p.found || p.began.Before(before) {
		t.Errorf("proof is %+v, error %v", p, err)
	}
	if !deadline.Equal(p.began.Add(time.Minute)) || !p.deadline(time.Minute).Equal(deadline) {
		t.Errorf("the look-up had until %s, want %s", deadline, p.began.Add(time.Minute))
	}
	boom := errors.New("boom")
	if _, err := prove(t.Context(), liveFunc(func(context.Context) (watch.Node, error) { return watch.Node{}, boom }), "n1", time.Minute); !errors.Is(err, boom) {
		t.Errorf("error is %v, want it wrapped", err)
	}
}

func TestDamper(t *testing.T) {
	d, now := newDamper(), time.Now()
	var waits []time.Duration
	for range 12 {
		if wait := d.next("n1", now); wait > 0 {
			waits = append(waits, wait)
			now = now.Add(wait)
			if again := d.next("n1", now); again != 0 {
				t.Errorf("waited %s and has to wait for %s more", wait, again)
			}
		}
	}
	if len(waits) != 11 || waits[0] != damperFirst || waits[1] != 2*damperFirst || waits[10] != damperMost {
		t.Errorf("waits are %v", waits)
	}
	if wait := d.next("n2", now); wait != 0 {
		t.Errorf("another node waits for %s", wait)
	}
	d.forget("n1")
	if wait := d.next("n1", now); wait != 0 {
		t.Errorf("a node that was back waits for %s", wait)
	}
}
