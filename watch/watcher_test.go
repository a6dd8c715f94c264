package watch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/state/statetest"
)

const departureJSON = `{"reason":"NodeGone","uid":"u","since":"2026-01-02T03:04:05Z","by":"test"}`

func TestWatcher_ViewIsWhatTheLedgerHas(t *testing.T) {
	s := newStage(t, nil)
	h1, h2 := s.attach("pvc-2/x", "n1"), s.attach("pvc-1", "n1")
	s.attach("pvc-3", "n2")
	s.run("n1", "n2")

	var want []state.Attachment
	for a, err := range s.cluster.Ledger().Attachments(t.Context(), "a", "n1") {
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, a)
	}
	v := s.w.Node("n1")
	if diff := cmp.Diff(want, v.Attachments); diff != "" || len(want) != 2 {
		t.Errorf("attachments of n1, -ledger +view: %s", diff)
	}
	if v.Attachments[0].Token != h2.Token || v.Attachments[1].Token != h1.Token {
		t.Errorf("tokens %v, %v; want %v, %v", v.Attachments[0].Token, v.Attachments[1].Token, h2.Token, h1.Token)
	}
	if !v.Present || v.Node.UID != "uid-n1" || v.ContinuousSince != 1 || v.Departure != nil || v.Quarantined || len(v.InGrace) > 0 {
		t.Errorf("n1: %+v", v)
	}
	c := s.w.Cluster()
	if c.Nodes != 2 || c.Attachments != 3 || c.WithAttachments != 2 || len(c.Missing) > 0 || c.Pause != nil {
		t.Errorf("cluster: %+v", c)
	}
	if c.Identity.UID != "uid-a" || c.Ledger.UUID == "" || c.Ledger.Frozen != nil {
		t.Errorf("identity %+v, ledger %+v", c.Identity, c.Ledger)
	}
	if err := c.Sources.Check(); err != nil {
		t.Error(err)
	}
	leases := 0
	for _, n := range s.w.Leases() {
		leases += n
	}
	all := 0
	for range s.w.Attachments() {
		all++
	}
	if leases != 3 || all != 3 {
		t.Errorf("%d attachments under leases, %d in all; want 3", leases, all)
	}
	if !s.w.HasAttachment("n1", "pvc-2/x") || s.w.HasAttachment("n2", "pvc-1") || s.w.HasAttachment("n3", "pvc-1") {
		t.Error("HasAttachment: want it of n1's volumes, not of another's, and not of a node that nobody knows")
	}
	if got := s.w.Suspects(); len(got) > 0 || len(s.drain()) > 0 {
		t.Errorf("suspects %v; want none, and none on the queue", got)
	}
}

