package state

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-storage/holdfast/state/statetest"
)

// restorable is an etcd process that can be restored, with a ledger in it that
// cluster a has open.
type restorable struct {
	etcd *statetest.Process
	util string
}

func newRestorable(t *testing.T) restorable {
	t.Helper()
	util := statetest.Binary(t, "etcdutl")
	return restorable{statetest.StartProcess(t, statetest.Binary(t, "etcd")), util}
}

func (r restorable) open(t *testing.T) *Ledger {
	t.Helper()
	return openAt(t, r.etcd.Endpoints(), "/holdfast/")
}

// freezes are those that stand, by cluster.
func freezes(t *testing.T, l *Ledger) map[string]RestoreFreeze {
	t.Helper()
	out := map[string]RestoreFreeze{}
	for f, err := range l.Freezes(t.Context()) {
		mustBe(t, err, nil)
		mustBe(t, f.Broken, nil)
		out[f.Cluster] = f
	}
	return out
}

// However etcd was restored, a process that remembers it as it was stops itself,
// and the ledger for all others; what an unfreeze accepts has greater tokens.
func TestRestored_NoticedFromMemory(t *testing.T) {
	for name, restore := range map[string]func(*testing.T, restorable, string){
		"an older snapshot": func(t *testing.T, r restorable, from string) { r.etcd.Restore(t, r.util, from) },
		"another token": func(t *testing.T, r restorable, from string) {
			r.etcd.Restore(t, r.util, from, "--initial-cluster-token=other", "--bump-revision=1000000000", "--mark-compacted")
		},
		"an empty etcd": func(t *testing.T, r restorable, _ string) { r.etcd.Empty(t) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRestorable(t)
			l := r.open(t)
			c := asCluster(t, l, "a")
			attached(t, c, "before", "node-1")
			snapshot := r.etcd.Snapshot(t)
			lost := attached(t, c, "lost", "node-1") // a single write, which the next one makes good in number
			restore(t, r, snapshot)

			_, err := c.Attach(t.Context(), AttachRequest{Volume: "more", Node: "node-1"})
			mustBe(t, err, ErrRestored)
			known := l.known()
			mustBe(t, l.Close(), nil)

			other := r.open(t) // which knows nothing
			c = asCluster(t, other, "b")
			_, err = c.Attach(t.Context(), AttachRequest{Volume: "lost", Node: "node-2"})
			mustBe(t, err, ErrRestoreNoticed)
			mustBe(t, err, ErrFrozen)
			_, err = c.Detach(t.Context(), DetachRequest{Volume: "lost", Node: "node-2"})
			mustBe(t, err, nil)
			f, there := freezes(t, other)["a"]
			if !there || f.Known != known || !strings.Contains(f.Why, ErrRestored.Error()) {
				t.Errorf("the freeze of cluster a: %+v; want one about %+v", f, known)
			}
			if entries := journal(t, other, "a"); len(entries) == 0 || entries[len(entries)-1].Action != ActionFrozen {
				t.Errorf("the journal of a does not tell: %+v", entries)
			}
			mustBe(t, other.Unfreeze(t.Context(), "op", false), ErrRestoreNoticed)
			mustBe(t, other.Unfreeze(t.Context(), "op", true), nil)
			if left := freezes(t, other); len(left) != 0 {
				t.Errorf("after an unfreeze: %+v", left)
			}
			if again := attached(t, c, "lost", "node-2"); again.Token <= lost.Token {
				t.Errorf("token %s after a restore, and %s was handed out before", again.Token, lost.Token)
			}
			rec, err := other.Record(t.Context())
			mustBe(t, err, nil)
			if !rec.Accepted(known) {
				t.Errorf("%+v is not accepted in the place of %+v", rec, known)
			}
		})
	}
}

