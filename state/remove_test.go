package state

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/v3/concurrency"
)

func TestRemove(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	h := attached(t, c, "pvc-1", "node-1")
	ld := lead(t, c)
	d := departed(t, ld, "node-1")
	if got := remove(t, ld, orphan(t, l, "pvc-1", d)); !got.Ended || got.Refused != "" {
		t.Fatalf("removal: %+v", got)
	}
	v := read(t, l, "pvc-1")
	if v.State != StateGrace || len(v.Attachments) != 0 || v.Detachments[0].Token != h.Token || v.Detachments[0].Reason != "removed: NodeGone" {
		t.Errorf("removed: %+v", v)
	}
	e := journal(t, l, "a")
	if len(e) != 1 || e[0].Action != ActionRemoved || e[0].Volume != "pvc-1" || e[0].Node != "node-1" || e[0].Token != h.Token ||
		e[0].Reason != "NodeGone" || e[0].Evidence.DepartureRevision != d.ModRevision || e[0].Evidence.LeaderRevision != ld.Revision() {
		t.Errorf("journal: %+v", e)
	}
}

// One conflict vetoes only itself.
func TestRemove_OneConflictVetoesOnlyItself(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	ld := lead(t, c)
	d := departed(t, ld, "node-1")
	var orphans []Orphan
	for i := range MaxBatch {
		volume := fmt.Sprintf("pvc-%02d", i)
		attached(t, c, volume, "node-1")
		orphans = append(orphans, orphan(t, l, volume, d))
	}
	attached(t, c, "pvc-07", "node-1")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	got, err := ld.Remove(ctx, orphans)
	mustBe(t, err, nil)
	for i, r := range got {
		if want := i != 7; r.Ended != want {
			t.Errorf("%s: ended %v, refused %q", r.Volume, r.Ended, r.Refused)
		}
	}
	if got[7].Refused != RefusedAttachment {
		t.Errorf("pvc-07 was refused for %q", got[7].Refused)
	}
	mustHold(t, l, "pvc-07", StateAttached, Place{"a", "node-1"})
}

