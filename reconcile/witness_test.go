package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/state/statetest"
	"github.com/holdfast-storage/holdfast/watch"
)

// heldStore is a WitnessStore in a test's hands.
type heldStore struct {
	mu      sync.Mutex
	data    []byte
	version int
	down    error
	stores  int
	onStore func(n int) error // before the nth Store; its error is the answer
}

func (s *heldStore) Load(context.Context) ([]byte, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.data, strconv.Itoa(s.version), s.down
}

func (s *heldStore) Store(_ context.Context, data []byte, version string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stores++
	if s.onStore != nil {
		if err := s.onStore(s.stores); err != nil {
			return "", err
		}
	}
	switch {
	case s.down != nil:
		return "", s.down
	case version != strconv.Itoa(s.version):
		return "", ErrWitnessMoved
	}
	s.data = data
	s.version++
	return strconv.Itoa(s.version), nil
}

func (s *heldStore) set(edit func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	edit()
}

// restorableWorld is one on an etcd that can be restored.
func restorableWorld(t *testing.T, nodes *fakeNodes) (*world, *statetest.Process, string) {
	t.Helper()
	util := statetest.Binary(t, "etcdutl")
	etcd := statetest.StartProcess(t, statetest.Binary(t, "etcd"))
	return newWorld(t, nodes, noQuarantine, func(c *state.Config) { c.Endpoints, c.GracePeriod = etcd.Endpoints(), floorWait }), etcd, util
}

// bumped is how a restore should be made, and one that no header tells of.
var bumped = []string{"--bump-revision=1000000000", "--mark-compacted"}

func witnessed(store WitnessStore) func(*Config) {
	return func(c *Config) { c.Witness = store }
}

// quickly makes a reconciler renew its witness often.
func quickly(r *Reconciler) *Reconciler {
	r.witnessEvery = 50 * time.Millisecond
	return r
}

func rounds(r *Reconciler, result string) float64 {
	return value(r.metrics.witness.WithLabelValues(result))
}

func (w *world) freezes() []state.RestoreFreeze {
	w.t.Helper()
	var out []state.RestoreFreeze
	for f, err := range w.ledger.Freezes(w.t.Context()) {
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, f)
	}
	return out
}

func (w *world) unfreeze() {
	w.t.Helper()
	if err := w.ledger.Unfreeze(w.t.Context(), "op", true); err != nil {
		w.t.Fatal(err)
	}
}

func TestOutside_Contradicts(t *testing.T) {
	known := state.Known{LedgerUUID: "u", Epoch: 1, EtcdID: "e", Revision: 100}
	o := outside{Store: "s", Nonce: "n1", Next: "n2", Known: known, By: "test"}
	settled := o
	settled.Next = ""
	sight := func(edit func(*state.Sight), nonce string) state.Sight {
		s := state.Sight{Known: known}
		if nonce != "" {
			s.Witness.Nonces = []state.Nonce{{Store: "other", Nonce: "n9"}, {Store: "s", Nonce: nonce}}
		}
		edit(&s)
		s.Ledger.UUID, s.Ledger.Epoch = s.Known.LedgerUUID, s.Known.Epoch
		return s
	}
	same := func(*state.Sight) {}
	for name, tc := range map[string]struct {
		o    outside
		s    state.Sight
		says string
	}{
		"the same":             {settled, sight(same, "n1"), ""},
		"before the renewal":   {o, sight(same, "n1"), ""},
		"after the renewal":    {o, sight(same, "n2"), ""},
		"later":                {o, sight(func(s *state.Sight) { s.Known.Revision++ }, "n2"), ""},
		"an older nonce":       {o, sight(same, "n0"), "witness"},
		"no nonce":             {o, sight(same, ""), "witness"},
		"the next, unasked":    {settled, sight(same, "n2"), "witness"},
		"an older revision":    {o, sight(func(s *state.Sight) { s.Known.Revision-- }, "n1"), "revision"},
		"another etcd":         {o, sight(func(s *state.Sight) { s.Known.EtcdID = "f" }, "n1"), "cluster ID"},
		"another ledger":       {o, sight(func(s *state.Sight) { s.Known.LedgerUUID = "v" }, "n1"), "UUID"},
		"an older epoch":       {o, sight(func(s *state.Sight) { s.Known.Epoch = 0 }, "n1"), "epoch"},
		"accepted":             {o, sight(func(s *state.Sight) { s.Known = state.Known{LedgerUUID: "u", Epoch: 2, EtcdID: "f", Revision: 1} }, "n0"), ""},
		"another, not of ours": {o, sight(func(s *state.Sight) { s.Known = state.Known{LedgerUUID: "v", Epoch: 9} }, ""), "UUID"},
		"another, accepted": {o, sight(func(s *state.Sight) {
			s.Known, s.Ledger.Formerly = state.Known{LedgerUUID: "v", Epoch: 2}, []string{"t", "u"}
		}, ""), ""},
		"the first renewal died": {outside{Store: "s", Next: "n1", Known: known}, sight(same, ""), ""},
		"the first got through":  {outside{Store: "s", Next: "n1", Known: known}, sight(same, "n1"), ""},
	} {
		if why := tc.o.contradicts(tc.s); tc.says == "" && why != "" || !strings.Contains(why, tc.says) {
			t.Errorf("%s: %q, want %q", name, why, tc.says)
		}
	}
}