// With a bumped revision and the same token no header tells. The ledger's own
// record does, where it has changed since the snapshot.
func TestRestored_OlderRecord(t *testing.T) {
	r := newRestorable(t)
	l := r.open(t)
	asCluster(t, l, "a")
	snapshot := r.etcd.Snapshot(t)
	mustBe(t, l.Freeze(t.Context(), "op", "maintenance"), nil)
	r.etcd.Restore(t, r.util, snapshot, "--bump-revision=1000000000", "--mark-compacted")
	_, err := l.Record(t.Context())
	mustBe(t, err, ErrRestored)
	mustBe(t, l.Close(), nil)
	if _, there := freezes(t, r.open(t))["a"]; !there {
		t.Error("nobody froze the ledger")
	}
}

// The same snapshot twice: what the first unfreeze raised is not in it, and is
// known to who has seen it.
func TestRestored_Twice(t *testing.T) {
	r := newRestorable(t)
	c := asCluster(t, r.open(t), "a")
	last := attached(t, c, "warm", "node-1").Token
	snapshot := r.etcd.Snapshot(t)
	for i := range 3 {
		attached(t, c, "lost", "node-1")
		r.etcd.Restore(t, r.util, snapshot)
		_, err := c.Attach(t.Context(), AttachRequest{Volume: "more", Node: "node-1"})
		mustBe(t, err, ErrRestored)
		mustBe(t, c.Ledger().Close(), nil)
		l := r.open(t)
		mustBe(t, l.Unfreeze(t.Context(), "op", true), nil)
		c = asCluster(t, l, "a")
		if h := attached(t, c, "again", "node-1"); h.Token <= last {
			t.Fatalf("after restore %d: token %s, and %s was handed out before", i+1, h.Token, last)
		} else {
			last = h.Token
		}
	}
}

// Who slept through restore and unfreeze stops, and does not freeze again what
// an operator has accepted.
func TestRestored_AcceptedMeanwhile(t *testing.T) {
	r := newRestorable(t)
	sleeper, awake := r.open(t), r.open(t)
	slept, c := asCluster(t, sleeper, "a"), asCluster(t, awake, "b")
	snapshot := r.etcd.Snapshot(t)
	attached(t, c, "v", "node-1")
	for i := range 5 { // so that what follows the restore does not come as far
		attached(t, slept, fmt.Sprintf("w-%d", i), "node-1")
	}
	r.etcd.Restore(t, r.util, snapshot)
	_, err := c.Attach(t.Context(), AttachRequest{Volume: "x", Node: "node-1"})
	mustBe(t, err, ErrRestored)
	mustBe(t, awake.Close(), nil)
	l := r.open(t)
	mustBe(t, l.Unfreeze(t.Context(), "op", true), nil)

	_, err = slept.Attach(t.Context(), AttachRequest{Volume: "y", Node: "node-1"})
	mustBe(t, err, ErrRestored)
	mustBe(t, sleeper.Close(), nil)
	if left := freezes(t, l); len(left) != 0 {
		t.Errorf("frozen again: %+v", left)
	}
}

// A process of no cluster, such as an operator's command, freezes in the name of
// none; one that only reads writes nothing.
func TestRestored_NoCluster(t *testing.T) {
	for name, readOnly := range map[string]bool{"operator": false, "reader": true} {
		t.Run(name, func(t *testing.T) {
			l := openLedger(t)
			looker := again(t, l, func(c *Config) { c.ReadOnly = readOnly })
			looker.seen.Add(1 << 40)
			_, err := looker.Record(t.Context())
			mustBe(t, err, ErrRestored)
			mustBe(t, looker.Close(), nil)
			if _, there := freezes(t, l)[""]; there == readOnly {
				t.Errorf("there is a freeze: %v", there)
			}
		})
	}
}

