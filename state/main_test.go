package state

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-storage/holdfast/state/statetest"
)

func TestMain(m *testing.M) { os.Exit(statetest.Main(m)) }

// floorGrace is the shortest grace that the test's etcd grants.
const floorGrace = 2 * time.Second

// openLedger opens a ledger of the test's own on the shared etcd.
func openLedger(t testing.TB, edit ...func(*Config)) *Ledger {
	t.Helper()
	return openAt(t, statetest.Shared(t).Endpoints(), statetest.Prefix(t), edit...)
}

func openAt(t testing.TB, endpoints []string, prefix string, edit ...func(*Config)) *Ledger {
	t.Helper()
	cfg := Config{Endpoints: endpoints, Prefix: prefix, By: "test", Logger: slog.New(slog.DiscardHandler)}
	for _, e := range edit {
		e(&cfg)
	}
	l, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// again opens the same ledger once more, as another process would.
func again(t testing.TB, l *Ledger, edit ...func(*Config)) *Ledger {
	t.Helper()
	return openAt(t, l.cfg.Endpoints, l.cfg.Prefix, append([]func(*Config){func(c *Config) {
		c.GracePeriod, c.AttachmentTTL = l.cfg.GracePeriod, l.cfg.AttachmentTTL
	}}, edit...)...)
}

func shortGrace(c *Config) { c.GracePeriod = floorGrace }

func asCluster(t testing.TB, l *Ledger, name string) *Cluster {
	t.Helper()
	c, err := l.Cluster(t.Context(), Identity{Name: name, UID: "uid-of-" + name})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func attached(t testing.TB, c *Cluster, volume, node string) Hold {
	t.Helper()
	h, err := c.Attach(t.Context(), AttachRequest{Volume: volume, Node: node})
	if err != nil {
		t.Fatalf("attach %s to %s: %v", volume, node, err)
	}
	return h
}

func detached(t testing.TB, c *Cluster, volume, node string) Detachment {
	t.Helper()
	e, err := c.Detach(t.Context(), DetachRequest{Volume: volume, Node: node})
	if err != nil || !e.Existed {
		t.Fatalf("detach %s from %s: existed %v, %v", volume, node, e.Existed, err)
	}
	return e.Detachment
}

func read(t testing.TB, l *Ledger, volume string) *Volume {
	t.Helper()
	v, err := l.Volume(t.Context(), volume)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// mustBe fails unless the error is the wanted one; nil wants none.
func mustBe(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

func mustHold(t testing.TB, l *Ledger, volume string, state VolumeState, places ...Place) {
	t.Helper()
	v := read(t, l, volume)
	if v.State != state {
		t.Errorf("volume %s is %s, want %s", volume, v.State, state)
	}
	if len(v.Holds) != len(places) {
		t.Fatalf("volume %s has %d holds, want %d: %+v", volume, len(v.Holds), len(places), v.Holds)
	}
	for i, p := range places {
		if v.Holds[i].Place() != p {
			t.Errorf("volume %s is held by %s, want %s", volume, v.Holds[i].Place(), p)
		}
	}
}

// lead campaigns and wins.
func lead(t testing.TB, c *Cluster) *Leadership {
	t.Helper()
	ld, err := c.Campaign(t.Context(), "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ld.Resign)
	return ld
}

// departed puts a departure with no quarantine.
func departed(t testing.TB, ld *Leadership, node string) Departure {
	t.Helper()
	d, err := ld.Depart(t.Context(), Departure{Node: node, Reason: NodeGone}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// orphan is what a reconciler would have judged: the attachment as it is now.
func orphan(t testing.TB, l *Ledger, volume string, d Departure) Orphan {
	t.Helper()
	for _, at := range read(t, l, volume).Attachments {
		if at.Node == d.Node && at.Cluster == d.Cluster {
			return Orphan{Attachment: at, Departure: d}
		}
	}
	t.Fatalf("volume %s has no attachment of node %s", volume, d.Node)
	return Orphan{}
}

// remove removes one orphan and returns what became of it.
func remove(t testing.TB, ld *Leadership, o Orphan) EndResult {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	got, err := ld.Remove(ctx, []Orphan{o})
	if err != nil {
		t.Fatal(err)
	}
	return got[0]
}

// sendLate sends an operation the way a request arrives that was sent when the
// process had seen revision r, and returns what it was told.
func sendLate(t testing.TB, c *Cluster, guard guard, op operation, r int64) error {
	t.Helper()
	return sendOnce(t, c, guard, op, attempt{r: r, asks: true})
}

func sendOnce(t testing.TB, c *Cluster, guard guard, op operation, a attempt) error {
	t.Helper()
	call := &call{about: "pvc-1", op: op, guard: guard, attempt: a, done: make(chan struct{})}
	if err := c.ledger.writer.submit(t.Context(), call); err != nil {
		return err
	}
	return call.settle()
}

// isOrNil is errors.Is, with nil for no error.
func isOrNil(err, want error) bool {
	return err == nil && want == nil || want != nil && errors.Is(err, want)
}

// lapse ends an attachment the way its lease's end does.
func lapse(t testing.TB, l *Ledger, volume string, place Place) {
	t.Helper()
	for _, at := range read(t, l, volume).Attachments {
		if at.Place() == place {
			if _, err := l.client.Revoke(t.Context(), clientv3.LeaseID(at.Lease)); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("volume %s has no attachment of %s", volume, place)
}

// gone waits until a key is deleted and returns the revision of that.
func gone(t testing.TB, l *Ledger, k string) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	resp, err := l.client.Get(ctx, k)
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.Kvs) == 0 {
		return resp.Header.Revision
	}
	for r := range l.client.Watch(ctx, k, clientv3.WithRev(resp.Header.Revision+1)) {
		for _, e := range r.Events {
			if e.Type == clientv3.EventTypeDelete {
				return e.Kv.ModRevision
			}
		}
	}
	t.Fatalf("key %s was not deleted", k)
	return 0
}
