package watch

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
)

var (
	// ErrNodeNotFound: the source is healthy and says for certain that it has
	// no such node. No other failure of a look-up is ever this one.
	ErrNodeNotFound = errors.New("node not found")
	// ErrNotSynced: a source has not given a whole list yet, or is just giving a new one.
	ErrNotSynced = errors.New("not synced")
	// ErrStale: a source has not been heard of for too long, or its last word was an error.
	ErrStale = errors.New("stale")
)

// Node is what the join needs to know of a Kubernetes Node.
type Node struct {
	Name string `json:"name"`
	UID  string `json:"uid,omitempty"`
	// Deleting: the object has a deletion time and is still there.
	Deleting bool `json:"deleting,omitempty"`
	// OutOfService: it has the taint node.kubernetes.io/out-of-service, with
	// any effect: an operator's word that the machine is off.
	OutOfService bool `json:"outOfService,omitempty"`
	// Ready is the Ready condition. It informs; it decides nothing.
	Ready bool `json:"ready"`
}

// NodeSource is where the Node list comes from.
type NodeSource interface {
	// Run feeds sink until ctx ends, and then returns ctx's error once its
	// goroutines are done. Any other error is for good. It calls revision
	// after each list that does not continue the one before it, so that sink
	// learns since when the view has been without a gap: what came and went
	// before the list is in no list, and so not before the revision either.
	Run(ctx context.Context, revision func(context.Context) (int64, error), sink NodeSink) error
	// Live looks a node up past every cache, and asks whether the source
	// itself is healthy. ErrNodeNotFound only where both answers are definite.
	Live(ctx context.Context, name string) (Node, error)
	// ClusterUID is the UID of the kube-system namespace, or what stands for it.
	ClusterUID(ctx context.Context) (string, error)
}

// NodeSink is what a NodeSource feeds. Its methods do not block.
type NodeSink interface {
	// ReplaceNodes says that nodes are all there are, and that since the
	// ledger's revision since no change to the list has gone unseen.
	ReplaceNodes(nodes []Node, since int64)
	// ApplyNode says that a node is so, or that it was deleted.
	ApplyNode(n Node, deleted bool)
	// Heard says that the source answered just now, or, with an error, that it
	// did not: it is stale at once, until it is next heard of.
	Heard(err error)
}

func fromKubernetes(n *corev1.Node) Node {
	out := Node{
		Name:     n.Name,
		UID:      string(n.UID),
		Deleting: n.DeletionTimestamp != nil,
	}
	for _, t := range n.Spec.Taints {
		if t.Key == corev1.TaintNodeOutOfService {
			out.OutOfService = true
		}
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			out.Ready = c.Status == corev1.ConditionTrue
		}
	}
	return out
}
