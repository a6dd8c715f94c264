package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-storage/holdfast/reconcile"
	"github.com/holdfast-storage/holdfast/watch"
)

// resync joins all attachments with all nodes anew, in memory: a Node list that is
// taken in whole, and a judgement of every node by all of its attachments. That is
// more than the backstop of a controller does, which judges only the nodes that
// there is something to decide about.
var resync = Workload{
	Name:  "resync",
	About: "a full join of all attachments and nodes, in memory",
	Run:   func(ctx context.Context, r *Run) error { return r.rejoins(ctx) },
}

func (r *Run) rejoins(ctx context.Context) error {
	names := nodeNames(r.Sizes.Nodes)
	each := max(1, r.Sizes.Records[len(r.Sizes.Records)-1]/len(names))
	params := []Param{{"attachments", each * len(names)}, {"nodes", len(names)}}
	r.Step("resync %s: attaching", paramText(params))
	ledger, cluster, err := r.Ledger(ctx, "resync", nil)
	if err != nil {
		return err
	}
	defer func() { _ = ledger.Close() }()
	if err := populate(ctx, cluster, names, each); err != nil {
		return err
	}
	source := &heldNodes{sinks: make(chan watch.NodeSink, 1)}
	watcher, err := watch.New(watch.Config{Cluster: cluster, Nodes: source, Logger: r.Log})
	if err != nil {
		return err
	}
	running, end := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer end()
	watching.Go(func() { _ = watcher.Run(running) })
	return r.joins(ctx, watcher, source, names, params)
}

func (r *Run) joins(ctx context.Context, watcher *watch.Watcher, source *heldNodes, names []string, params []Param) error {
	sink := <-source.sinks
	since := int64(1)
	take := func() {
		nodes := make([]watch.Node, len(names))
		for i, name := range names {
			nodes[i] = watch.Node{Name: name, Ready: true}
		}
		sink.ReplaceNodes(nodes, since)
		since++ // the view is continuous since then only: all evidence counts anew
	}
	take()
	if err := watcher.WaitSynced(ctx); err != nil {
		return err
	}
	want := params[0].Value
	side := Side{Name: "holdfast", Round: func(context.Context, int) (Measured, error) {
		begun := time.Now()
		take()
		watcher.Rejoin()
		judged, err := judge(watcher, names)
		if err != nil {
			return Measured{}, err
		}
		if judged != want {
			return Measured{}, fmt.Errorf("%d attachments are joined, want %d", judged, want)
		}
		return once(judged, time.Since(begun)), nil
	}}
	rounds, err := r.Compare(ctx, "resync", params, side)
	if err != nil {
		return err
	}
	var took []float64
	for _, m := range rounds["holdfast"] {
		took = append(took, float64(m.Took)/float64(time.Millisecond))
	}
	r.Figure("resync_ms", Median(took), took)
	return nil
}

// judge judges nodes as a reconciler does, as many at a time, and counts the
// attachments that were judged.
func judge(watcher *watch.Watcher, names []string) (int, error) {
	var (
		judging sync.WaitGroup
		judged  atomic.Int64
		wrong   atomic.Pointer[error]
		next    = make(chan string)
	)
	for range reconcile.DefaultWorkers {
		judging.Go(func() {
			for name := range next {
				n := watcher.Node(name)
				plan := reconcile.Plan(watcher.Cluster(), n, reconcile.Gates{UID: ClusterUID, Leading: true})
				if plan.Next != reconcile.StepNone {
					err := fmt.Errorf("node %s is there, and the join says %s", name, plan.Next)
					wrong.Store(&err)
				}
				judged.Add(int64(len(n.Attachments)))
			}
		})
	}
	for _, name := range names {
		next <- name
	}
	close(next)
	judging.Wait()
	if err := wrong.Load(); err != nil {
		return 0, *err
	}
	return int(judged.Load()), nil
}

// heldNodes is a source whose Node list is whatever its sink is told.
type heldNodes struct{ sinks chan watch.NodeSink }

var _ watch.NodeSource = (*heldNodes)(nil)

// Run hands out its sink.
func (s *heldNodes) Run(ctx context.Context, _ func(context.Context) (int64, error), sink watch.NodeSink) error {
	s.sinks <- sink
	<-ctx.Done()
	return ctx.Err()
}

var errNotAsked = errors.New("nothing is removed here")

// Live is for removals.
func (*heldNodes) Live(context.Context, string) (watch.Node, error) {
	return watch.Node{}, errNotAsked
}

// ClusterUID is what the ledger has on record.
func (*heldNodes) ClusterUID(context.Context) (string, error) { return ClusterUID, nil }
