package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-storage/holdfast/reconcile"
	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/watch"
)

// storm has many nodes vanish at once and measures how fast their attachments go:
// from the change of the node file to the last attachment's deletion, as a watch
// sees it. Brake and rate are open, and there is no quarantine.
//
// The peers delete the same records of another ledger: one in batches that it has
// listed before the clock starts, one as a poller does.
var storm = Workload{
	Name:  "storm",
	About: "many nodes vanish at once: removal of their attachments, beside bare deletes in batches and beside polling",
	Run:   func(ctx context.Context, r *Run) error { return r.storms(ctx) },
}

const (
	// peerBatch is the records of one transaction of the batch peer, and peerRequests
	// how many of those are under way: as many as removals may be.
	peerBatch, peerRequests = 60, 4
	// pollers is how many records the polling peer deletes at a time.
	pollers = 64
	// stormGrace keeps the ends of the graces that removals leave out of the rounds
	// that follow.
	stormGrace = time.Hour
)

func (r *Run) storms(ctx context.Context) error {
	total := r.Sizes.Storm * r.Sizes.OnNode
	side := func(name string, ready func(*stormGround, context.Context) (func(), error), act func(*stormGround, context.Context) error) Side {
		return Side{Name: name, Round: func(ctx context.Context, _ int) (Measured, error) { return r.stormRound(ctx, total, act, ready) }}
	}
	rounds, err := r.CompareBriefly(ctx, "storm", []Param{{"nodes", r.Sizes.Storm}, {"attachments", total}},
		side("holdfast", (*stormGround).lead, (*stormGround).vanish),
		side("batch-delete", (*stormGround).list, (*stormGround).batches),
		side("polling", (*stormGround).nothing, (*stormGround).poll))
	if err != nil {
		return err
	}
	for figure, peer := range map[string]string{"storm_vs_batch_delete": "batch-delete", "storm_vs_polling": "polling"} {
		ratios := Ratios(rounds["holdfast"], rounds[peer], Measured.PerSecond)
		r.Figure(figure, Median(ratios), ratios)
	}
	return nil
}

// stormGround is what a round works on.
type stormGround struct {
	run     *Run
	client  *clientv3.Client // the peer's
	cluster *state.Cluster
	file    string
	source  *watch.File
	nodes   []string
	all     []pair // listed before the clock starts; for the batch peer
}

func (r *Run) stormRound(ctx context.Context, total int, act func(*stormGround, context.Context) error, ready func(*stormGround, context.Context) (func(), error)) (m Measured, err error) {
	g, end, err := r.stormGround(ctx)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, end()) }()
	stop, err := ready(g, ctx)
	if err != nil {
		return m, err
	}
	defer stop()
	last, unwatch, err := gone(ctx, r.Client(), g.cluster.Ledger(), "", total)
	if err != nil {
		return m, err
	}
	defer unwatch()
	began := time.Now()
	if err := act(g, ctx); err != nil {
		return m, err
	}
	at, seen := <-last
	if !seen {
		return m, fmt.Errorf("the watch of the attachments ended: %w", ctx.Err())
	}
	m = Measured{Calls: total, Took: at.Sub(began), Latency: NewLatency(), Errors: map[string]int{}}
	_ = m.Latency.RecordValue(int64(m.Took)) // of the last
	return m, nil
}

// stormGround attaches what a round is about.
func (r *Run) stormGround(ctx context.Context) (*stormGround, func() error, error) {
	ledger, cluster, err := r.Ledger(ctx, "storm", func(c *state.Config) { c.Quarantine, c.GracePeriod = state.NoQuarantine, stormGrace })
	if err != nil {
		return nil, nil, err
	}
	wipe := func() error {
		return errors.Join(ledger.Close(), Wipe(context.WithoutCancel(ctx), r.Client(), ledger.Config().Prefix))
	}
	client, err := r.NewClient(ctx)
	if err != nil {
		return nil, nil, errors.Join(err, wipe())
	}
	g := &stormGround{run: r, client: client, cluster: cluster, nodes: nodeNames(r.Sizes.Storm), file: filepath.Join(r.Temp, "storm-nodes.json")}
	g.source = watch.NewFile(g.file, ClusterUID, r.Log)
	end := func() error { return errors.Join(client.Close(), wipe()) }
	// One node stays: an empty list is never taken for what it says.
	err = errors.Join(populate(ctx, cluster, g.nodes, r.Sizes.OnNode), writeNodes(g.file, append([]string{"stays"}, g.nodes...)))
	if err != nil {
		return nil, nil, errors.Join(err, end())
	}
	return g, end, nil
}