// Each kind of change that a decision rests on puts the node on the queue.
func TestWatcher_RequeuesOnEachKindOfChange(t *testing.T) {
	s := newStage(t, func(c *Config) { c.MatchNodeUID = true })
	s.run("n1", "n2")
	s.attach("v1", "n1")
	s.attach("v2", "n2")

	s.sink.ApplyNode(Node{Name: "n2"}, true)
	s.until("n2", "missing, with its attachment", func(v NodeView) bool { return !v.Present && len(v.Attachments) == 1 })
	s.attach("v3", "n2")
	s.until("n2", "with another attachment", func(v NodeView) bool { return len(v.Attachments) == 2 })
	s.detach("v3", "n2", 0)
	s.until("n2", "without it", func(v NodeView) bool { return len(v.Attachments) == 1 })
	s.put("departures/a/n2", departureJSON)
	s.until("n2", "departed", func(v NodeView) bool { return v.Departure != nil && v.Departure.Reason == state.NodeGone })
	s.put("quarantines/a/n2", `{"until":"2026-01-02T03:04:05Z"}`)
	s.until("n2", "quarantined", func(v NodeView) bool { return v.Quarantined })
	s.del("quarantines/a/n2")
	s.until("n2", "out of quarantine", func(v NodeView) bool { return !v.Quarantined })
	if d, ok := s.w.Departure("n2"); !ok || d.UID != "u" {
		t.Errorf("departure of n2: %+v, %v", d, ok)
	}
	s.sink.ReplaceNodes(listed("n1"), 7)
	s.until("n2", "continuous since 7", func(v NodeView) bool { return v.ContinuousSince == 7 })

	s.put("pauses/a", `{"by":"op","why":"upgrade","since":"2026-01-02T03:04:05Z"}`)
	s.until("n2", "paused", func(NodeView) bool { p := s.w.Cluster().Pause; return p != nil && p.Why == "upgrade" })
	s.del("pauses/a")
	s.until("n2", "resumed", func(NodeView) bool { return s.w.Cluster().Pause == nil })
	if err := s.cluster.Ledger().Freeze(t.Context(), "op", "storage is moved"); err != nil {
		t.Fatal(err)
	}
	s.until("n2", "frozen", func(NodeView) bool { f := s.w.Cluster().Ledger.Frozen; return f != nil && f.By == "op" })
	s.put("clusters/a", `{"uid":"another","since":"2026-01-02T03:04:05Z"}`)
	s.until("n2", "rebound", func(NodeView) bool { return s.w.Cluster().Identity.UID == "another" })

	s.sink.Heard(errors.New("the API is away"))
	s.until("n2", "stale", func(NodeView) bool { return errors.Is(s.w.Sources().Check(), ErrStale) })
	s.sink.Heard(nil)
	s.until("n2", "fresh", func(NodeView) bool { return s.w.Sources().Check() == nil })
	s.w.Rejoin()
	s.until("n2", "as asked for", func(NodeView) bool { return true })

	s.sink.ApplyNode(Node{Name: "n2", UID: "uid-n2"}, false)
	s.until("n2", "back", func(v NodeView) bool { return v.Present && v.Departure != nil })
	s.del("departures/a/n2")
	s.until("n2", "no more departed", func(v NodeView) bool { return v.Departure == nil })
	s.sink.ApplyNode(Node{Name: "n2", UID: "uid-n2", OutOfService: true}, false)
	s.until("n2", "out of service", func(v NodeView) bool { return v.Node.OutOfService })
	s.sink.ApplyNode(Node{Name: "n2", UID: "uid-n2"}, false)
	s.until("n2", "in service", func(v NodeView) bool { return !v.Node.OutOfService })
	s.put("attachments/a/n2/v2", `{"mode":"exclusive","nodeUID":"uid-n2","epoch":0,"since":"2026-01-02T03:04:05Z"}`)
	s.sink.ApplyNode(Node{Name: "n2", UID: "replaced"}, false)
	s.until("n2", "replaced", func(v NodeView) bool { return v.Node.UID == "replaced" && v.Attachments[0].NodeUID == "uid-n2" })

	// n1 was healthy all the time.
	if _, ok := s.w.Departure("n1"); ok {
		t.Error("n1 has departed")
	}
	for _, name := range s.drain() {
		if name != "n2" {
			t.Errorf("%s came on the queue", name)
		}
	}
}