// Those of a node end together, and are told of in one entry. What cannot be in one
// transaction goes in several, and etcd takes as many as a batch may have.
func TestRemove_Together(t *testing.T) {
	for name, nodes := range map[string]func(i int) string{
		"one node":          func(int) string { return "node" },
		"a node each":       func(i int) string { return fmt.Sprintf("node-%03d", i) },
		"one, and one each": func(i int) string { return fmt.Sprintf("node-%03d", max(i, 40)) },
	} {
		t.Run(name, func(t *testing.T) {
			l := openLedger(t)
			c := asCluster(t, l, "a")
			ld := lead(t, c)
			var orphans []Orphan
			departures := map[string]Departure{}
			for i := range MaxBatch {
				volume, node := fmt.Sprintf("pvc-%03d", i), nodes(i)
				if _, is := departures[node]; !is {
					departures[node] = departed(t, ld, node)
				}
				attached(t, c, volume, node)
				orphans = append(orphans, orphan(t, l, volume, departures[node]))
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			got, err := ld.Remove(ctx, orphans)
			mustBe(t, err, nil)
			for i, r := range got {
				if !r.Ended || r.Volume != orphans[i].Attachment.Volume {
					t.Errorf("%+v, want %s ended", r, orphans[i].Attachment.Volume)
				}
			}
			told := map[string]Entry{}
			ids := map[string]bool{}
			for _, e := range journal(t, l, "a") {
				told[e.Volume] = e
				ids[e.ID] = true
			}
			for _, o := range orphans {
				a, e := o.Attachment, told[o.Attachment.Volume]
				if e.Action != ActionRemoved || e.Node != a.Node || e.Token != a.Token || e.Mode != a.Mode ||
					e.Evidence.AttachmentRevision != a.ModRevision || e.Evidence.DepartureRevision != o.Departure.ModRevision || e.Evidence.NodeUID != a.NodeUID {
					t.Errorf("the journal says of %s: %+v", a.Volume, e)
				}
			}
			if entries := len(grouped(orphans)); len(ids) != entries || name == "one node" && entries != MaxBatch/groupOrphans {
				t.Errorf("%d entries in etcd, want %d", len(ids), entries)
			}
		})
	}
}

// etcd takes a batch, and the journal's entries can be read, also where all names
// are as long as they may be and made of what is longest when it is escaped.
func TestRemove_LongestNames(t *testing.T) {
	l := openLedger(t, func(c *Config) { c.By = strings.Repeat("<", 253) })
	c := asCluster(t, l, strings.Repeat("a", 63))
	ld := lead(t, c)
	node := strings.Repeat("n", 253)
	d := departed(t, ld, node)
	var orphans []Orphan
	for i := range MaxBatch {
		volume := fmt.Sprintf("%03d", i) + strings.Repeat("<", 253)
		attached(t, c, volume, node)
		orphans = append(orphans, orphan(t, l, volume, d))
	}
	// One of each group is vetoed, so that all others go singly.
	for i := 0; i < MaxBatch; i += groupOrphans {
		orphans[i].Attachment.ModRevision++
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	got, err := ld.Remove(ctx, orphans)
	mustBe(t, err, nil)
	for i, r := range got {
		if vetoed := i%groupOrphans == 0; r.Ended == vetoed || r.Err != nil {
			t.Errorf("orphan %d: ended %v, refused %q, error %v", i, r.Ended, r.Refused, r.Err)
		}
	}
	got, err = ld.Remove(ctx, judgedAnew(t, l, orphans))
	mustBe(t, err, nil)
	for i, r := range got {
		if !r.Ended {
			t.Errorf("orphan %d the second time: refused %q, error %v", i, r.Refused, r.Err)
		}
	}
	told := journal(t, l, c.Name())
	if len(told) != MaxBatch {
		t.Errorf("the journal tells of %d orphans, want %d", len(told), MaxBatch)
	}
	for _, e := range told {
		if e.Broken != nil {
			t.Errorf("%.20s: %v", e.ID, e.Broken)
		}
	}
}

// judgedAnew is those of these orphans that are still attached.
func judgedAnew(t *testing.T, l *Ledger, orphans []Orphan) (left []Orphan) {
	t.Helper()
	for _, o := range orphans {
		v, err := l.Volume(t.Context(), o.Attachment.Volume)
		mustBe(t, err, nil)
		if len(v.Holds) > 0 {
			left = append(left, orphan(t, l, o.Attachment.Volume, o.Departure))
		}
	}
	return left
}

// What changes between judgement and removal, and what it is refused for.
func TestRemove_ChangedSinceJudged(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(t *testing.T, l *Ledger, c *Cluster, ld *Leadership, d Departure)
		want   string
	}{
		"attached again, finding its own hold": {func(t *testing.T, _ *Ledger, c *Cluster, _ *Leadership, _ Departure) {
			attached(t, c, "pvc-1", "node-1")
		}, RefusedAttachment},
		"detached and attached again": {func(t *testing.T, _ *Ledger, c *Cluster, _ *Leadership, _ Departure) {
			detached(t, c, "pvc-1", "node-1")
			attached(t, c, "pvc-1", "node-1")
		}, RefusedAttachment},
		"lapsed": {func(t *testing.T, l *Ledger, _ *Cluster, _ *Leadership, _ Departure) {
			lapse(t, l, "pvc-1", Place{"a", "node-1"})
		}, RefusedAttachment},
		"the node returned": {func(t *testing.T, _ *Ledger, c *Cluster, _ *Leadership, d Departure) {
			mustBe(t, c.Return(t.Context(), d), nil)
		}, RefusedDeparture},
		"the node returned and left again": {func(t *testing.T, _ *Ledger, c *Cluster, ld *Leadership, d Departure) {
			mustBe(t, c.Return(t.Context(), d), nil)
			departed(t, ld, "node-1")
		}, RefusedDeparture},
		"put anew with its quarantine": {func(t *testing.T, _ *Ledger, _ *Cluster, ld *Leadership, d Departure) {
			if _, err := ld.Depart(t.Context(), d, time.Minute); err != nil {
				t.Fatal(err)
			}
		}, RefusedDeparture},
	} {
		t.Run(name, func(t *testing.T) {
			l := openLedger(t)
			c := asCluster(t, l, "a")
			attached(t, c, "pvc-1", "node-1")
			ld := lead(t, c)
			d := departed(t, ld, "node-1")
			judged := orphan(t, l, "pvc-1", d)
			tc.change(t, l, c, ld, d)
			if got := remove(t, ld, judged); got.Ended || got.Refused != tc.want {
				t.Errorf("ended %v, refused %q, want %q", got.Ended, got.Refused, tc.want)
			}
			if v := read(t, l, "pvc-1"); len(v.Holds) != 1 {
				t.Errorf("the hold is gone: %+v", v)
			}
		})
	}
}

func TestRemove_InGraceAndInQuarantine(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	ld := lead(t, c)
	attached(t, c, "pvc-1", "node-1")
	detached(t, c, "pvc-1", "node-1")
	attached(t, c, "pvc-1", "node-1") // its own grace is still on
	d := departed(t, ld, "node-1")
	if got := remove(t, ld, orphan(t, l, "pvc-1", d)); got.Ended || got.Refused != RefusedGrace {
		t.Errorf("in grace: %+v", got)
	}
	attached(t, c, "pvc-2", "node-2")
	q, err := ld.Depart(t.Context(), Departure{Node: "node-2", Reason: NodeGone}, time.Minute)
	mustBe(t, err, nil)
	if got := remove(t, ld, orphan(t, l, "pvc-2", q)); got.Ended || got.Refused != RefusedQuarantine {
		t.Errorf("in quarantine: %+v", got)
	}
}

// The whole request is refused: what it relied on outside its orphans is gone.
func TestRemove_Refused(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(t *testing.T, l *Ledger, ld *Leadership)
		want   error
	}{
		"paused": {func(t *testing.T, l *Ledger, _ *Leadership) {
			mustBe(t, l.Pause(t.Context(), "a", "op", "maintenance", 0), nil)
		}, ErrPaused},
		"frozen": {func(t *testing.T, l *Ledger, _ *Leadership) {
			mustBe(t, l.Freeze(t.Context(), "op", "restored"), nil)
		}, ErrFrozen},
		"rebound": {func(t *testing.T, l *Ledger, _ *Leadership) {
			mustBe(t, l.Rebind(t.Context(), "a", "another", "op", "built anew"), nil)
		}, ErrClusterMismatch},
		"election lost": {func(t *testing.T, l *Ledger, ld *Leadership) {
			if _, err := l.client.Revoke(t.Context(), ld.session.Lease()); err != nil {
				t.Fatal(err)
			}
		}, ErrNotLeader},
		"another leader": {func(t *testing.T, l *Ledger, ld *Leadership) {
			if _, err := l.client.Revoke(t.Context(), ld.session.Lease()); err != nil {
				t.Fatal(err)
			}
			lead(t, asCluster(t, l, "a"))
		}, ErrNotLeader},
	} {
		t.Run(name, func(t *testing.T) {
			l := openLedger(t)
			c := asCluster(t, l, "a")
			attached(t, c, "pvc-1", "node-1")
			ld := lead(t, c)
			judged := orphan(t, l, "pvc-1", departed(t, ld, "node-1"))
			tc.change(t, again(t, l), ld) // by another process: this one has not seen it
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			_, err := ld.Remove(ctx, []Orphan{judged})
			mustBe(t, err, tc.want)
			mustHold(t, l, "pvc-1", StateAttached, Place{"a", "node-1"})
		})
	}
}

