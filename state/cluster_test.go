package state

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// Two clusters started under one name: the second is refused, and told why.
func TestCluster_OneNameTwoClusters(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	attached(t, c, "pvc-1", "node-1")
	_, err := again(t, l).Cluster(t.Context(), Identity{Name: "a", UID: "another"})
	mustBe(t, err, ErrClusterMismatch)
	for _, want := range []string{`"a"`, "uid-of-a", "another", "rebind"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the refusal does not say %s: %v", want, err)
		}
	}
	var e *MismatchError
	if !errors.As(err, &e) || e.Recorded != "uid-of-a" {
		t.Errorf("the refusal is %+v", err)
	}
}

func TestCluster_AsRecorded(t *testing.T) {
	l := openLedger(t)
	_, err := l.Cluster(t.Context(), Identity{Name: "a"})
	mustBe(t, err, ErrNotFound)
	asCluster(t, l, "a")
	c, err := l.Cluster(t.Context(), Identity{Name: "a"})
	if err != nil || c.UID() != "uid-of-a" {
		t.Errorf("as recorded: %v, %v", c, err)
	}
	_, err = l.Cluster(t.Context(), Identity{Name: "Not a label", UID: "u"})
	mustBe(t, err, ErrInvalid)
}

// After a rebind the old controllers can write nothing and keep nothing alive.
func TestRebind(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	h := attached(t, c, "pvc-1", "node-1")
	attached(t, c, "pvc-2", "node-1")
	d := detached(t, c, "pvc-2", "node-1")
	id := read(t, l, "pvc-1").Attachments[0].Lease
	mustBe(t, again(t, l).Rebind(t.Context(), "a", "new", "op", "built anew"), nil)

	attach := func() error {
		_, err := c.Attach(t.Context(), AttachRequest{Volume: "pvc-9", Node: "node-1"})
		return err
	}
	detach := func() error {
		_, err := c.Detach(t.Context(), DetachRequest{Volume: "pvc-1", Node: "node-1"})
		return err
	}
	for name, call := range map[string]func() error{
		"detach": detach,
		"attach": attach,
		"clear":  func() error { return c.Clear(t.Context(), d) },
		"gather": func() error { _, err := c.Gather(t.Context(), read(t, l, "pvc-1").Attachments); return err },
		"return": func() error { return c.Return(t.Context(), Departure{Node: "node-1", ModRevision: 1}) },
		"lead":   func() error { _, err := c.Campaign(t.Context(), "old"); return err },
	} {
		if err := call(); !errors.Is(err, ErrClusterMismatch) {
			t.Errorf("%s after a rebind: %v", name, err)
		}
	}
	mustHold(t, l, "pvc-1", StateAttached, Place{"a", "node-1"})
	mustBe(t, c.CheckIdentity(t.Context()), ErrClusterMismatch)
	_, err := c.KeepAlive(t.Context(), id)
	mustBe(t, err, ErrClusterMismatch)
	lapse(t, l, "pvc-1", Place{"a", "node-1"})
	mustBe(t, c.Rearm(t.Context(), h), ErrClusterMismatch)
	mustHold(t, l, "pvc-1", StateLapsed, Place{"a", "node-1"})

	anew, err := l.Cluster(t.Context(), Identity{Name: "a", UID: "new"})
	mustBe(t, err, nil)
	mustBe(t, anew.Rearm(t.Context(), h), nil)
	e := journal(t, l, "a")
	if len(e) != 1 || e[0].Action != ActionRebound || e[0].Reason != "uid-of-a to new" {
		t.Errorf("journal: %+v", e)
	}
	mustBe(t, l.Rebind(t.Context(), "unknown", "u", "op", "why"), ErrNotFound)
	mustBe(t, l.Rebind(t.Context(), "a", "", "op", "why"), ErrInvalid)
}