// With the watch cut off and its revision compacted away, what went and what
// came in between are both found.
func TestWatcher_RelistsAfterCompaction(t *testing.T) {
	etcd := statetest.Start(t)
	proxy := etcd.Proxy(t)
	s := onStage(t, etcd, proxy.Endpoints(), nil)
	direct, err := state.Open(t.Context(), state.Config{Endpoints: etcd.Endpoints(), Prefix: s.prefix})
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	cluster, err := direct.Cluster(t.Context(), state.Identity{Name: "a", UID: "uid-a"})
	if err != nil {
		t.Fatal(err)
	}
	went := s.attach("went", "n1")
	s.attach("stays", "n1")
	s.attach("healthy", "n2")
	s.put("departures/a/n1", departureJSON)
	s.put("pauses/a", `{"by":"op","why":"x","since":"2026-01-02T03:04:05Z"}`)
	s.run("n2")
	s.until("n1", "as it was", func(v NodeView) bool { return len(v.Attachments) == 2 && v.Departure != nil })

	proxy.Cut()
	if _, err := cluster.Detach(t.Context(), state.DetachRequest{Volume: "went", Node: "n1"}); err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.Attach(t.Context(), state.AttachRequest{Volume: "came", Node: "n1"}); err != nil {
		t.Fatal(err)
	}
	s.del("departures/a/n1")
	s.del("pauses/a")
	if _, err := etcd.Client(t).Compact(t.Context(), etcd.Revision(t)); err != nil {
		t.Fatal(err)
	}
	proxy.Resume()

	s.until("n1", "as it is", func(v NodeView) bool {
		return len(v.Attachments) == 2 && v.Attachments[0].Volume == "came" && v.Departure == nil
	})
	eventually(t, "the pause is gone", func() bool { return s.w.Cluster().Pause == nil && s.w.Sources().Check() == nil })
	lapses, overflowed := s.w.TakeLapses(10)
	if len(lapses) != 1 || overflowed || lapses[0].Volume != "went" || lapses[0].Token != went.Token {
		t.Errorf("lapses %+v, want that of %q with token %v", lapses, "went", went.Token)
	}
	if got := s.w.Cluster(); got.Attachments != 3 {
		t.Errorf("%d attachments, want 3", got.Attachments)
	}
}

// Readers get copies, while everything changes.
func TestWatcher_ReadersAndWritersAtOnce(t *testing.T) {
	s := newStage(t, nil)
	s.run("n0")
	ctx, cancel := context.WithCancel(t.Context())
	var readers, writers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for ctx.Err() == nil {
				for i := range 4 {
					v := s.w.Node(fmt.Sprintf("n%d", i))
					for j := range v.Attachments {
						v.Attachments[j].Volume = "mine"
					}
					if v.Departure != nil {
						v.Departure.By = "mine"
					}
					for volume := range v.InGrace {
						delete(v.InGrace, volume)
					}
				}
				c := s.w.Cluster()
				if c.Pause != nil {
					c.Pause.Why = "mine"
				}
				clear(s.w.Leases())
				clear(s.w.Suspects())
				for a := range s.w.Attachments() {
					_ = a.Volume
				}
				s.w.TakeLapses(3)
				s.w.WatchGrace("n1", "v1")
				s.w.Rejoin()
				_ = s.w.Sources().Check()
			}
		})
	}
	var last [4]state.Hold
	for i := range last {
		writers.Go(func() {
			volume, node := fmt.Sprintf("v%d", i), fmt.Sprintf("n%d", i)
			for range 25 {
				s.attach(volume, node)
				s.put("departures/a/"+node, departureJSON)
				s.sink.ApplyNode(Node{Name: node}, false)
				s.sink.ApplyNode(Node{Name: node}, true)
				s.detach(volume, node, 0)
				s.del("departures/a/" + node)
			}
			last[i] = s.attach(volume, node)
		})
	}
	writers.Wait()
	for i, h := range last {
		eventually(t, h.Node+" is as it was left", func() bool {
			v := s.w.Node(h.Node)
			return len(v.Attachments) == 1 && v.Attachments[0].Volume == fmt.Sprintf("v%d", i) &&
				v.Attachments[0].Token == h.Token && v.Departure == nil
		})
	}
	cancel()
	readers.Wait()
}

