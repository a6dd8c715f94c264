package state

import (
	"fmt"
	"testing"
)

func lapsedHolds(t testing.TB, l *Ledger, cluster string) []Hold {
	t.Helper()
	var out []Hold
	for h, err := range l.Holds(t.Context(), HoldFilter{Cluster: cluster}) {
		if err != nil {
			t.Fatal(err)
		}
		if h.Lapsed {
			out = append(out, h)
		}
	}
	return out
}

func TestEvict(t *testing.T) {
	l := openLedger(t)
	a := asCluster(t, l, "a")
	for i := range 5 {
		attached(t, a, fmt.Sprintf("pvc-%d", i), "node-1")
		attached(t, asCluster(t, l, "a"), fmt.Sprintf("kept-%d", i), "node-2") // a lease of its own
	}
	lapse(t, l, "pvc-0", Place{"a", "node-1"}) // they share a lease
	lapsed := lapsedHolds(t, l, "a")
	if len(lapsed) != 5 {
		t.Fatalf("%d holds have lapsed, want 5", len(lapsed))
	}
	// The cluster comes back in the middle and keeps what is left.
	mustBe(t, a.Rearm(t.Context(), lapsed[2]), nil)
	got, err := l.Evict(t.Context(), "a", lapsed, "op", "burnt down")
	mustBe(t, err, nil)
	for i, r := range got {
		if want := i != 2; r.Ended != want {
			t.Errorf("%s: %+v", r.Volume, r)
		}
	}
	if got[2].Refused != RefusedStanding {
		t.Errorf("the re-armed hold was refused for %q", got[2].Refused)
	}
	mustHold(t, l, "pvc-2", StateAttached, Place{"a", "node-1"})
	mustHold(t, l, "pvc-1", StateGrace)
	e := journal(t, l, "a")
	if len(e) != 4 || e[0].Action != ActionEvicted || e[0].By != "op" || e[0].Why != "burnt down" {
		t.Errorf("journal: %+v", e)
	}
	// Holds that were made anew since are not the ones that were read.
	again, err := l.Evict(t.Context(), "a", lapsed[:1], "op", "once more")
	if err != nil || again[0].Ended || again[0].Refused != RefusedHold {
		t.Errorf("evicted again: %+v, %v", again, err)
	}
	if _, err := a.ClearVolume(t.Context(), "pvc-0"); err != nil {
		t.Fatal(err)
	}
	attached(t, a, "pvc-0", "node-1")
	lapse(t, l, "pvc-0", Place{"a", "node-1"})
	again, err = l.Evict(t.Context(), "a", lapsed[:1], "op", "once more")
	if err != nil || again[0].Ended || again[0].Refused != RefusedHold {
		t.Errorf("evicted by an older hold: %+v, %v", again, err)
	}
	_, err = l.Evict(t.Context(), "b", lapsed, "op", "wrong cluster")
	mustBe(t, err, ErrInvalid)
	mustBe(t, l.Freeze(t.Context(), "op", "stop"), nil)
	_, err = l.Evict(t.Context(), "a", lapsed, "op", "frozen")
	mustBe(t, err, ErrFrozen)
}

func TestEvict_AnswerLost(t *testing.T) {
	proxy, through, l := proxied(t)
	c := asCluster(t, through, "a")
	attached(t, c, "pvc-1", "node-1")
	lapse(t, l, "pvc-1", Place{"a", "node-1"})
	lapsed := lapsedHolds(t, through, "a")
	if _, err := through.waits.take(t.Context(), DefaultGracePeriod, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := through.retain(t.Context()); err != nil {
		t.Fatal(err)
	}
	proxy.LoseNextResponse("Txn")
	got, err := through.Evict(t.Context(), "a", lapsed, "op", "why")
	mustBe(t, err, nil)
	if proxy.Lost() != 1 || !got[0].Ended {
		t.Errorf("lost %d answers, %+v", proxy.Lost(), got)
	}
	if e := journal(t, l, "a"); len(e) != 1 {
		t.Errorf("journal: %+v", e)
	}
}