// An unfreeze accepts what it has read. A freeze that comes meanwhile stays, or is
// read anew with the greater epoch that it knows.
func TestUnfreeze_SeesEveryFreeze(t *testing.T) {
	l, another := openLedger(t), uuid.NewString()
	a, b := asCluster(t, l, "a"), asCluster(t, l, "b")
	rec, err := l.Record(t.Context())
	mustBe(t, err, nil)
	mustBe(t, a.FreezeRestored(t.Context(), Known{LedgerUUID: rec.UUID, Epoch: 3}, "older"), nil)
	mustBe(t, a.FreezeRestored(t.Context(), Known{LedgerUUID: rec.UUID, Epoch: 2}, "the first one stays"), nil)
	late := false
	mustBe(t, l.change(t.Context(), "unfreeze", entryValue{Action: ActionUnfrozen, By: "op"}, func(s *stops) error {
		if !late {
			mustBe(t, b.FreezeRestored(t.Context(), Known{LedgerUUID: another, Epoch: 7}, "late"), nil)
			late = true
		}
		return s.acceptRestored(0)
	}), nil)
	if rec, err = l.Record(t.Context()); err != nil || rec.Epoch != 8 || !slices.Equal(rec.Formerly, []string{another}) {
		t.Errorf("after it: %+v, %v; want epoch 8, above what the late one knew", rec, err)
	}
	if left := freezes(t, l); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
	// Both would do nothing now, for the ledger is accepted in the place of either.
	mustBe(t, a.FreezeRestored(t.Context(), Known{LedgerUUID: rec.UUID, Epoch: 7}, "again"), nil)
	mustBe(t, b.FreezeRestored(t.Context(), Known{LedgerUUID: another, Epoch: 7}, "again"), nil)
	if left := freezes(t, l); len(left) != 0 {
		t.Errorf("frozen again: %+v", left)
	}
	mustBe(t, b.FreezeRestored(t.Context(), Known{LedgerUUID: "a third", Epoch: 1}, "one that nobody has accepted"), nil)
	if left := freezes(t, l); len(left) != 1 {
		t.Errorf("not frozen: %+v", left)
	}
}

// A removal by a leader whose etcd went back behind its witness is refused, by a
// compare: also where no header tells, and before anybody has noticed.
func TestRemove_BehindTheWitness(t *testing.T) {
	r := newRestorable(t)
	l := r.open(t)
	c := asCluster(t, l, "a")
	attached(t, c, "v", "node-1")
	attached(t, c, "w", "node-1")
	ld := lead(t, c)
	d := departed(t, ld, "node-1")
	witness := func(nonce string) {
		s, err := c.Sight(t.Context())
		mustBe(t, err, nil)
		mustBe(t, second(ld.PutWitness(t.Context(), s.Witness, "store", nonce)), nil)
	}
	witness("n1")
	if got := remove(t, ld, orphan(t, l, "w", d)); !got.Ended {
		t.Fatalf("with its witness in etcd: %+v", got)
	}
	o := orphan(t, l, "v", d)
	snapshot := r.etcd.Snapshot(t)
	witness("n2")
	r.etcd.Restore(t, r.util, snapshot, "--bump-revision=1000000000", "--mark-compacted")

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, err := ld.Remove(ctx, []Orphan{o})
	mustBe(t, err, ErrRestored)
	mustHold(t, l, "v", StateAttached, Place{"a", "node-1"})
}

// second is the error of a call that also returns something else.
func second[T any](_ T, err error) error { return err }

// Whose witness it was is told apart by store, and the oldest stores fall out.
func TestWitness_Stores(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	ld := lead(t, c)
	var seen Witness
	for i := range witnessStores + 2 {
		s, err := c.Sight(t.Context())
		mustBe(t, err, nil)
		seen = s.Witness
		mustBe(t, second(ld.PutWitness(t.Context(), seen, strings.Repeat("s", i+1), "n")), nil)
	}
	mustBe(t, second(ld.PutWitness(t.Context(), seen, "s", "n")), ErrConflict) // it was seen before the last put
	s, err := c.Sight(t.Context())
	mustBe(t, err, nil)
	if n := len(s.Witness.Nonces); n != witnessStores || s.Witness.Of("ss") != "" || s.Witness.Of("sss") != "n" {
		t.Errorf("%d nonces: %+v", n, s.Witness)
	}
	ld.Resign()
	mustBe(t, second(ld.PutWitness(t.Context(), s.Witness, "s", "m")), ErrNotLeader)
}