func TestWatcher_LapsesAreTakenOnce(t *testing.T) {
	s := newStage(t, nil)
	h := s.attach("v1", "n1")
	s.attach("v2", "n1")
	s.run("n1")
	select {
	case <-s.w.Lapses():
		t.Error("a lapse before anything lapsed")
	default:
	}
	s.detach("v1", "n1", 0)
	<-s.w.Lapses()
	taken, overflowed := s.w.TakeLapses(10)
	want := []Lapse{{Volume: "v1", Node: "n1", Mode: state.Exclusive, Token: h.Token}}
	if len(taken) == 1 {
		want[0].Lease = taken[0].Lease
	}
	if diff := cmp.Diff(want, taken); diff != "" || overflowed {
		t.Errorf("-want +got: %s", diff)
	}
	if taken, _ := s.w.TakeLapses(10); len(taken) > 0 {
		t.Errorf("given a second time: %+v", taken)
	}
	// One that is attached again before anyone looked has not lapsed.
	s.del("attachments/a/n1/v2")
	<-s.w.Lapses()
	s.put("attachments/a/n1/v2", attachmentJSON("exclusive"))
	eventually(t, "the attachment is back", func() bool { return s.w.Cluster().Attachments == 1 })
	if taken, _ := s.w.TakeLapses(10); len(taken) > 0 {
		t.Errorf("it is back: %+v", taken)
	}
}

func TestLapseSet_IsBoundedAndSaysSo(t *testing.T) {
	s := lapseSet{bound: 2}
	for _, volume := range []string{"v1", "v2", "v2", "v3"} {
		s.add(Lapse{Volume: volume, Node: "n"})
	}
	taken, overflowed := s.take(1, nil)
	rest, again := s.take(10, nil)
	if len(taken) != 1 || len(rest) != 1 || !overflowed || again {
		t.Errorf("took %v (%v) and %v (%v); want two in all, and once that more are forgotten", taken, overflowed, rest, again)
	}
}

func TestWatcher_UndecodableIsReportedOnce(t *testing.T) {
	s := newStage(t, nil)
	s.put("attachments/a/n1/v1", "{")
	s.put("departures/a/n1", "[]")
	s.put("holds/what/is/this", "?") // not in view
	stop := s.run()
	s.until("n1", "in view", func(v NodeView) bool {
		return len(v.Attachments) == 1 && v.Attachments[0].Broken != nil && v.Departure != nil && v.Departure.Broken != nil
	})
	s.put("attachments/a/n1/v1", "}")
	s.put("attachments/a/n1/v2", attachmentJSON("exclusive"))
	s.until("n1", "after it", func(v NodeView) bool { return len(v.Attachments) == 2 })
	stop()
	for _, key := range []string{"attachments/a/n1/v1", "departures/a/n1"} {
		if got := s.logs.with(s.prefix + "v1/" + key); len(got) != 1 || !strings.Contains(got[0], "level=WARN") {
			t.Errorf("said of %s: %q, want one warning", key, got)
		}
	}
}

// An outage is told of, in few lines however long it lasts, and the next one again.
func TestWatcher_OutageOfTheNodeListIsLogged(t *testing.T) {
	s := newStage(t, nil)
	s.run("n1")
	outage := func() {
		for range 100 {
			s.sink.Heard(errors.New("connection refused"))
			s.sink.Heard(errors.New("is missing"))
		}
	}
	outage()
	for i := range 100 {
		s.sink.Heard(fmt.Errorf("request %d failed", i))
	}
	for text, want := range map[string]int{"connection refused": 1, "is missing": 1, "nodes cannot be read": maxSaid, "source is stale": 0} {
		if got := s.logs.with(text); len(got) != want {
			t.Errorf("%d lines say %q, want %d: %q", len(got), text, want, got)
		}
	}
	s.sink.Heard(nil)
	outage()
	if got := s.logs.with("connection refused"); len(got) != 2 {
		t.Errorf("after a second outage: %q, want a line for each", got)
	}
}

func TestWatcher_RunsAgain(t *testing.T) {
	s := newStage(t, nil)
	s.attach("v1", "gone")
	for range 3 {
		stop := s.run("n1")
		s.until("gone", "missing", func(v NodeView) bool { return !v.Present && len(v.Attachments) == 1 })
		if err := s.w.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "runs already") {
			t.Errorf("a second Run beside the first: %v", err)
		}
		stop()
		if err := s.w.Sources().Check(); !errors.Is(err, ErrNotSynced) {
			t.Errorf("after Run the sources are %v, want not synced", err)
		}
		if got := s.w.Cluster(); got.Attachments != 0 || got.Nodes != 0 {
			t.Errorf("after Run: %+v", got)
		}
	}
}

