package reconcile

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/state/statetest"
	"github.com/holdfast-storage/holdfast/watch"
)

func TestMain(m *testing.M) {
	if kind := os.Getenv(fenceCommand); kind != "" {
		os.Exit(runFenceCommand(kind))
	}
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given { // the tests wait far more than they work
		_ = flag.Set("test.parallel", "4")
	}
	os.Exit(statetest.Main(m))
}

// floorWait is the shortest wait that the tests' etcd grants.
const floorWait = 2 * time.Second

// patience bounds every wait of a test. It is no measure of speed.
const patience = 30 * time.Second

// fakeNodes is a Node list that a test has in its hands. Any number of watchers
// may be fed from one.
type fakeNodes struct {
	mu      sync.Mutex
	nodes   map[string]watch.Node
	down    error // the API answers with this
	deaf    bool  // watchers learn of nothing
	sinks   map[watch.NodeSink]func() int64
	changed chan struct{}
	// onLive is called before a live check answers; its error is the answer.
	onLive func(ctx context.Context, name string) error
	lives  int
}

func newNodes(names ...string) *fakeNodes {
	f := &fakeNodes{nodes: map[string]watch.Node{}, sinks: map[watch.NodeSink]func() int64{}, changed: make(chan struct{})}
	for _, n := range names {
		f.nodes[n] = watch.Node{Name: n, UID: "uid-of-" + n, Ready: true}
	}
	return f
}

func (f *fakeNodes) Run(ctx context.Context, revision func(context.Context) (int64, error), sink watch.NodeSink) error {
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.sinks, sink)
	}()
	for {
		f.mu.Lock()
		changed := f.changed
		if f.down != nil {
			sink.Heard(f.down)
		} else {
			f.sinks[sink] = func() int64 {
				since, err := revision(ctx)
				if err != nil {
					return 0
				}
				return since
			}
			f.list(sink)
			f.mu.Unlock()
			<-ctx.Done()
			return ctx.Err()
		}
		f.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// list gives a sink the whole list. The caller has the lock.
func (f *fakeNodes) list(sink watch.NodeSink) {
	since := f.sinks[sink]()
	sink.ReplaceNodes(slices.Collect(maps.Values(f.nodes)), since)
}

// relist is a gap in every watcher's view. The nodes that are named have gone
// meanwhile, all at one moment.
func (f *fakeNodes) relist(gone ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range gone {
		delete(f.nodes, name)
	}
	for sink := range f.sinks {
		f.list(sink)
	}
}

func (f *fakeNodes) Live(ctx context.Context, name string) (watch.Node, error) {
	f.mu.Lock()
	f.lives++
	hook, down := f.onLive, f.down
	f.mu.Unlock()
	if hook != nil {
		if err := hook(ctx, name); err != nil {
			return watch.Node{}, err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if down != nil {
		return watch.Node{}, down
	}
	n, ok := f.nodes[name]
	if !ok {
		return watch.Node{}, watch.ErrNodeNotFound
	}
	return n, nil
}

func (f *fakeNodes) ClusterUID(context.Context) (string, error) { return "uid-of-a", nil }

func (f *fakeNodes) put(n watch.Node) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nodes[n.Name] = n
	f.tell(n, false)
}

func (f *fakeNodes) add(name string) {
	f.put(watch.Node{Name: name, UID: "uid-of-" + name, Ready: true})
}

func (f *fakeNodes) remove(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.nodes[name]
	delete(f.nodes, name)
	f.tell(n, true)
}

func (f *fakeNodes) tell(n watch.Node, deleted bool) {
	for sink := range f.sinks {
		if !f.deaf {
			sink.ApplyNode(n, deleted)
		}
	}
}

// fail makes the API answer with an error from now on, nil with none.
func (f *fakeNodes) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = err
	for sink := range f.sinks {
		sink.Heard(err)
	}
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *fakeNodes) setDeaf(deaf bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deaf = deaf
}

func (f *fakeNodes) atLive(hook func(ctx context.Context, name string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onLive = hook
}

func (f *fakeNodes) liveChecks() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lives
}

// world is a ledger of the test's own on a real etcd, and the cluster a.
type world struct {
	t       *testing.T
	prefix  string
	edits   []func(*state.Config)
	nodes   *fakeNodes
	ledger  *state.Ledger
	cluster *state.Cluster
}

// Settings of a world's ledgers.
func noQuarantine(c *state.Config) { c.Quarantine = state.NoQuarantine }

func shortWaits(c *state.Config) {
	c.Quarantine, c.GracePeriod, c.ElectionTTL = floorWait, floorWait, floorWait
}

func matchUID(c *state.Config) { c.MatchNodeUID = true }

func newWorld(t *testing.T, nodes *fakeNodes, edits ...func(*state.Config)) *world {
	t.Helper()
	w := &world{t: t, prefix: statetest.Prefix(t), edits: edits, nodes: nodes}
	w.ledger, w.cluster = w.open()
	return w
}

// open opens the ledger as another process would.
func (w *world) open(edits ...func(*state.Config)) (*state.Ledger, *state.Cluster) {
	w.t.Helper()
	cfg := state.Config{
		Endpoints: statetest.Shared(w.t).Endpoints(), Prefix: w.prefix, By: "test", Logger: slog.New(slog.DiscardHandler),
	}
	for _, e := range append(slices.Clone(w.edits), edits...) {
		e(&cfg)
	}
	ledger, err := state.Open(w.t.Context(), cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := ledger.Close(); err != nil {
			w.t.Error(err)
		}
	})
	cluster, err := ledger.Cluster(w.t.Context(), state.Identity{Name: "a", UID: "uid-of-a"})
	if err != nil {
		w.t.Fatal(err)
	}
	return ledger, cluster
}

