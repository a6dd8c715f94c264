package state

import (
	"context"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// The answer of a detach comes after the budget of its lease: the detachment is
// put again before it is reported, so that the grace is whole from then on.
func TestLease_LateAnswerLeavesTheGraceWhole(t *testing.T) {
	const grace = 20 * time.Second
	proxy, through, l := proxied(t, func(c *Config) { c.RequestTimeout = 20 * time.Second; c.GracePeriod = grace })
	c := asCluster(t, through, "a")
	for _, v := range []string{"pvc-0", "pvc-1"} {
		attached(t, c, v, "node-1")
	}
	detached(t, c, "pvc-0", "node-1") // leaves a lease to hand out
	proxy.Delay(6 * waitBudget / 10)
	d := detached(t, c, "pvc-1", "node-1")
	reported := time.Now()
	proxy.Delay(0)
	left, err := l.TimeLeft(t.Context(), read(t, l, "pvc-1").Detachments[0].Lease)
	mustBe(t, err, nil)
	if want := grace - time.Since(reported) - time.Second; left < want { // whole seconds, rounded down
		t.Errorf("reported %s ago, the grace of %s has %s left", time.Since(reported), grace, left)
	}
	if events := history(t, l, l.keys.detachment("pvc-1", Exclusive, "a", "node-1"), d.ModRevision); events < 2 {
		t.Errorf("the detachment was put %d times, and its answer was late", events)
	}
}

// history counts the puts of a key since a revision.
func history(t *testing.T, l *Ledger, k string, from int64) int {
	t.Helper()
	now := read(t, l, "any").Revision
	puts := 0
	for rev := from; rev <= now; rev++ {
		resp, err := l.client.Get(t.Context(), k, clientv3.WithRev(rev))
		if err != nil {
			t.Fatal(err)
		}
		if len(resp.Kvs) == 1 && resp.Kvs[0].ModRevision == rev {
			puts++
		}
	}
	return puts
}

func TestLease_HandedOutOnlyInItsPeriod(t *testing.T) {
	l := openLedger(t)
	first, err := l.waits.take(t.Context(), time.Minute, 0)
	mustBe(t, err, nil)
	p := l.waits.pool(waitKey{wait: time.Minute})
	p.mu.Lock()
	p.fresh = time.Now().Add(-time.Nanosecond)
	p.mu.Unlock()
	second, err := l.waits.take(t.Context(), time.Minute, 0)
	mustBe(t, err, nil)
	if second.id == first.id {
		t.Error("a lease was handed out after its period")
	}
	if got := time.Until(second.whole); got > waitBudget || got <= 0 {
		t.Errorf("an answer may come for another %s, want up to %s", got, waitBudget)
	}
	left, err := l.TimeLeft(t.Context(), second.id)
	if err != nil || left < time.Minute {
		t.Errorf("a lease for a minute has %s left, %v", left, err)
	}
}

func TestLease_PooledUpTo64Records(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	const records = 3*leaseRecords + 1
	for i := range records {
		attached(t, c, fmt.Sprintf("pvc-%d", i), "node-1")
	}
	perLease := map[LeaseID]int{}
	for at, err := range l.Attachments(t.Context(), "a", "") {
		mustBe(t, err, nil)
		perLease[at.Lease]++
	}
	if len(perLease) != 4 {
		t.Errorf("%d attachments have %d leases, want 4", records, len(perLease))
	}
	for id, n := range perLease {
		if n > leaseRecords {
			t.Errorf("lease %s has %d records", id, n)
		}
	}
}

// Graces that begin together share leases, so that they end together too: etcd
// revokes a thousand leases a second, however many keys are on each.
func TestLease_GracesShareFew(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	const records = 192
	for i := range records {
		attached(t, c, fmt.Sprintf("pvc-%d", i), "node-1")
	}
	ended, err := c.DetachAll(t.Context(), DetachAllRequest{Node: "node-1"})
	mustBe(t, err, nil)
	perLease := map[LeaseID]int{}
	for d, err := range l.Detachments(t.Context(), "") {
		mustBe(t, err, nil)
		perLease[d.Lease]++
	}
	for id, n := range perLease {
		if n > leaseRecords {
			t.Errorf("lease %s has %d records", id, n)
		}
	}
	if len(ended) != records || len(perLease) > records/8 { // far fewer, unless the machine is slow
		t.Errorf("%d graces have %d leases", len(ended), len(perLease))
	}
}

// A lease that nobody kept alive is not handed out when it may soon end.
func TestLease_SessionOfAnIdleProcess(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	attached(t, c, "pvc-1", "node-1")
	kept := read(t, l, "pvc-1").Attachments[0].Lease
	setFresh := func(at time.Time) {
		c.sessions.mu.Lock()
		c.sessions.fresh = at
		c.sessions.mu.Unlock()
	}
	setFresh(time.Now().Add(-time.Second))
	attached(t, c, "pvc-2", "node-1")
	if got := read(t, l, "pvc-2").Attachments[0].Lease; got != kept {
		t.Error("a lease with all its time left was thrown away")
	}
	if _, err := l.client.Revoke(t.Context(), clientv3.LeaseID(kept)); err != nil {
		t.Fatal(err)
	}
	setFresh(time.Now().Add(-time.Second))
	attached(t, c, "pvc-3", "node-1")
	if got := read(t, l, "pvc-3").Attachments[0].Lease; got == kept {
		t.Error("a lease that is gone was handed out")
	}
}

func TestKeepAliveAndRearm(t *testing.T) {
	l := openLedger(t, func(c *Config) { c.AttachmentTTL = 2 * time.Second })
	c := asCluster(t, l, "a")
	h := attached(t, c, "pvc-1", "node-1")
	id := read(t, l, "pvc-1").Attachments[0].Lease
	ttl, err := c.KeepAlive(t.Context(), id)
	if err != nil || ttl != 2*time.Second {
		t.Errorf("kept alive for %s, %v", ttl, err)
	}
	mustBe(t, c.Rearm(t.Context(), h), ErrNotFound) // it stands

	gone(t, l, l.keys.attachment("a", "node-1", "pvc-1")) // nobody keeps it alive
	mustHold(t, l, "pvc-1", StateLapsed, Place{"a", "node-1"})
	_, err = c.KeepAlive(t.Context(), id)
	mustBe(t, err, ErrNotFound)
	mustBe(t, c.Rearm(t.Context(), h), nil)
	v := read(t, l, "pvc-1")
	if v.State != StateAttached || v.Holds[0].Token != h.Token || v.Attachments[0].Token != h.Token {
		t.Errorf("re-armed: %+v, want token %s", v, h.Token)
	}
	detached(t, c, "pvc-1", "node-1")
	mustBe(t, c.Rearm(t.Context(), h), ErrNotFound)
	mustHold(t, l, "pvc-1", StateGrace)
	// A hold that ends between the look at it and the re-arm gets no
	// attachment, and neither does the one that follows it.
	mustBe(t, c.stand(t.Context(), h, 0), errMoved)
	later := attached(t, c, "pvc-1", "node-1")
	lapse(t, l, "pvc-1", Place{"a", "node-1"})
	mustBe(t, c.stand(t.Context(), h, 0), errMoved)
	mustHold(t, l, "pvc-1", StateLapsed, Place{"a", "node-1"})
	mustBe(t, c.stand(t.Context(), later, 0), nil)
	mustBe(t, c.Rearm(t.Context(), Hold{Volume: "pvc-1", Cluster: "b", Node: "n"}), ErrInvalid)
}

// One lease each, as commands leave them, become one lease for all.
func TestGather(t *testing.T) {
	l := openLedger(t)
	for i := range 10 {
		attached(t, asCluster(t, l, "a"), fmt.Sprintf("pvc-%d", i), "node-1")
	}
	list := func() (all []Attachment, leases map[LeaseID]bool) {
		leases = map[LeaseID]bool{}
		for at, err := range l.Attachments(t.Context(), "a", "node-1") {
			mustBe(t, err, nil)
			all, leases[at.Lease] = append(all, at), true
		}
		return all, leases
	}
	thin, leases := list()
	if len(leases) != 10 {
		t.Fatalf("%d leases, want one a command", len(leases))
	}
	c := asCluster(t, l, "a")
	attached(t, c, "pvc-3", "node-1") // moves on meanwhile: not gathered
	moved, err := c.Gather(t.Context(), thin)
	if err != nil || moved != 9 {
		t.Errorf("moved %d, %v, want 9", moved, err)
	}
	all, leases := list()
	if len(leases) != 1 {
		t.Errorf("gathered onto %d leases", len(leases))
	}
	for i, at := range all {
		if at.Token != thin[i].Token || at.CreateRevision != thin[i].CreateRevision {
			t.Errorf("gathering changed %+v to %+v", thin[i], at)
		}
	}
}

func TestWaitsBelowTheServersFloor(t *testing.T) {
	l := openLedger(t)
	if l.ServerTTLFloor() != floorGrace {
		t.Fatalf("the server's floor is %s, want %s", l.ServerTTLFloor(), floorGrace)
	}
	short := floorGrace - time.Millisecond
	for name, edit := range map[string]func(*Config){
		"grace":     func(c *Config) { c.GracePeriod = short },
		"session":   func(c *Config) { c.AttachmentTTL = short },
		"window":    func(c *Config) { c.MigrationWindow = short },
		"negative":  func(c *Config) { c.GracePeriod = -time.Second },
		"retention": func(c *Config) { c.JournalRetention = -1 },
	} {
		cfg := Config{Endpoints: l.cfg.Endpoints, Prefix: l.cfg.Prefix}
		edit(&cfg)
		_, err := Open(t.Context(), cfg)
		if mustBe(t, err, ErrInvalid); err == nil {
			t.Error(name)
		}
	}
	c := asCluster(t, l, "a")
	attached(t, c, "pvc-1", "node-1")
	_, err := c.Detach(t.Context(), DetachRequest{Volume: "pvc-1", Node: "node-1", Grace: short})
	mustBe(t, err, ErrInvalid)
	_, err = c.Migrate(t.Context(), MigrateRequest{Volume: "pvc-1", Source: "node-1", Target: Place{Node: "node-2"}, Window: short})
	mustBe(t, err, ErrInvalid)
	mustBe(t, l.Pause(t.Context(), "a", "op", "why", short), ErrInvalid)
	mustHold(t, l, "pvc-1", StateAttached, Place{"a", "node-1"})
}

// Where leases are filled quickly the next is there before it is needed: a caller
// that could have none granted gets a slot of it.
func TestLease_GrantedAheadOnceTheyAreFilled(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	take := func(n int) {
		t.Helper()
		for range n {
			_, err := c.sessions.take(t.Context())
			mustBe(t, err, nil)
		}
	}
	ready := func() int {
		c.sessions.mu.Lock()
		defer c.sessions.mu.Unlock()
		return len(c.sessions.ready)
	}
	take(leaseRecords)
	if ready() != 0 {
		t.Error("a lease was granted ahead before one was filled")
	}
	take(1)
	for ready() == 0 {
		time.Sleep(time.Millisecond)
	}
	take(leaseRecords - 1)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.sessions.take(over); err != nil {
		t.Errorf("the lease that was granted ahead is not used: %v", err)
	}
	for ready() == 0 {
		time.Sleep(time.Millisecond)
	}
	take(leaseRecords - 1)
	c.sessions.mu.Lock()
	for i := range c.sessions.ready {
		c.sessions.ready[i].fresh = time.Now().Add(-time.Nanosecond)
	}
	c.sessions.mu.Unlock()
	if _, err := c.sessions.take(over); err == nil {
		t.Error("a lease was handed out that is no longer fresh")
	}
}