// Who takes the queue anew gets all there is to decide about.
func TestWatcher_QueueTakenAnew(t *testing.T) {
	s := newStage(t, nil)
	s.attach("v1", "gone")
	s.run("n1")
	s.until("gone", "missing", func(v NodeView) bool { return len(v.Attachments) == 1 })
	s.w.Queue().ShutDown()
	queue := s.w.Queue()
	defer queue.ShutDown()
	if name, shutdown := queue.Get(); name != "gone" || shutdown {
		t.Errorf("got %q, %v; want gone", name, shutdown)
	}
	if s.w.Queue() != queue {
		t.Error("a queue that is not shut down was replaced")
	}
}

func TestWatcher_NodeSourceThatFails(t *testing.T) {
	s := newStage(t, nil)
	broken := errors.New("no such thing")
	s.nodes.fail <- broken
	if err := s.w.Run(t.Context()); !errors.Is(err, broken) || !strings.Contains(err.Error(), "watching nodes") {
		t.Errorf("Run returned %v, want that watching nodes failed", err)
	}
	s.nodes.fail <- nil
	<-s.nodes.sinks
	if err := s.w.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "ended by itself") {
		t.Errorf("Run returned %v, want that watching nodes ended", err)
	}
}

// While one source has not loaded, everything looks as if it were missing.
func TestWatcher_NothingIsLookedAtBeforeBothHaveLoaded(t *testing.T) {
	s := newStage(t, nil)
	for i := range 20 {
		s.attach(fmt.Sprintf("v%d", i), fmt.Sprintf("n%d", i))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { _ = s.w.Run(ctx) })
	defer all.Wait()
	defer cancel()
	eventually(t, "etcd's part has loaded", func() bool { return s.w.Sources().Etcd.Synced })
	s.w.Rejoin()
	if n := s.w.Queue().Len(); n > 0 || len(s.w.Suspects()) != 20 || s.w.Sources().Loaded() {
		t.Errorf("%d of %d suspects on the queue, and no Node list yet", n, len(s.w.Suspects()))
	}
	sink := <-s.nodes.sinks
	var nodes []string
	for i := range 19 {
		nodes = append(nodes, fmt.Sprintf("n%d", i))
	}
	sink.ReplaceNodes(listed(nodes...), 1)
	if name, _ := s.w.Queue().Get(); name != "n19" || s.w.Queue().Len() > 0 {
		t.Errorf("looked at %s and %d more, want n19 alone", name, s.w.Queue().Len())
	}
}

func TestWatcher_WaitSynced(t *testing.T) {
	s := newStage(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := s.w.WaitSynced(ctx)
	if !errors.Is(err, ErrNotSynced) || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "the Node list") {
		t.Errorf("%v; want ErrNotSynced, that the context ended, and which source", err)
	}
	s.run("n1")
	if err := s.w.WaitSynced(ctx); err != nil {
		t.Error(err)
	}
}

func TestNew_Invalid(t *testing.T) {
	s := newStage(t, nil)
	for name, cfg := range map[string]Config{
		"no cluster":           {Nodes: s.nodes},
		"no nodes":             {Cluster: s.cluster},
		"negative stale-after": {Cluster: s.cluster, Nodes: s.nodes, StaleAfter: -1},
		"negative resync":      {Cluster: s.cluster, Nodes: s.nodes, Resync: -time.Second},
	} {
		if _, err := New(cfg); !errors.Is(err, state.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
	w, err := New(Config{Cluster: s.cluster, Nodes: s.nodes})
	if err != nil {
		t.Fatal(err)
	}
	if c := w.Config(); c.StaleAfter != 2*time.Minute || c.Resync != 5*time.Minute || c.Logger == nil {
		t.Errorf("defaults: %+v", c)
	}
}
