package state

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-storage/holdfast/state/statetest"
)

// Names that are prefixes of each other, or look like keys: none sees another's.
func TestNames_NoneSeesAnothers(t *testing.T) {
	l := openLedger(t)
	clusters := []string{"a", "a-b", "a0"}
	volumes := []string{"pvc-1", "pvc-10", "pvc-1/x", "pvc-1%2Fx", "../../x", "a\x00b", "line\nbreak", "\x1b[31mred", "%2F", "ü"}
	for i, v := range volumes {
		c := asCluster(t, l, clusters[i%len(clusters)])
		h := attached(t, c, v, fmt.Sprintf("node-%d", i))
		mustHold(t, l, v, StateAttached, Place{c.Name(), h.Node})
	}
	for i, v := range volumes {
		mustHold(t, l, v, StateAttached, Place{clusters[i%len(clusters)], fmt.Sprintf("node-%d", i)})
	}
	for i, name := range clusters {
		var got, want []string
		for at, err := range l.Attachments(t.Context(), name, "") {
			mustBe(t, err, nil)
			got = append(got, at.Volume)
		}
		for j, v := range volumes {
			if j%len(clusters) == i {
				want = append(want, v)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("cluster %s has %q, want %q", name, got, want)
		}
	}
	// A grace of a, and the clusters around it in the order of keys.
	c := asCluster(t, l, "a")
	detached(t, c, "pvc-1", "node-0")
	for _, other := range []string{"a-b", "a0"} {
		_, err := asCluster(t, l, other).Attach(t.Context(), AttachRequest{Volume: "pvc-1", Node: "n"})
		mustBe(t, err, ErrInGrace)
	}
	attached(t, c, "pvc-1", "node-0")
	detached(t, c, "pvc-1", "node-0")
	for _, other := range []string{"a-b", "a0"} {
		v := "of-" + other
		o := asCluster(t, l, other)
		attached(t, o, v, "n")
		detached(t, o, v, "n")
		_, err := c.Attach(t.Context(), AttachRequest{Volume: v, Node: "n"})
		mustBe(t, err, ErrInGrace)
	}
}

// Lists are paged at one revision: what comes later is not in them.
func TestList_PagedAtOneRevision(t *testing.T) {
	l := openLedger(t)
	const records = pageRecords + pageRecords/2
	putRaw(t, l, records, func(i int) (string, string) {
		return l.keys.attachment("a", "node-1", fmt.Sprintf("pvc-%06d", i)), `{"mode":"exclusive","epoch":0,"since":"2026-01-01T00:00:00Z"}`
	})
	count := 0
	for at, err := range l.Attachments(t.Context(), "a", "") {
		mustBe(t, err, nil)
		if count == 0 {
			putRaw(t, l, 1, func(int) (string, string) { return l.keys.attachment("a", "node-1", "zzz"), "{}" })
		}
		if at.Volume == "zzz" {
			t.Error("the list shows what came after it began")
		}
		count++
	}
	if count != records {
		t.Errorf("%d attachments listed, want %d", count, records)
	}
	for range l.Attachments(t.Context(), "a", "") {
		break // leaving a list early is no error
	}
}

func putRaw(t testing.TB, l *Ledger, n int, kv func(int) (string, string)) {
	t.Helper()
	for from := 0; from < n; from += 100 {
		var ops []clientv3.Op
		for i := from; i < min(from+100, n); i++ {
			k, v := kv(i)
			ops = append(ops, clientv3.OpPut(k, v))
		}
		if _, err := l.client.Txn(t.Context()).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHolds_FilterAndLapsed(t *testing.T) {
	l := openLedger(t)
	a, b := asCluster(t, l, "a"), asCluster(t, l, "b")
	attached(t, a, "pvc-1", "node-1")
	attached(t, asCluster(t, l, "a"), "pvc-2", "node-2")
	attached(t, b, "pvc-3", "node-1")
	lapse(t, l, "pvc-2", Place{"a", "node-2"})
	list := func(f HoldFilter) (out []string) {
		for h, err := range l.Holds(t.Context(), f) {
			mustBe(t, err, nil)
			mark := ""
			if h.Lapsed {
				mark = " lapsed"
			}
			out = append(out, h.Volume+mark)
		}
		return out
	}
	for _, tc := range []struct {
		filter HoldFilter
		want   []string
	}{
		{HoldFilter{}, []string{"pvc-1", "pvc-2 lapsed", "pvc-3"}},
		{HoldFilter{Cluster: "a"}, []string{"pvc-1", "pvc-2 lapsed"}},
		{HoldFilter{Node: "node-1"}, []string{"pvc-1", "pvc-3"}},
		{HoldFilter{Cluster: "a", Node: "node-2"}, []string{"pvc-2 lapsed"}},
		{HoldFilter{Cluster: "c"}, nil},
	} {
		if got := list(tc.filter); !slices.Equal(got, tc.want) {
			t.Errorf("%+v: %q, want %q", tc.filter, got, tc.want)
		}
	}
	var keysOnly []string
	for h, err := range l.HoldKeys(t.Context(), "a") {
		mustBe(t, err, nil)
		if h.Revision == 0 || h.Mode != Exclusive {
			t.Errorf("%+v", h)
		}
		keysOnly = append(keysOnly, h.Volume)
	}
	if !slices.Equal(keysOnly, []string{"pvc-1", "pvc-2"}) {
		t.Errorf("the walk found %q", keysOnly)
	}
}

// A record that does not decode is reported and left alone, and its volume
// counts as held. A key that is not ours is left alone too.
func TestUndecodable(t *testing.T) {
	l := openLedger(t)
	c := asCluster(t, l, "a")
	putRaw(t, l, 1, func(int) (string, string) { return l.keys.hold("pvc-1", Exclusive, "b", "node-1"), "not json" })
	v := read(t, l, "pvc-1")
	if len(v.Holds) != 1 || v.Holds[0].Broken == nil || v.Holds[0].Cluster != "b" {
		t.Fatalf("read as %+v", v)
	}
	_, err := c.Attach(t.Context(), AttachRequest{Volume: "pvc-1", Node: "node-1"})
	mustBe(t, err, ErrConflict)

	unknown := l.keys.root + "holds/pvc-2/q/whatever"
	putRaw(t, l, 1, func(int) (string, string) { return unknown, "{}" })
	_, err = c.Attach(t.Context(), AttachRequest{Volume: "pvc-2", Node: "node-1"})
	mustBe(t, err, ErrConflict)
	if v := read(t, l, "pvc-2"); v.State != StateAttached {
		t.Errorf("held under a key of another version, and %s", v.State)
	}
	putRaw(t, l, 1, func(int) (string, string) { return l.keys.migration("pvc-3"), "junk" })
	m := read(t, l, "pvc-3").Migration
	if m == nil || c.Commit(t.Context(), *m) == nil || c.Abort(t.Context(), *m) == nil || read(t, l, "pvc-3").Migration == nil {
		t.Errorf("a migration that does not decode was acted on: %+v", m)
	}
	for h, err := range l.Holds(t.Context(), HoldFilter{}) {
		mustBe(t, err, nil)
		if h.Broken == nil {
			t.Errorf("listed: %+v", h)
		}
	}
	resp, err := l.client.Get(t.Context(), unknown)
	if err != nil || len(resp.Kvs) != 1 {
		t.Errorf("a key that is not ours was touched: %v, %v", resp, err)
	}
}

func TestJournal_Since(t *testing.T) {
	l := openLedger(t)
	for i := range 3 {
		mustBe(t, l.Pause(t.Context(), "a", "op", fmt.Sprint(i), 0), nil)
	}
	all := journal(t, l, "a")
	if len(all) != 3 {
		t.Fatalf("journal: %+v", all)
	}
	count := 0
	for e, err := range l.Journal(t.Context(), "a", all[1].At) {
		mustBe(t, err, nil)
		if e.At.Before(all[1].At) {
			t.Errorf("older than asked for: %+v", e)
		}
		count++
	}
	if count < 2 {
		t.Errorf("%d entries since the second, want at least 2", count)
	}
	for range l.Journal(t.Context(), "a", time.Now().Add(time.Hour)) {
		t.Error("an entry of the future")
	}
	at := time.Now()
	id := uuid.Must(uuid.NewV7()).String()
	if firstID(at.Add(-time.Second)) > id || firstID(at.Add(time.Hour)) < id {
		t.Error("firstID does not stand before the IDs of its time")
	}
}

// A list whose revision is compacted away under way says so by an error that
// callers know, and is not sent again in vain.
func TestList_CompactedUnderWay(t *testing.T) {
	etcd := statetest.Start(t)
	l := openAt(t, etcd.Endpoints(), DefaultPrefix)
	c := asCluster(t, l, "a")
	first := attached(t, c, "pvc-1", "node-1")
	attached(t, c, "pvc-2", "node-1")
	if _, err := etcd.Client(t).Compact(t.Context(), first.Revision+1); err != nil {
		t.Fatal(err)
	}
	begin, end := l.keys.under(kindHold)
	for _, err := range l.pages(t.Context(), begin, end, first.Revision) {
		mustBe(t, err, ErrUnavailable)
		return
	}
	t.Error("it listed what is compacted")
}