// A candidate that has not won has a key too, and its request is refused by
// etcd itself.
func TestRemove_CandidateThatHasNotWon(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	attached(t, c, "pvc-1", "node-1")
	ld := lead(t, c)
	judged := orphan(t, l, "pvc-1", departed(t, ld, "node-1"))

	session, err := concurrency.NewSession(l.client)
	mustBe(t, err, nil)
	defer session.Close()
	ctx, cancel := context.WithCancel(t.Context())
	candidacy := make(chan error, 1)
	election := concurrency.NewElection(session, l.keys.election("a"))
	go func() { candidacy <- election.Campaign(ctx, "second") }()
	k := fmt.Sprintf("%s/%x", l.keys.election("a"), session.Lease())
	awaitKey(t, l, k)
	resp, err := l.client.Get(t.Context(), k)
	mustBe(t, err, nil)
	candidate := &Leadership{c: c, session: session, election: election, key: k, revision: resp.Kvs[0].CreateRevision}

	until, stop := context.WithTimeout(t.Context(), 5*time.Second)
	defer stop()
	_, err = candidate.Remove(until, []Orphan{judged})
	mustBe(t, err, ErrNotLeader)
	_, err = candidate.Depart(t.Context(), Departure{Node: "node-9", Reason: NodeGone}, 0)
	mustBe(t, err, ErrNotLeader)
	mustHold(t, l, "pvc-1", StateAttached, Place{"a", "node-1"})
	cancel()
	<-candidacy
	if got := remove(t, ld, judged); !got.Ended {
		t.Errorf("the leader itself: %+v", got)
	}
}