// lead starts a reconciler and waits until it leads.
func (g *stormGround) lead(ctx context.Context) (func(), error) {
	return lead(ctx, reconcile.Config{
		Cluster: g.cluster, Nodes: g.source, Brake: reconcile.BrakeConfig{Fraction: 1}, RemovalRate: 1e9, Logger: g.run.Log,
	})
}

func lead(ctx context.Context, cfg reconcile.Config) (func(), error) {
	r, err := reconcile.New(cfg)
	if err != nil {
		return nil, err
	}
	if err := r.Start(ctx); err != nil {
		return nil, err
	}
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for !r.Leading() {
		select {
		case <-look.C:
		case <-ctx.Done():
			r.Stop()
			return nil, ctx.Err()
		}
	}
	return r.Stop, nil
}

// vanish is the storm: the file has one node left, and the rest is the reconciler's.
func (g *stormGround) vanish(context.Context) error { return writeNodes(g.file, []string{"stays"}) }

// list is what the batch peer has done before the clock starts.
func (g *stormGround) list(ctx context.Context) (func(), error) {
	var err error
	g.all, err = pairs(ctx, g.client, g.cluster.Ledger())
	return func() {}, err
}

// batches deletes both keys of each record, comparing the attachment's revision,
// as fast as a plain client can.
func (g *stormGround) batches(ctx context.Context) error {
	var batches [][]pair
	for all := g.all; len(all) > 0; {
		n := min(peerBatch, len(all))
		batches, all = append(batches, all[:n]), all[n:]
	}
	return failures(Loop(ctx, peerRequests, time.Hour, len(batches), func(ctx context.Context, _, i int) error {
		var ifs []clientv3.Cmp
		var thens []clientv3.Op
		for _, p := range batches[i] {
			ifs = append(ifs, clientv3.Compare(clientv3.ModRevision(p.attachment), "=", p.revision))
			thens = append(thens, clientv3.OpDelete(p.hold), clientv3.OpDelete(p.attachment))
		}
		answer, err := g.client.Txn(ctx).If(ifs...).Then(thens...).Commit()
		if err == nil && !answer.Succeeded {
			err = errors.New("a record has changed")
		}
		return err
	}))
}

// nothing is what the polling peer has done before the clock starts, but for the
// file: it is polled when the nodes are gone, so no wait for the next poll counts.
func (g *stormGround) nothing(ctx context.Context) (func(), error) { return func() {}, g.vanish(ctx) }

// poll is one pass of a poller: it lists all attachments, looks each node up, and
// deletes what has none, whatever has become of it meanwhile.
func (g *stormGround) poll(ctx context.Context) error {
	all, err := pairs(ctx, g.client, g.cluster.Ledger())
	if err != nil {
		return err
	}
	byNode := map[string][]pair{}
	for _, p := range all {
		byNode[p.node] = append(byNode[p.node], p)
	}
	var orphans []pair
	for node, of := range byNode {
		_, err := g.source.Live(ctx, node)
		switch {
		case errors.Is(err, watch.ErrNodeNotFound):
			orphans = append(orphans, of...)
		case err != nil:
			return err
		}
	}
	return failures(Loop(ctx, pollers, time.Hour, len(orphans), func(ctx context.Context, _, i int) error {
		_, err := g.client.Delete(ctx, orphans[i].hold)
		if err == nil {
			_, err = g.client.Delete(ctx, orphans[i].attachment)
		}
		return err
	}))
}

// failures is the first of a round in which none may fail.
func failures(m Measured) error {
	for what, n := range m.Errors {
		return fmt.Errorf("%d of %d failed: %s", n, n+m.Calls, what)
	}
	return nil
}

// writeNodes puts a node file in place, as a whole.
func writeNodes(path string, names []string) error {
	type meta struct {
		Name string `json:"name"`
		UID  string `json:"uid"`
	}
	type node struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   meta   `json:"metadata"`
	}
	list := struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Items      []node `json:"items"`
	}{"v1", "List", nil}
	for _, n := range names {
		list.Items = append(list.Items, node{"v1", "Node", meta{n, "uid-of-" + n}})
	}
	data, err := json.Marshal(list)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