// The very first request after a rebind is refused by etcd, not by what this
// process happens to know.
func TestRebind_FirstRequestIsRefused(t *testing.T) {
	for name, call := range map[string]func(*testing.T, *Cluster, Hold) error{
		"detach": func(t *testing.T, c *Cluster, h Hold) error {
			_, err := c.Detach(t.Context(), DetachRequest{Volume: h.Volume, Node: h.Node})
			return err
		},
		"re-arm": func(t *testing.T, c *Cluster, h Hold) error { return c.Rearm(t.Context(), h) },
		"check before keep-alive": func(t *testing.T, c *Cluster, h Hold) error {
			return c.CheckIdentity(t.Context())
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := openLedger(t)
			c := asCluster(t, again(t, l), "a")
			h := attached(t, c, "pvc-1", "node-1")
			if name == "re-arm" {
				lapse(t, l, "pvc-1", Place{"a", "node-1"})
			}
			mustBe(t, l.Rebind(t.Context(), "a", "new", "op", "built anew"), nil)
			mustBe(t, call(t, c, h), ErrClusterMismatch)
			if v := read(t, l, "pvc-1"); len(v.Holds) != 1 {
				t.Error("the old controllers ended a hold")
			}
		})
	}
}

func TestPauseAndResume(t *testing.T) {
	l := openLedger(t)
	mustBe(t, l.Resume(t.Context(), "a", "op"), ErrNotFound)
	mustBe(t, l.Pause(t.Context(), "a", "op", "maintenance", 0), nil)
	p, err := l.PauseOf(t.Context(), "a")
	if err != nil || p == nil || p.Why != "maintenance" || !p.Until.IsZero() || p.Lease != 0 {
		t.Fatalf("paused: %+v, %v", p, err)
	}
	mustBe(t, l.Resume(t.Context(), "a", "op"), nil)
	if p, err = l.PauseOf(t.Context(), "a"); err != nil || p != nil {
		t.Errorf("resumed: %+v, %v", p, err)
	}
	begun := time.Now()
	mustBe(t, l.Pause(t.Context(), "a", "op", "short", floorGrace), nil)
	gone(t, l, l.keys.pause("a"))
	if took := time.Since(begun); took < floorGrace {
		t.Errorf("a pause of %s ended after %s", floorGrace, took)
	}
	var actions []Action
	for _, e := range journal(t, l, "a") {
		actions = append(actions, e.Action)
	}
	if len(actions) != 3 || actions[0] != ActionPaused || actions[1] != ActionResumed || actions[2] != ActionPaused {
		t.Errorf("journal: %v", actions)
	}
}

func TestReleaseBrake(t *testing.T) {
	l := openLedger(t)
	e, err := l.ReleaseBrake(t.Context(), "a", "op", "on purpose")
	mustBe(t, err, nil)
	got := journal(t, l, "a")
	if len(got) != 1 || got[0].ID != e.ID || got[0].ModRevision != e.ModRevision || got[0].Action != ActionBrakeReleased {
		t.Errorf("journal %+v, want %+v", got, e)
	}
}

func TestFreeze_KeepsWhatItDoesNotKnow(t *testing.T) {
	l := openLedger(t)
	rec, err := l.Record(t.Context())
	mustBe(t, err, nil)
	value := strings.Replace(string(rec.raw), "{", `{"later":{"x":1},`, 1)
	if _, err := l.client.Put(t.Context(), l.keys.ledger(), value); err != nil {
		t.Fatal(err)
	}
	mustBe(t, l.Freeze(t.Context(), "op", "why"), nil)
	mustBe(t, l.Freeze(t.Context(), "op2", "why"), ErrConflict)
	mustBe(t, l.Unfreeze(t.Context(), "op", false), nil)
	rec, err = l.Record(t.Context())
	mustBe(t, err, nil)
	if !strings.Contains(string(rec.raw), `"later":{"x":1}`) || rec.Frozen != nil || rec.UUID == "" {
		t.Errorf("rewritten as %s", rec.raw)
	}
}

// A UID stands for one name: a rebind with the wrong cluster's kubeconfig is a slip.
func TestRebind_UIDOfAnother(t *testing.T) {
	l := openLedger(t)
	asCluster(t, l, "a")
	b := asCluster(t, l, "b")
	mustBe(t, l.Rebind(t.Context(), "a", b.UID(), "test", "a slip"), ErrInvalid)
	if c, err := l.Cluster(t.Context(), Identity{Name: "a"}); err != nil || c.UID() == b.UID() {
		t.Errorf("cluster a has the UID %v, %v; expected its own", c, err)
	}
	if err := l.Rebind(t.Context(), "a", "another", "test", "built anew"); err != nil {
		t.Error(err)
	}
}
