package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/state"
)

// Two Kubernetes clusters on one ledger: who may have a volume, when.
func TestClusters_Share(t *testing.T) {
	w := newWorld(t)
	a := w.cluster("alpha", "a-1", "a-2")
	b := w.cluster("beta", "b-1", "b-2")
	a.leads(a.controller())
	b.leads(b.controller())
	grace := []string{"--grace-period", "6s"}

	t.Log("the same volume from both, at once")
	type answer struct {
		cluster *cluster
		err     error
	}
	answers := make(chan answer, 2)
	for _, c := range []*cluster{a, b} {
		as, node := c.asCluster(), c.name[:1]+"-1"
		go func() {
			_, err := as.Attach(context.Background(), state.AttachRequest{Volume: "vol-1", Node: node})
			answers <- answer{c, err}
		}()
	}
	first, second := <-answers, <-answers
	if first.err != nil {
		first, second = second, first
	}
	conflict, refused := errors.AsType[*state.ConflictError](second.err)
	if first.err != nil || !refused {
		t.Fatalf("%s: %v, %s: %v; expected one success and one conflict", first.cluster.name, first.err, second.cluster.name, second.err)
	}
	if h := conflict.Holders; len(h) != 1 || h[0].Cluster != first.cluster.name {
		t.Errorf("the conflict names %+v, expected %s", h, first.cluster.name)
	}
	w.fails(3, []string{"cluster " + first.cluster.name}, "attach", "vol-1", second.cluster.name[:1]+"-2", "--cluster", second.cluster.name)

	t.Log("detached by the one, attached by the other: after the grace, not before")
	w.does(append([]string{"detach", "vol-1", first.cluster.name[:1] + "-1", "--cluster", first.cluster.name}, grace...)...)
	detached := time.Now()
	node := second.cluster.name[:1] + "-1"
	w.fails(3, []string{"grace", first.cluster.name}, "attach", "vol-1", node, "--cluster", second.cluster.name)
	eventually(t, "the other may attach", func() error {
		out, code := w.runs("attach", "vol-1", node, "--cluster", second.cluster.name)
		if code != 0 {
			return errors.New(strings.TrimSpace(out))
		}
		return nil
	})
	if took := time.Since(detached); took < 5*time.Second {
		t.Errorf("attached %v after the detach, within the grace of 6 s", took)
	}
	w.mustBeHeldBy("vol-1", second.cluster.name+"/"+node)
}

// A cluster's controllers are gone: its holds lapse, and stay. An operator gives
// them up; what is left when the cluster comes back in the middle, it keeps.
func TestClusters_Lost(t *testing.T) {
	w := newWorld(t)
	a := w.cluster("alpha", "a-1", "a-2", "a-3")
	b := w.cluster("beta", "b-1")
	session := []string{"--attachment-ttl", "3s"}
	lost := a.controller(session...)
	a.leads(lost)
	b.leads(b.controller())
	const volumes = 6
	volume := func(i int) string { return fmt.Sprintf("vol-%d", i) }
	for i := range volumes {
		w.does(append([]string{"attach", volume(i), fmt.Sprintf("a-%d", 1+i%3), "--cluster", "alpha"}, session...)...)
	}
	// The keeper takes over what the commands, which have ended, attached.
	throughout(t, 5*time.Second, "with a controller", func() error {
		if n := len(w.keys("attachments/alpha/")); n != volumes {
			return fmt.Errorf("%d attachments, expected %d", n, volumes)
		}
		return nil
	})

	lost.kill()
	eventually(t, "all attachments of alpha lapse", w.hasNot("attachments/alpha/"))
	for i := range volumes {
		if v := w.volume(volume(i)); v.State != state.StateLapsed {
			t.Fatalf("%s is %s, expected lapsed", v.Name, v.State)
		}
	}
	w.fails(3, []string{"lapsed", "alpha", "holdfast evict alpha"}, "attach", volume(0), "b-1", "--cluster", "beta")
	out := w.does("list", "--state", "lapsed")
	if got := strings.Count(out, "alpha"); got < volumes {
		t.Errorf("list --state lapsed tells of %d, expected %d:\n%s", got, volumes, out)
	}

	t.Log("evicted: two of them, and then alpha is back in the middle of the rest")
	for i := range 2 {
		w.does("evict", "alpha", "--volume", volume(i), "--reason", "alpha burned down", "--yes")
		w.mustBeHeldBy(volume(i))
	}
	if n := len(w.journal("alpha", state.ActionEvicted)); n != 2 {
		t.Errorf("%d evictions in the journal, expected 2", n)
	}
	var rest []state.Hold
	for h, err := range w.ledger.Holds(t.Context(), state.HoldFilter{Cluster: "alpha"}) {
		if err != nil {
			t.Fatal(err)
		}
		rest = append(rest, h)
	}
	back := a.controller(session...)
	eventually(t, "alpha stands by what is left", func() error {
		if n := len(w.keys("attachments/alpha/")); n != volumes-2 {
			return fmt.Errorf("%d attachments", n)
		}
		return nil
	})
	// The operator's list is of before: each of its holds is refused.
	results, err := w.ledger.Evict(t.Context(), "alpha", rest, "e2e", "from a list of before")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.Ended || r.Refused != state.RefusedStanding {
			t.Errorf("%s: ended %v, refused %q; expected %s", r.Volume, r.Ended, r.Refused, state.RefusedStanding)
		}
	}
	for i := 2; i < volumes; i++ {
		w.mustBeHeldBy(volume(i), fmt.Sprintf("alpha/a-%d", 1+i%3))
	}
	w.does("attach", volume(0), "b-1", "--cluster", "beta", "--ignore-grace", "--reason", "alpha burned down")
	if err := back.ready(); err != nil {
		t.Error(err)
	}
}
