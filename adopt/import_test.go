package adopt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/state/statetest"
)

// openLedger opens a ledger of the test's own on the shared etcd.
func openLedger(t testing.TB) *state.Ledger {
	t.Helper()
	return openAt(t, state.Config{Endpoints: statetest.Shared(t).Endpoints(), Prefix: statetest.Prefix(t)})
}

func openAt(t testing.TB, cfg state.Config) *state.Ledger {
	t.Helper()
	cfg.By, cfg.Logger = "test", slog.New(slog.DiscardHandler)
	l, err := state.Open(t.Context(), cfg)
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

func asCluster(t testing.TB, l *state.Ledger, name string) *state.Cluster {
	t.Helper()
	c, err := l.Cluster(t.Context(), state.Identity{Name: name, UID: "uid-of-" + name})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func held(t testing.TB, c *state.Cluster, volume, node string, mode state.Mode) state.Hold {
	t.Helper()
	h, err := c.Attach(t.Context(), state.AttachRequest{Volume: volume, Node: node, Mode: mode})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// planned is the plan of an import of what the server has.
func planned(t testing.TB, s *apiServer, c *state.Cluster) []Item {
	t.Helper()
	k := s.reader(t)
	r, err := k.Read(t.Context(), driver, "")
	if err != nil {
		t.Fatal(err)
	}
	uids, err := k.NodeUIDs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	held, err := ReadForImport(t.Context(), c.Ledger(), c.Name(), r)
	if err != nil {
		t.Fatal(err)
	}
	return Plan(c.Name(), r.Attachments, held, uids)
}

// expect compares the results of items, by volume.
func expect(t testing.TB, items []Item, want map[string]Result) {
	t.Helper()
	if len(items) != len(want) {
		t.Errorf("%d items, want %d", len(items), len(want))
	}
	for _, i := range items {
		if i.Result != want[i.Volume] {
			t.Errorf("%s on %s: %s (%s), want %s", i.Volume, i.Node, i.Result, i.Detail, want[i.Volume])
		}
	}
}

func TestImport(t *testing.T) {
	l, s := openLedger(t), newAPIServer(t)
	east, west := asCluster(t, l, "east"), asCluster(t, l, "west")
	s.node("node-1", "node-2")
	s.attach("vol-1", "node-1")
	s.attach("vol-2", "node-1", rwx...)
	s.attach("vol-3", "node-2")
	s.attach("vol-4", "node-2")
	s.attach("vol-5", "node-2")
	s.attach("vol-6", "node-2")
	held(t, east, "vol-6", "node-2", state.Exclusive)
	if _, err := east.Detach(t.Context(), state.DetachRequest{Volume: "vol-6", Node: "node-2"}); err != nil {
		t.Fatal(err)
	}
	held(t, east, "vol-3", "node-2", state.Exclusive)
	theirs := held(t, west, "vol-4", "node-9", state.Exclusive)
	held(t, west, "vol-5", "node-9", state.Exclusive)
	if _, err := west.Detach(t.Context(), state.DetachRequest{Volume: "vol-5", Node: "node-9"}); err != nil {
		t.Fatal(err)
	}

	items := planned(t, s, east)
	expect(t, items, map[string]Result{"vol-1": ToAttach, "vol-2": ToAttach, "vol-3": There, "vol-4": Conflict, "vol-5": Conflict, "vol-6": Moving})
	var mu sync.Mutex
	most := 0
	err := Import(t.Context(), east, items, func(n int) { mu.Lock(); defer mu.Unlock(); most = max(most, n) })
	if err != nil {
		t.Fatal(err)
	}
	expect(t, items, map[string]Result{"vol-1": Done, "vol-2": Done, "vol-3": There, "vol-4": Conflict, "vol-5": Conflict, "vol-6": Moving})
	if most != 2 {
		t.Errorf("told of %d tries, want 2", most)
	}
	for volume, want := range map[string]state.Hold{
		"vol-1": {Cluster: "east", Node: "node-1", Mode: state.Exclusive, NodeUID: "uid-of-node-1"},
		"vol-2": {Cluster: "east", Node: "node-1", Mode: state.Shared, NodeUID: "uid-of-node-1"},
		"vol-4": {Cluster: "west", Node: "node-9", Mode: state.Exclusive, Token: theirs.Token},
	} {
		v, err := l.Volume(t.Context(), volume)
		if err != nil || len(v.Holds) != 1 {
			t.Fatalf("%s is held by %v, %v", volume, v.Holds, err)
		}
		got := v.Holds[0]
		if got.Place() != want.Place() || got.Mode != want.Mode || got.NodeUID != want.NodeUID || want.Token != 0 && got.Token != want.Token || got.Lapsed {
			t.Errorf("%s is held by %+v, want %+v", volume, got, want)
		}
	}

	// Once more: everything is there.
	before, _ := l.Revision(t.Context())
	again := planned(t, s, east)
	expect(t, again, map[string]Result{"vol-1": There, "vol-2": There, "vol-3": There, "vol-4": Conflict, "vol-5": Conflict, "vol-6": Moving})
	if err := Import(t.Context(), east, again, nil); err != nil {
		t.Error(err)
	}
	if after, _ := l.Revision(t.Context()); after != before {
		t.Errorf("an import of what is there has written: revision %d, and was %d", after, before)
	}
}

// What changes between the plan and the attach is a conflict, never overwritten.
func TestImport_ConflictMeanwhile(t *testing.T) {
	l, s := openLedger(t), newAPIServer(t)
	east, west := asCluster(t, l, "east"), asCluster(t, l, "west")
	for _, v := range []string{"vol-1", "vol-2", "vol-3"} {
		s.attach(v, "node-1")
	}
	items := planned(t, s, east)
	expect(t, items, map[string]Result{"vol-1": ToAttach, "vol-2": ToAttach, "vol-3": ToAttach})
	held(t, west, "vol-1", "node-9", state.Exclusive)
	held(t, west, "vol-2", "node-9", state.Exclusive)
	if _, err := west.Detach(t.Context(), state.DetachRequest{Volume: "vol-2", Node: "node-9"}); err != nil {
		t.Fatal(err)
	}
	if err := Import(t.Context(), east, items, nil); err != nil {
		t.Fatal(err)
	}
	expect(t, items, map[string]Result{"vol-1": Conflict, "vol-2": Conflict, "vol-3": Done})
	if i := items[0]; len(i.Holders) != 1 || i.Holders[0].Cluster != "west" || !strings.Contains(i.Detail, "node-9 of cluster west") {
		t.Errorf("the conflict is with %v: %s; want west's node-9", i.Holders, i.Detail)
	}
	if !strings.Contains(items[1].Detail, "grace period") {
		t.Errorf("the second conflict is %q, want the grace period", items[1].Detail)
	}
}

// What concerns the whole ledger ends the import; what was not tried says so.
func TestImport_Frozen(t *testing.T) {
	l, s := openLedger(t), newAPIServer(t)
	east := asCluster(t, l, "east")
	for i := range 3 * importers {
		s.attach(fmt.Sprintf("vol-%03d", i), "node-1")
	}
	items := planned(t, s, east)
	if err := l.Freeze(t.Context(), "test", "an incident"); err != nil {
		t.Fatal(err)
	}
	if err := Import(t.Context(), east, items, nil); !errors.Is(err, state.ErrFrozen) {
		t.Errorf("import ended with %v, want that the ledger is frozen", err)
	}
	counts := map[Result]int{}
	for _, i := range items {
		counts[i.Result]++
	}
	if counts[Failed] == 0 || counts[NotTried] == 0 || counts[Failed]+counts[NotTried] != len(items) {
		t.Errorf("results are %v; want some failed, and the others not tried", counts)
	}
}

// What is interrupted tells the truth: what it says is attached is, and what it
// says was not tried is not.
func TestImport_Interrupted(t *testing.T) {
	l, s := openLedger(t), newAPIServer(t)
	east := asCluster(t, l, "east")
	const all = 10 * importers
	s.change(func() {
		for i := range all {
			s.attachLocked(fmt.Sprintf("vol-%03d", i), "node-1")
		}
	})
	items := planned(t, s, east)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	err := Import(ctx, east, items, func(n int) {
		if n >= 10 {
			interrupt()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("import ended with %v, want that it was interrupted", err)
	}
	counts := map[Result]int{}
	for _, i := range items {
		counts[i.Result]++
		v, err := l.Volume(t.Context(), i.Volume)
		if err != nil {
			t.Fatal(err)
		}
		if attached := len(v.Holds) == 1; attached != (i.Result == Done) {
			t.Errorf("%s is said to be %s, and has the holds %v", i.Volume, i.Result, v.Holds)
		}
	}
	if counts[Done] < 10 || counts[NotTried] == 0 || counts[Done]+counts[NotTried] != all {
		t.Errorf("results are %v", counts)
	}
	// It goes on where it ended.
	rest := planned(t, s, east)
	if err := Import(t.Context(), east, rest, nil); err != nil {
		t.Fatal(err)
	}
	for _, i := range rest {
		if i.Result != Done && i.Result != There {
			t.Errorf("%s: %s, %s", i.Volume, i.Result, i.Detail)
		}
	}
}

// What was sent and not answered is not called failed.
func TestImport_UnknownOutcome(t *testing.T) {
	s, proxy := newAPIServer(t), statetest.Shared(t).Proxy(t)
	cfg := state.Config{Prefix: statetest.Prefix(t), Endpoints: proxy.Endpoints(), GracePeriod: 2 * time.Second, RequestTimeout: 500 * time.Millisecond}
	east := asCluster(t, openAt(t, cfg), "east")
	held(t, east, "vol-0", "node-1", state.Exclusive) // so that there is a lease
	s.attach("vol-1", "node-1")
	items := planned(t, s, east)
	proxy.PauseResponses()
	err := Import(t.Context(), east, items, nil)
	proxy.Resume()
	if !errors.Is(err, state.ErrUnknownOutcome) {
		t.Errorf("import ended with %v, want that the outcome is unknown", err)
	}
	expect(t, items, map[string]Result{"vol-1": Unknown})
}

// A VolumeAttachment may go between the reading and the attach.
func TestRecheck(t *testing.T) {
	l, s := openLedger(t), newAPIServer(t)
	east := asCluster(t, l, "east")
	for _, v := range []string{"vol-1", "vol-2", "vol-3", "vol-4", "vol-5"} {
		s.attach(v, "node-1")
	}
	held(t, east, "vol-5", "node-1", state.Exclusive)
	items := planned(t, s, east)
	if err := Import(t.Context(), east, items, nil); err != nil {
		t.Fatal(err)
	}
	s.detach("vol-2", "node-1") // before the hold was there: nobody will end it
	s.edit("vol-3", "node-1", deleting)
	s.detach("vol-4", "node-1")
	if _, err := east.Detach(t.Context(), state.DetachRequest{Volume: "vol-4", Node: "node-1"}); err != nil {
		t.Fatal(err)
	}
	s.detach("vol-5", "node-1") // its hold is not the import's doing
	if err := Recheck(t.Context(), s.reader(t), l, driver, items); err != nil {
		t.Fatal(err)
	}
	expect(t, items, map[string]Result{"vol-1": Done, "vol-2": Left, "vol-3": Done, "vol-4": Done, "vol-5": There})
	details := map[string]string{"vol-2": "has gone meanwhile", "vol-3": "meanwhile it is detaching", "vol-4": "with its hold"}
	for _, i := range items {
		if want := details[i.Volume]; !strings.Contains(i.Detail, want) || want == "" && i.Detail != "" {
			t.Errorf("%s: %q, want %q", i.Volume, i.Detail, want)
		}
	}

	s.answer = func(*apiServer, *http.Request) *apierrors.StatusError { return forbidden("volumeattachments") }
	if err := Recheck(t.Context(), s.reader(t), l, driver, items); !apierrors.IsForbidden(err) {
		t.Errorf("looked again, and was not told that it is forbidden: %v", err)
	}
}

// Detached and attached again meanwhile: the hold is the new one's too, and
// must not be taken for one that nobody needs.
func TestRecheck_AttachedAnew(t *testing.T) {
	l, s := openLedger(t), newAPIServer(t)
	east := asCluster(t, l, "east")
	s.attach("vol-1", "node-1")
	s.attach("vol-2", "node-1")
	items := planned(t, s, east)
	if err := Import(t.Context(), east, items, nil); err != nil {
		t.Fatal(err)
	}
	for _, v := range []string{"vol-1", "vol-2"} {
		s.edit(v, "node-1", func(va *storagev1.VolumeAttachment) { va.UID = "another" })
	}
	s.edit("vol-2", "node-1", func(va *storagev1.VolumeAttachment) { va.Status.Attached = false })
	if err := Recheck(t.Context(), s.reader(t), l, driver, items); err != nil {
		t.Fatal(err)
	}
	expect(t, items, map[string]Result{"vol-1": Done, "vol-2": Done})
	if items[0].Detail != "" || items[1].Detail != "meanwhile it is attaching" {
		t.Errorf("it says %q and %q", items[0].Detail, items[1].Detail)
	}
}