// A restore that no header tells of: the leader that runs notices it, freezes the
// ledger and goes on, and once an operator has accepted it, so does the removal.
func TestWitness_RestoredWhileItLeads(t *testing.T) {
	w, etcd, util := restorableWorld(t, newNodes("n1", "n2"))
	w.attach("vol-1", "n1")
	store := &heldStore{}
	r := quickly(w.reconciler(witnessed(store)))
	snapshot := etcd.Snapshot(t)
	w.start(r)
	eventually(t, "it has a witness", func() bool { return rounds(r, resultOK) > 1 })
	etcd.Restore(t, util, snapshot, bumped...)
	eventually(t, "it has frozen the ledger", func() bool { return len(w.freezes()) == 1 })
	if f := w.freezes()[0]; f.Cluster != "a" || !strings.Contains(f.Why, "witness") {
		t.Errorf("the freeze: %+v", f)
	}
	_, err := w.cluster.Attach(t.Context(), state.AttachRequest{Volume: "vol-2", Node: "n1"})
	if !errors.Is(err, state.ErrRestoreNoticed) {
		t.Errorf("an attach: %v", err)
	}
	w.nodes.remove("n1")
	eventually(t, "the orphan is held back", func() bool { return value(r.metrics.heldBack.WithLabelValues(string(Frozen))) == 1 })
	before := rounds(r, resultRestored)
	eventually(t, "it looks again", func() bool { return rounds(r, resultRestored) > before+2 })
	if n := value(r.metrics.restores); n != 1 {
		t.Errorf("it noticed %v restores, want one", n)
	}
	w.mustHold("vol-1", "n1")
	w.unfreeze()
	w.removed("vol-1")
	if left := w.freezes(); len(left) != 0 {
		t.Errorf("frozen again: %+v", left)
	}
}

// The one that starts after a restore knows of it from the store alone. An empty
// etcd in which a new ledger was made is no other case.
func TestWitness_RestoredWhileNobodyRan(t *testing.T) {
	for name, restore := range map[string]func(t *testing.T, etcd *statetest.Process, util, snapshot string){
		"an older snapshot": func(t *testing.T, etcd *statetest.Process, util, snapshot string) { etcd.Restore(t, util, snapshot) },
		"a bumped revision": func(t *testing.T, etcd *statetest.Process, util, snapshot string) {
			etcd.Restore(t, util, snapshot, bumped...)
		},
		"another token": func(t *testing.T, etcd *statetest.Process, util, snapshot string) {
			etcd.Restore(t, util, snapshot, append(bumped, "--initial-cluster-token=other")...)
		},
		"an empty etcd": func(t *testing.T, etcd *statetest.Process, _, _ string) { etcd.Empty(t) },
	} {
		t.Run(name, func(t *testing.T) {
			w, etcd, util := restorableWorld(t, newNodes("n1"))
			store := NewWitnessFile(filepath.Join(t.TempDir(), "witness"))
			snapshot := etcd.Snapshot(t)
			ledger, cluster := w.open()
			r := quickly(w.reconcilerOf(cluster, witnessed(store)))
			w.start(r)
			eventually(t, "it has a witness", func() bool { return rounds(r, resultOK) > 1 })
			r.Stop()
			// Nobody is left who remembers.
			for _, l := range []*state.Ledger{ledger, w.ledger} {
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
			}
			restore(t, etcd, util, snapshot)

			w.ledger, w.cluster = w.open()
			w.attach("vol-1", "gone") // a driver is faster
			r = quickly(w.reconciler(witnessed(store)))
			w.start(r)
			eventually(t, "it has frozen the ledger", func() bool { return len(w.freezes()) == 1 })
			eventually(t, "the orphan is held back", func() bool { return value(r.metrics.heldBack.WithLabelValues(string(Frozen))) == 1 })
			w.mustHold("vol-1", "gone")
			w.unfreeze()
			w.removed("vol-1")
			eventually(t, "its witness is renewed", func() bool { return rounds(r, resultOK) > 1 })
			if left := w.freezes(); len(left) != 0 {
				t.Errorf("frozen again: %+v", left)
			}
		})
	}
}

