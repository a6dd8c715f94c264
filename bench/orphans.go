package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"github.com/holdfast-storage/holdfast/reconcile"
	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/watch"
)

// orphans deletes one Node after another of an API server, and measures how long
// the attachments of each stay: from just before the DELETE is sent to when a
// watch of etcd has seen the last of them go. The controller is as it comes, but
// for the quarantine, of which there is none, and the brake.
var orphans = Workload{
	Name:  "orphans",
	About: "a Node deleted among many: time to its last attachment's removal (needs --kubeconfig)",
	Run: func(ctx context.Context, r *Run) error {
		if r.Kube == nil {
			r.Skip("orphans", "there is no API server; --kubeconfig names one")
			return nil
		}
		return r.vanishing(ctx)
	},
}

// vanishEvery keeps one Node's removal out of the next one's way, as the removal
// rate that controllers have by default does: 500 a second.
const vanishEvery = 400 * time.Millisecond

func (r *Run) vanishing(ctx context.Context) (err error) {
	ledger, cluster, err := r.Ledger(ctx, "orphans", func(c *state.Config) { c.Quarantine = state.NoQuarantine })
	if err != nil {
		return err
	}
	defer func() { _ = ledger.Close() }()
	nodes, err := newKubeNodes(r.Kube)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, nodes.deleteAll(context.WithoutCancel(ctx))) }()
	names := nodeNames(max(r.Sizes.Among/r.Sizes.OnNode, r.Sizes.Vanish+1))
	params := []Param{{"attachments", len(names) * r.Sizes.OnNode}, {"on-node", r.Sizes.OnNode}}
	r.Step("orphans %s: making Nodes and attachments", paramText(params))
	if err := errors.Join(nodes.create(ctx, names), populate(ctx, cluster, names, r.Sizes.OnNode)); err != nil {
		return err
	}
	source, err := watch.NewKubernetes(r.Kube)
	if err != nil {
		return err
	}
	stop, err := lead(ctx, reconcile.Config{Cluster: cluster, Nodes: source, Brake: reconcile.BrakeConfig{Fraction: 1}, Logger: r.Log})
	if err != nil {
		return err
	}
	defer stop()
	m := Measured{Calls: r.Sizes.Vanish, Latency: NewLatency(), Errors: map[string]int{}}
	var took []float64
	for i, name := range names[:r.Sizes.Vanish] {
		r.Step("orphans %s: Node %d of %d", paramText(params), i+1, r.Sizes.Vanish)
		one, err := r.vanish(ctx, ledger, nodes, name)
		if err != nil {
			return err
		}
		m.Took += one
		_ = m.Latency.RecordValue(int64(one))
		took = append(took, float64(one)/float64(time.Millisecond))
	}
	r.AddMeasured("orphans", "holdfast", params, 0, m)
	r.Figure("orphan_latency_p99_ms", quantile(took, 0.99), took)
	return nil
}

func (r *Run) vanish(ctx context.Context, ledger *state.Ledger, nodes *kubeNodes, name string) (time.Duration, error) {
	select {
	case <-time.After(vanishEvery):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	last, end, err := gone(ctx, r.Client(), ledger, name, r.Sizes.OnNode)
	if err != nil {
		return 0, err
	}
	defer end()
	began := time.Now()
	if err := nodes.client.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return 0, err
	}
	at, seen := <-last
	if !seen {
		return 0, fmt.Errorf("node %s: the watch of its attachments ended: %w", name, ctx.Err())
	}
	return at.Sub(began), nil
}

// quantile of a few samples: the one that the share q of them does not exceed.
func quantile(of []float64, q float64) float64 {
	s := slices.Sorted(slices.Values(of))
	return s[min(len(s)-1, int(q*float64(len(s))))]
}

// kubeNodes makes Nodes that no machine stands behind. An API server keeps them
// until somebody deletes them; where a node lifecycle controller runs, it may.
type kubeNodes struct{ client corev1client.NodeInterface }

func newKubeNodes(kube *rest.Config) (*kubeNodes, error) {
	kube = rest.CopyConfig(kube)
	kube.QPS = -1 // no limit of the client's own
	clients, err := kubernetes.NewForConfig(kube)
	if err != nil {
		return nil, err
	}
	return &kubeNodes{clients.CoreV1().Nodes()}, nil
}

func (n *kubeNodes) create(ctx context.Context, names []string) error {
	const atOnce = 16
	return failures(Loop(ctx, atOnce, time.Hour, len(names), func(ctx context.Context, _, i int) error {
		_, err := n.client.Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{
			Name: names[i], Labels: map[string]string{ourLabel: ourLabelValue},
		}}, metav1.CreateOptions{})
		return err
	}))
}

func (n *kubeNodes) deleteAll(ctx context.Context) error {
	return n.client.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: labelOfOurs})
}
