package bench

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	storagev1client "k8s.io/client-go/kubernetes/typed/storage/v1"
	"k8s.io/client-go/rest"

	"github.com/holdfast-storage/holdfast/state"
)

// volumeAttachment compares an attach with what Kubernetes keeps of the same
// fact: a VolumeAttachment, created through a kube-apiserver, on whatever etcd
// that has. Both have as many callers, over one connection each. An API server that
// limits how many requests of whoever runs this it changes things for at a time (200
// by default, none for system:masters) has the others wait.
var volumeAttachment = Workload{
	Name:  "volumeattachment",
	About: "attach beside creating a VolumeAttachment through a kube-apiserver (needs --kubeconfig)",
	Run: func(ctx context.Context, r *Run) error {
		if r.Kube == nil {
			r.Skip("volumeattachment", "there is no API server; --kubeconfig names one")
			return nil
		}
		return r.volumeAttachments(ctx)
	},
}

func (r *Run) volumeAttachments(ctx context.Context) (err error) {
	ledger, cluster, err := r.Ledger(ctx, "volumeattachment", nil)
	if err != nil {
		return err
	}
	defer func() { _ = ledger.Close() }()
	peer, err := newVolumeAttachments(r.Kube)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, peer.delete(context.WithoutCancel(ctx))) }()

	callers := r.mostCallers()
	var volumes atomic.Int64
	holdfast := Side{Name: "holdfast", Round: func(ctx context.Context, _ int) (Measured, error) {
		return Loop(ctx, callers, r.Sizes.Round, 0, func(ctx context.Context, caller, _ int) error {
			_, err := cluster.Attach(ctx, state.AttachRequest{
				Volume: fmt.Sprintf("volume-%033d", volumes.Add(1)), Node: fmt.Sprintf("node-%04d", caller),
			})
			return err
		}), nil
	}}
	kubernetes := Side{Name: "volumeattachment", Round: func(ctx context.Context, _ int) (Measured, error) {
		return Loop(ctx, callers, r.Sizes.Round, 0, func(ctx context.Context, caller, _ int) error {
			return peer.create(ctx, fmt.Sprintf("node-%04d", caller))
		}), nil
	}}
	rounds, err := r.Compare(ctx, "volumeattachment", []Param{{"callers", callers}}, holdfast, kubernetes)
	if err != nil {
		return err
	}
	ratios := Ratios(rounds["holdfast"], rounds["volumeattachment"], Measured.PerSecond)
	r.Figure("attach_vs_volumeattachment", Median(ratios), ratios)
	return nil
}

// attacher is the name that VolumeAttachments of a benchmark have, so that no
// CSI driver takes them for its own.
const attacher = "bench.holdfast.invalid"

type volumeAttachments struct {
	client storagev1client.VolumeAttachmentInterface
	number atomic.Int64
}

func newVolumeAttachments(kube *rest.Config) (*volumeAttachments, error) {
	kube = rest.CopyConfig(kube)
	kube.QPS = -1 // no limit of the client's own
	kube.ContentType = "application/vnd.kubernetes.protobuf"
	clients, err := kubernetes.NewForConfig(kube)
	if err != nil {
		return nil, err
	}
	return &volumeAttachments{client: clients.StorageV1().VolumeAttachments()}, nil
}

func (v *volumeAttachments) create(ctx context.Context, node string) error {
	n := v.number.Add(1)
	volume := fmt.Sprintf("holdfast-bench-%024d", n)
	_, err := v.client.Create(ctx, &storagev1.VolumeAttachment{
		ObjectMeta: metav1.ObjectMeta{Name: volume, Labels: map[string]string{ourLabel: ourLabelValue}},
		Spec: storagev1.VolumeAttachmentSpec{
			Attacher: attacher, NodeName: node,
			Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &volume},
		},
	}, metav1.CreateOptions{})
	return err
}

// delete deletes all that were created, by the label: one request, since the
// server goes through them by itself.
func (v *volumeAttachments) delete(ctx context.Context) error {
	return v.client.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: labelOfOurs})
}

// What a benchmark creates in an API server has this label.
const (
	ourLabel, ourLabelValue = "app.kubernetes.io/managed-by", "holdfast-bench"
	labelOfOurs             = ourLabel + "=" + ourLabelValue
)