// A restore between the live check and the removal: etcd refuses the removal.
func TestWitness_RestoredBeforeARemoval(t *testing.T) {
	w, etcd, util := restorableWorld(t, newNodes("n1"))
	w.attach("vol-1", "n2")
	store := &heldStore{}
	r := w.reconciler(witnessed(store))
	r.witnessEvery, r.good = time.Hour, patience // it looks when something tells it to
	w.nodes.atLive(onceLive(func(context.Context) error {
		snapshot, before := etcd.Snapshot(t), rounds(r, resultOK)
		r.current().term.Load().witness.look()
		eventually(t, "the witness is renewed", func() bool { return rounds(r, resultOK) > before })
		etcd.Restore(t, util, snapshot, bumped...)
		return watch.ErrNodeNotFound
	}))
	w.start(r)
	eventually(t, "the removal is refused", func() bool { return value(r.metrics.fails.WithLabelValues("restored")) > 0 })
	eventually(t, "it has frozen the ledger", func() bool { return len(w.freezes()) == 1 }) // the refusal made it look
	w.mustHold("vol-1", "n2")
	if n := len(w.journal(state.ActionRemoved)); n != 0 {
		t.Errorf("%d removals in the journal", n)
	}
}

// Where the store cannot be used nothing is removed, one line says so, and
// attaches go on. When it can, so do the removals.
func TestWitness_StoreUnusable(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		begin, mend func(*heldStore)
		says        string
	}{
		"unreadable": {func(s *heldStore) { s.down = errors.New("away") }, func(s *heldStore) { s.down = nil }, "reading the witness outside etcd: away"},
		"garbled":    {func(s *heldStore) { s.data = []byte("{\"store\":\"x") }, func(s *heldStore) { s.data = nil }, "does not decode"},
		"of another": {func(s *heldStore) { s.data = []byte("{}") }, func(s *heldStore) { s.data = nil }, "does not decode"},
		"read only": {func(s *heldStore) { s.onStore = func(int) error { return errors.New("read only") } }, func(s *heldStore) { s.onStore = nil },
			"writing the witness outside etcd: read only"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, newNodes("n1"), noQuarantine)
			w.attach("vol-1", "n2")
			store, log := &heldStore{}, &lineLog{}
			tc.begin(store)
			r := quickly(w.reconciler(witnessed(store), func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(log, nil)) }))
			w.start(r)
			eventually(t, "the orphan is held back", func() bool { return value(r.metrics.heldBack.WithLabelValues(string(Unwitnessed))) == 1 })
			eventually(t, "it has tried again", func() bool { return rounds(r, resultError) > 3 })
			w.mustHold("vol-1", "n2")
			w.attach("vol-2", "n1")
			if n := log.count(tc.says); n != 1 {
				t.Errorf("%d lines say %q, want one:\n%s", n, tc.says, log)
			}
			store.set(func() { tc.mend(store) })
			w.removed("vol-1")
			if len(w.freezes()) != 0 {
				t.Error("it took an unusable store for a restore")
			}
		})
	}
}

// lineLog keeps what is logged.
type lineLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lineLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lineLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lineLog) count(what string) int {
	n := 0
	for line := range strings.Lines(l.String()) {
		if strings.Contains(line, what) {
			n++
		}
	}
	return n
}

// Wherever a leader dies in a renewal, the next one goes on: at the first renewal
// of all, and at a later one.
func TestWitness_DiesInARenewal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1"), noQuarantine)
	store := &heldStore{}
	for n := 1; n <= 4; n++ {
		store.set(func() {
			store.stores, store.onStore = 0, func(now int) error {
				if now >= n {
					return errors.New("dead") // from here on nothing of it arrives
				}
				return nil
			}
		})
		r := quickly(w.reconciler(witnessed(store)))
		w.start(r)
		eventually(t, "it is as good as dead", func() bool { return rounds(r, resultError) > 0 })
		r.Stop()
		store.set(func() { store.onStore = nil })
		r = quickly(w.reconciler(witnessed(store)))
		w.start(r)
		eventually(t, "the next one renews", func() bool { return rounds(r, resultOK) > 1 })
		if n := value(r.metrics.restores); n != 0 || len(w.freezes()) != 0 {
			t.Fatalf("after a death before store %v of a term: taken for a restore: %+v", n, w.freezes())
		}
		r.Stop()
	}
}