// reconciler makes one over a connection of its own. The test's end stops it.
func (w *world) reconciler(edits ...func(*Config)) *Reconciler {
	w.t.Helper()
	_, cluster := w.open()
	return w.reconcilerOf(cluster, edits...)
}

func (w *world) reconcilerOf(cluster *state.Cluster, edits ...func(*Config)) *Reconciler {
	w.t.Helper()
	// Nothing may wait for a resync.
	cfg := Config{Cluster: cluster, Nodes: w.nodes, Resync: time.Hour, Logger: testLog(w.t)}
	for _, e := range edits {
		e(&cfg)
	}
	r, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(r.Stop)
	return r
}

// started starts a reconciler and waits until it leads.
func (w *world) started(edits ...func(*Config)) *Reconciler {
	w.t.Helper()
	r := w.reconciler(edits...)
	w.start(r)
	eventually(w.t, "it leads", r.Leading)
	return r
}

func (w *world) start(r *Reconciler) {
	w.t.Helper()
	if err := r.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// pass is one explicit pass.
func (w *world) pass(r *Reconciler) error {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	return r.Reconcile(ctx)
}

func (w *world) attach(volume, node string) state.Hold {
	w.t.Helper()
	h, err := w.cluster.Attach(w.t.Context(), state.AttachRequest{Volume: volume, Node: node, NodeUID: "uid-of-" + node})
	if err != nil {
		w.t.Fatalf("attach %s to %s: %v", volume, node, err)
	}
	return h
}

func (w *world) detach(volume, node string) {
	w.t.Helper()
	if _, err := w.cluster.Detach(w.t.Context(), state.DetachRequest{Volume: volume, Node: node}); err != nil {
		w.t.Fatalf("detach %s from %s: %v", volume, node, err)
	}
}

// holders are the nodes that hold a volume.
func (w *world) holders(volume string) []string {
	w.t.Helper()
	v, err := w.ledger.Volume(w.t.Context(), volume)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, h := range v.Holds {
		out = append(out, h.Node)
	}
	return out
}

func (w *world) held(volume string) bool { w.t.Helper(); return len(w.holders(volume)) > 0 }

func (w *world) mustHold(volume string, nodes ...string) {
	w.t.Helper()
	if got := w.holders(volume); !slices.Equal(got, nodes) {
		w.t.Errorf("volume %s is held by %v, want %v", volume, got, nodes)
	}
}

// removed waits until a volume is held no more.
func (w *world) removed(volumes ...string) {
	w.t.Helper()
	for _, v := range volumes {
		eventually(w.t, "volume "+v+" is removed", func() bool { return !w.held(v) })
	}
}

// journal are the entries of cluster a with an action.
func (w *world) journal(action state.Action) []state.Entry {
	w.t.Helper()
	var out []state.Entry
	for e, err := range w.ledger.Journal(w.t.Context(), "a", time.Time{}) {
		if err != nil {
			w.t.Fatal(err)
		}
		if e.Action == action {
			out = append(out, e)
		}
	}
	return out
}

// departure is the one of a node on record, nil if there is none.
func (w *world) departure(node string) *state.Departure {
	w.t.Helper()
	for d, err := range w.ledger.Departures(w.t.Context(), "a") {
		if err != nil {
			w.t.Fatal(err)
		}
		if d.Node == node {
			return &d
		}
	}
	return nil
}

func (w *world) departed(node string) state.Departure {
	w.t.Helper()
	eventually(w.t, "node "+node+" has departed", func() bool { return w.departure(node) != nil })
	return *w.departure(node)
}

func (w *world) quarantined(node string) bool {
	w.t.Helper()
	for q, err := range w.ledger.Quarantines(w.t.Context(), "a") {
		if err != nil {
			w.t.Fatal(err)
		}
		if q.Node == node {
			return true
		}
	}
	return false
}

// departures counts how often a departure of a node was put, over all history.
func (w *world) departures(node string) int {
	w.t.Helper()
	n := 0
	for _, e := range statetest.Shared(w.t).History(w.t, w.prefix+"v1/departures/a/"+node, 1) {
		if !e.Deleted {
			n++
		}
	}
	return n
}

// lead takes the lead of cluster a in the test's own hands.
func (w *world) lead() *state.Leadership {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	ld, err := w.cluster.Campaign(ctx, "test")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(ld.Resign)
	return ld
}

// eventually looks again and again until is is true.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if !await(ctx, nil, is) {
		t.Fatalf("waited %s in vain until %s", patience, what)
	}
}

// judgedAgain has every suspect looked at once more.
func (w *world) judgedAgain(r *Reconciler) {
	w.t.Helper()
	before := judgements(r)
	r.watcher.Rejoin()
	eventually(w.t, "a node is judged again", func() bool { return judgements(r) > before })
}

func testLog(t *testing.T) *slog.Logger {
	if !testing.Verbose() {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

var errAPI = errors.New("the API server is on fire")
