package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// refuseUsedCluster keeps a benchmark, which makes and deletes Nodes, out of a
// cluster in which somebody works: one that has Nodes.
func refuseUsedCluster(ctx context.Context, kube *rest.Config) error {
	client, err := kubernetes.NewForConfig(kube)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	others, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: ourLabel + "!=" + ourLabelValue, Limit: 1})
	if err != nil {
		return fmt.Errorf("the Nodes at %s: %w", kube.Host, err)
	}
	if len(others.Items) > 0 {
		return fmt.Errorf("the cluster at %s is in use: it has Nodes, such as %s; expected an API server of the benchmark's own, for it makes and deletes Nodes and VolumeAttachments",
			kube.Host, others.Items[0].Name)
	}
	return nil
}

// wipeCluster deletes what a run has made.
func wipeCluster(ctx context.Context, kube *rest.Config) error {
	client, err := kubernetes.NewForConfig(kube)
	if err != nil {
		return err
	}
	ours := metav1.ListOptions{LabelSelector: labelOfOurs}
	err = errors.Join(
		client.CoreV1().Nodes().DeleteCollection(ctx, metav1.DeleteOptions{}, ours),
		client.StorageV1().VolumeAttachments().DeleteCollection(ctx, metav1.DeleteOptions{}, ours),
	)
	if err != nil {
		return fmt.Errorf("cleaning up at %s: %w", kube.Host, err)
	}
	return nil
}