// A renewal that was given up can still reach etcd, between the next one's look
// and its put, as from a member that stood still. That is no restore.
func TestWitness_LateRenewal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1"), noQuarantine)
	store := &heldStore{}
	r := w.reconciler(witnessed(store))
	r.witnessEvery = time.Hour // the rounds are the test's
	w.start(r)
	eventually(t, "it has a witness", func() bool { return rounds(r, resultOK) == 1 })
	renewing := r.current().term.Load().witness

	givenUp, giveUp := context.WithCancel(t.Context())
	store.onStore = func(int) error { giveUp(); return nil }
	if err := renewing.round(givenUp); !errors.Is(err, context.Canceled) {
		t.Fatalf("a renewal that is given up before its put: %v", err)
	}
	late := *renewing.last
	seen, err := w.cluster.Sight(t.Context())
	if err != nil || late.Next == "" || seen.Witness.Of(late.Store) != late.Nonce {
		t.Fatalf("nothing is under way: %+v, etcd has %+v, %v", late, seen.Witness, err)
	}
	store.onStore = func(int) error {
		store.onStore = nil
		_, err := renewing.lead.PutWitness(t.Context(), seen.Witness, late.Store, late.Next)
		return err
	}
	_ = renewing.round(t.Context()) // the other one was faster
	if err := renewing.round(t.Context()); err != nil || len(w.freezes()) != 0 {
		t.Errorf("after it: %v; frozen by %+v", err, w.freezes())
	}
}

// Replicas with a file each, in turn; then one whose file somebody else writes, or
// takes away, while it leads: none of that is a restore.
func TestWitness_FilesOfReplicas(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1"), noQuarantine)
	dir := t.TempDir()
	var r *Reconciler
	for i := range 5 {
		r = quickly(w.reconciler(witnessed(NewWitnessFile(filepath.Join(dir, strconv.Itoa(i%2))))))
		w.start(r)
		eventually(t, "it renews", func() bool { return rounds(r, resultOK) > 1 })
		if i < 4 {
			r.Stop()
		}
	}
	path := filepath.Join(dir, "0")
	for _, change := range []func() error{
		func() error { return os.Remove(path) },
		func() error { return os.WriteFile(path, []byte("{}"), 0o600) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it has put it right", func() bool {
			data, err := os.ReadFile(path)
			if err != nil {
				return false
			}
			_, err = parseOutside(data)
			return err == nil
		})
	}
	if len(w.freezes()) != 0 {
		t.Errorf("frozen: %+v", w.freezes())
	}
	r.Stop() // which else may be putting the next one
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

// A dry run writes nothing, and neither reads nor waits for a store.
func TestWitness_DryRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, newNodes("n1"), noQuarantine)
	w.attach("vol-1", "n2")
	store := &heldStore{down: errors.New("away")}
	r := w.reconciler(witnessed(store), func(c *Config) { c.DryRun = true })
	if err := w.pass(r); err != nil {
		t.Fatal(err)
	}
	s, err := w.cluster.Sight(t.Context())
	if err != nil || s.Witness.ModRevision != 0 || store.stores != 0 {
		t.Errorf("it has written %d times: %+v, %v", store.stores, s.Witness, err)
	}
}

func TestWitnessFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "witness")
	f := NewWitnessFile(path)
	data, none, err := f.Load(t.Context())
	if data != nil || err != nil {
		t.Fatalf("where there is none: %q, %v", data, err)
	}
	first, err := f.Store(t.Context(), []byte("one"), none)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Store(t.Context(), []byte("two"), none); !errors.Is(err, ErrWitnessMoved) {
		t.Errorf("over what was not read: %v", err)
	}
	if _, err = f.Store(t.Context(), []byte("two"), first); err != nil {
		t.Error(err)
	}
	if data, _, err := f.Load(t.Context()); string(data) != "two" || err != nil {
		t.Errorf("read: %q, %v", data, err)
	}
	for name, content := range map[string][]byte{"torn": {}, "far too long": make([]byte, maxWitnessBytes+1)} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := f.Load(t.Context()); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewWitnessFile(filepath.Join(t.TempDir(), "no", "folder")).Store(t.Context(), []byte("x"), ""); err == nil {
		t.Error("in a folder that is not there: no error")
	}
}

// A leader that is stopped in the middle of a Store, and goes on when another
// has stored, must not put its own in the place of that.
func TestWitnessFile_StoppedInAStore(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "witness")
	f := NewWitnessFile(path)
	first, err := f.Store(t.Context(), []byte("first"), "")
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := lockFolder(t.Context(), filepath.Dir(path)) // as one that is stopped there
	if err != nil {
		t.Fatal(err)
	}
	late := make(chan error, 1)
	go func() {
		_, err := f.Store(t.Context(), []byte("late"), first)
		late <- err
	}()
	hurried, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := f.Store(hurried, []byte("hurried"), first); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("stored while another process is in the middle of it: %v", err)
	}
	if err := os.WriteFile(path, []byte("second"), 0o600); err != nil {
		t.Fatal(err)
	}
	unlock()
	if err := <-late; !errors.Is(err, ErrWitnessMoved) {
		t.Errorf("stored over what it had not read: %v", err)
	}
	if data, _, err := f.Load(t.Context()); err != nil || string(data) != "second" {
		t.Errorf("there is %q, %v", data, err)
	}
}
