package bench

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/holdfast-storage/holdfast/state"
)

// coldstart starts controllers on a ledger that has many attachments already, each
// in a process of its own, and measures how long one takes to be ready and how much
// memory it has then. What it is compared with is the least that any program has
// to do that wants to know the attachments: to read their keys and values, in
// pages, with a plain client, and to forget them.
var coldstart = Workload{
	Name:  "coldstart",
	About: "a controller's start until it is ready, beside a bare range of its records; its memory (needs holdfast)",
	Run: func(ctx context.Context, r *Run) error {
		if r.Holdfast == "" {
			r.Skip("coldstart", "there is no holdfast binary beside this one or in $PATH; --holdfast names one")
			return nil
		}
		for i, records := range r.Sizes.Records {
			if err := r.coldstarts(ctx, records, i == len(r.Sizes.Records)-1); err != nil {
				return err
			}
		}
		return nil
	},
}

func (r *Run) coldstarts(ctx context.Context, records int, last bool) error {
	nodes := nodeNames(r.Sizes.Nodes)
	params := []Param{{"attachments", records}, {"nodes", len(nodes)}}
	r.Step("coldstart %s: attaching", paramText(params))
	ledger, cluster, err := r.Ledger(ctx, "coldstart", nil)
	if err != nil {
		return err
	}
	defer func() { _ = ledger.Close() }()
	if err := populate(ctx, cluster, nodes, max(1, records/len(nodes))); err != nil {
		return err
	}
	folder, err := os.MkdirTemp(r.Temp, "coldstart-")
	if err != nil {
		return err
	}
	if err := writeNodes(filepath.Join(folder, nodesFile), nodes); err != nil {
		return err
	}
	identity := state.Identity{Name: ClusterName, UID: ClusterUID}
	bare := Side{Name: "range", Round: func(ctx context.Context, _ int) (Measured, error) { return r.bareRange(ctx, ledger) }}
	holdfast := Side{Name: "holdfast", Round: func(ctx context.Context, _ int) (Measured, error) {
		c, err := r.startController(ctx, ledger, identity, folder)
		if err != nil {
			return Measured{}, err
		}
		return once(records, c.took), c.stop()
	}}
	rounds, err := r.CompareBriefly(ctx, "coldstart", params, bare, holdfast)
	if err != nil {
		return err
	}
	ratios := Ratios(rounds["holdfast"], rounds["range"], func(m Measured) float64 { return m.Took.Seconds() })
	if last {
		r.Figure("coldstart_vs_range", Median(ratios), ratios)
	}
	return r.memory(ctx, ledger, records, folder, last)
}

// once is a measurement of one thing, about so many records.
func once(records int, took time.Duration) Measured {
	m := Measured{Calls: records, Took: took, Latency: NewLatency()}
	_ = m.Latency.RecordValue(int64(took)) // beyond ten minutes it is not told
	return m
}

// rangePage is the page of the bare range: of a size that does not make an etcd stall.
const rangePage = 10_000

// bareRange reads the attachments as a plain client does, its connection included.
func (r *Run) bareRange(ctx context.Context, ledger *state.Ledger) (Measured, error) {
	begun := time.Now()
	client, err := r.NewClient(ctx)
	if err != nil {
		return Measured{}, err
	}
	defer client.Close()
	prefix, found, revision := attachmentsOf(ledger)+ClusterName+"/", 0, int64(0)
	end := clientv3.GetPrefixRangeEnd(prefix)
	for from := prefix; ; {
		page, err := client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(rangePage), clientv3.WithRev(revision))
		if err != nil {
			return Measured{}, err
		}
		revision, found = page.Header.Revision, found+len(page.Kvs)
		if !page.More {
			return once(found, time.Since(begun)), nil
		}
		from = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	}
}

// settled is when a controller with so many records has done what it does after it
// is ready: it walks the holds, and renews every lease once.
func settled(records int) time.Duration {
	return min(30*time.Second, time.Duration(records)*100*time.Microsecond)
}

// emptyCluster has no attachments, and the same nodes.
var emptyCluster = state.Identity{Name: "bench-empty", UID: "00000000-0000-4000-8000-0000000e3797"}

// memory compares a controller with one whose cluster has no attachments: both when
// they are ready and when they have settled, of which the larger counts.
func (r *Run) memory(ctx context.Context, ledger *state.Ledger, records int, folder string, last bool) error {
	var at [2][2]float64 // of the cluster and the empty one, ready and settled
	for i, who := range []state.Identity{{Name: ClusterName, UID: ClusterUID}, emptyCluster} {
		r.Step("coldstart attachments=%d: memory of a controller of %s", records, who.Name)
		own := filepath.Join(folder, who.Name)
		if err := errors.Join(os.Mkdir(own, 0o700), os.Link(filepath.Join(folder, nodesFile), filepath.Join(own, nodesFile))); err != nil {
			return err
		}
		c, err := r.startController(ctx, ledger, who, own)
		if err != nil {
			return err
		}
		at[i][0] = c.resident()
		select {
		case <-time.After(settled(records)):
		case <-ctx.Done():
		}
		at[i][1] = c.resident()
		if err := errors.Join(c.stop(), ctx.Err()); err != nil {
			return err
		}
	}
	if at[0][0] == 0 {
		r.Skip("rss_bytes_per_attachment", "memory is read from /proc/<pid>/status, which this system has not got")
		return nil
	}
	ready, after := (at[0][0]-at[1][0])/float64(records), (at[0][1]-at[1][1])/float64(records)
	r.Add(Row{
		Workload: "coldstart-memory", Side: "holdfast", Params: []Param{{"attachments", records}, {"nodes", r.Sizes.Nodes}}, Calls: records,
		Metrics: []Metric{{Unit: "ready-B/attachment", Value: ready}, {Unit: "settled-B/attachment", Value: after}, {Unit: "empty-B", Value: at[1][1]}},
	})
	if last {
		r.Figure("rss_bytes_per_attachment", max(ready, after), []float64{ready, after})
	}
	return nil
}

// nodesFile is the file of nodes in a controller's folder.
const nodesFile = "nodes.json"