// The deadline is the live check's: past it nothing is sent any more.
func TestRemove_PastItsDeadline(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	attached(t, c, "pvc-1", "node-1")
	ld := lead(t, c)
	judged := orphan(t, l, "pvc-1", departed(t, ld, "node-1"))
	ctx, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Millisecond))
	defer cancel()
	if _, err := ld.Remove(ctx, []Orphan{judged}); err == nil {
		t.Error("removed past the live check's deadline")
	}
	_, err := ld.Remove(t.Context(), []Orphan{judged})
	mustBe(t, err, ErrInvalid)
	mustHold(t, l, "pvc-1", StateAttached, Place{"a", "node-1"})
}

func TestRemove_BadBatches(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	attached(t, c, "pvc-1", "node-1")
	ld := lead(t, c)
	judged := orphan(t, l, "pvc-1", departed(t, ld, "node-1"))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for name, batch := range map[string][]Orphan{
		"one volume twice": {judged, judged},
		"no departure":     {{Attachment: judged.Attachment, Departure: Departure{Cluster: "a", Node: "node-1"}}},
		"too many":         make([]Orphan, MaxBatch+1),
	} {
		if _, err := ld.Remove(ctx, batch); err == nil {
			t.Error(name)
		}
	}
	mustHold(t, l, "pvc-1", StateAttached, Place{"a", "node-1"})
}

// The source of a migration is removed: the target keeps its hold, and the
// other way round.
func TestRemove_OneSideOfAMigration(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	ld := lead(t, c)
	for lost, kept := range map[string]string{"node-1": "node-2", "node-2": "node-1"} {
		volume := "pvc-" + lost
		attached(t, c, volume, "node-1")
		migrating(t, c, volume, "node-1", Place{Node: "node-2"}, 0)
		d := departed(t, ld, lost)
		if got := remove(t, ld, orphan(t, l, volume, d)); !got.Ended {
			t.Fatalf("removing %s: %+v", lost, got)
		}
		mustHold(t, l, volume, StateAttached, Place{"a", kept})
		if v := read(t, l, volume); v.Migration != nil {
			t.Errorf("the removal of one side left the window: %+v", v.Migration)
		}
		mustBe(t, c.Return(t.Context(), d), nil)
	}
}

// Among others of its node, too: they end together, or each by itself.
func TestRemove_OneSideOfAMigrationAmongOthers(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	ld := lead(t, c)
	for _, volume := range []string{"pvc-1", "pvc-2", "pvc-3"} {
		attached(t, c, volume, "node-1")
	}
	migrating(t, c, "pvc-2", "node-1", Place{Node: "node-2"}, 0)
	d := departed(t, ld, "node-1")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	got, err := ld.Remove(ctx, []Orphan{orphan(t, l, "pvc-1", d), orphan(t, l, "pvc-2", d), orphan(t, l, "pvc-3", d)})
	mustBe(t, err, nil)
	for _, g := range got {
		if !g.Ended {
			t.Errorf("removing %s: %+v", g.Volume, g)
		}
	}
	mustHold(t, l, "pvc-2", StateAttached, Place{"a", "node-2"})
	if v := read(t, l, "pvc-2"); v.Migration != nil {
		t.Errorf("the removal of one side left the window: %+v", v.Migration)
	}
}

func TestDepart(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	ld := lead(t, c)
	d, err := ld.Depart(t.Context(), Departure{Node: "node-1", Reason: NodeGone, UID: "u"}, floorGrace)
	mustBe(t, err, nil)
	begun := time.Now()
	_, err = ld.Depart(t.Context(), Departure{Node: "node-1", Reason: NodeGone}, floorGrace)
	mustBe(t, err, ErrConflict)
	gone(t, l, l.keys.quarantine("a", "node-1"))
	if took := time.Since(begun); took < floorGrace-time.Second {
		t.Errorf("a quarantine of %s ended after %s", floorGrace, took)
	}
	anew, err := ld.Depart(t.Context(), d, time.Minute)
	mustBe(t, err, nil)
	mustBe(t, c.Return(t.Context(), d), ErrConflict)
	count := 0
	for q, err := range l.Quarantines(t.Context(), "a") {
		mustBe(t, err, nil)
		if q.Node != "node-1" {
			t.Errorf("quarantine %+v", q)
		}
		count++
	}
	if count != 1 {
		t.Errorf("%d quarantines, want 1", count)
	}
	mustBe(t, c.Return(t.Context(), anew), nil)
	mustBe(t, c.Return(t.Context(), anew), nil)
	for d := range l.Departures(t.Context(), "a") {
		t.Errorf("left behind: %+v", d)
	}
	for q := range l.Quarantines(t.Context(), "a") {
		t.Errorf("left behind: %+v", q)
	}
	_, err = ld.Depart(t.Context(), Departure{Node: "node-1", Reason: "Bored"}, 0)
	mustBe(t, err, ErrInvalid)
}

// One leads at a time, the next takes over when the first resigns, and the
// revision grows.
func TestCampaign(t *testing.T) {
	l := openLedger(t)
	first := lead(t, asCluster(t, l, "a"))
	won := make(chan *Leadership, 1)
	second := asCluster(t, again(t, l), "a")
	go func() {
		ld, err := second.Campaign(t.Context(), "second")
		if err != nil {
			t.Error(err)
		}
		won <- ld
	}()
	select {
	case <-won:
		t.Fatal("two lead")
	case <-time.After(200 * time.Millisecond): // long enough to win wrongly
	}
	first.Resign()
	ld := <-won
	if ld.Revision() <= first.Revision() {
		t.Errorf("the second leads at %d, the first did at %d", ld.Revision(), first.Revision())
	}
	ld.Resign()

	ctx, cancel := context.WithCancel(t.Context())
	holder := lead(t, asCluster(t, l, "b"))
	told := make(chan error, 1)
	go func() {
		_, err := asCluster(t, l, "b").Campaign(ctx, "waits")
		told <- err
	}()
	cancel()
	mustBe(t, <-told, context.Canceled)
	holder.Resign()
}
