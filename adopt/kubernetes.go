package adopt

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	storagev1client "k8s.io/client-go/kubernetes/typed/storage/v1"
	"k8s.io/client-go/rest"

	"github.com/holdfast-storage/holdfast/state"
)

const (
	// pageSize is what kubectl takes too: some hundred kilobytes of objects.
	pageSize = 500
	// listsAnew is how often a list begins again whose version the API server
	// has forgotten, which takes it minutes.
	listsAnew = 3
	// pageTimeout bounds the wait for one page: an API server that hangs must
	// not look like one with much to say.
	pageTimeout = 30 * time.Second

	// client-go's own 5 requests a second would make the pages of a large
	// cluster queue.
	requestsPerSecond = 100
	requestBurst      = 200
)

// Kubernetes reads what a cluster says is attached. All it asks for is lists:
// of VolumeAttachments and PersistentVolumes and, where they are wanted, Nodes.
// It keeps nothing, and is safe for concurrent use.
type Kubernetes struct {
	core    corev1client.CoreV1Interface
	storage storagev1client.StorageV1Interface
}

// NewKubernetes makes a reader of a cluster. It does not connect yet. Unless
// cfg says otherwise it may send 100 requests a second and waits 30 s for an
// answer; and, as client-go does by itself, it takes protobuf, which costs the
// API server less.
func NewKubernetes(cfg *rest.Config) (*Kubernetes, error) {
	cfg = rest.CopyConfig(cfg)
	if cfg.QPS == 0 && cfg.RateLimiter == nil {
		cfg.QPS, cfg.Burst = requestsPerSecond, max(cfg.Burst, requestBurst)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = pageTimeout
	}
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("client of the Kubernetes API: %w", err)
	}
	core, err := corev1client.NewForConfigAndClient(cfg, client)
	if err != nil {
		return nil, fmt.Errorf("client of the Kubernetes API: %w", err)
	}
	storage, err := storagev1client.NewForConfigAndClient(cfg, client)
	if err != nil {
		return nil, fmt.Errorf("client of the Kubernetes API: %w", err)
	}
	return NewKubernetesFrom(core, storage), nil
}

// NewKubernetesFrom makes a reader of clients of the caller's own.
func NewKubernetesFrom(core corev1client.CoreV1Interface, storage storagev1client.StorageV1Interface) *Kubernetes {
	return &Kubernetes{core: core, storage: storage}
}

// Reading is what a cluster says is attached.
type Reading struct {
	// Attachments are the attacher's, in the order of their names.
	Attachments []VolumeAttachment
	// Others are the attachers of the VolumeAttachments that were left out,
	// with how many each has: whoever mistypes an attacher's name wants to know.
	Others map[string]int
}

// Read reads the VolumeAttachments of an attacher, and of their
// PersistentVolumes the volume handles and access modes. mode is that of all
// volumes, whatever the access modes; empty is by the access modes.
//
// Both lists are of the present, not of a cache that may be behind. The second
// is read after the first, so that no PersistentVolume is missing for being new.
func (k *Kubernetes) Read(ctx context.Context, attacher string, mode state.Mode) (*Reading, error) {
	r, err := k.volumeAttachments(ctx, attacher)
	if err != nil {
		return nil, err
	}
	volumes := make(map[string]*persistentVolume, len(r.Attachments))
	for i := range r.Attachments {
		if name := r.Attachments[i].PersistentVolume; name != "" {
			volumes[name] = nil
		}
	}
	if len(volumes) > 0 {
		if err := k.persistentVolumes(ctx, volumes); err != nil {
			return nil, err
		}
	}
	for i := range r.Attachments {
		a := &r.Attachments[i]
		a.resolve(attacher, volumes[a.PersistentVolume], mode)
	}
	return r, nil
}

// volumeAttachments reads them without looking at their PersistentVolumes.
func (k *Kubernetes) volumeAttachments(ctx context.Context, attacher string) (*Reading, error) {
	var r *Reading
	err := everyPage(ctx, "VolumeAttachments", func(opts metav1.ListOptions) (string, error) {
		page, err := k.storage.VolumeAttachments().List(ctx, opts)
		if err != nil {
			return "", err
		}
		if opts.Continue == "" {
			r = &Reading{Others: map[string]int{}}
		}
		for i := range page.Items {
			if va := &page.Items[i]; va.Spec.Attacher == attacher {
				r.Attachments = append(r.Attachments, fromKubernetes(va))
			} else {
				r.Others[va.Spec.Attacher]++
			}
		}
		return page.Continue, nil
	})
	return r, err
}

func fromKubernetes(va *storagev1.VolumeAttachment) VolumeAttachment {
	a := VolumeAttachment{Name: va.Name, UID: string(va.UID), Node: va.Spec.NodeName, Phase: Attached}
	switch {
	case va.DeletionTimestamp != nil:
		a.Phase = Detaching
	case !va.Status.Attached:
		a.Phase = Attaching
	}
	if name := va.Spec.Source.PersistentVolumeName; name != nil {
		a.PersistentVolume = *name
	}
	a.inline = va.Spec.Source.InlineVolumeSpec != nil
	return a
}

// persistentVolume is as much of one as a volume is known by.
type persistentVolume struct {
	driver, handle string
	csi            bool
	mode           state.Mode // empty: it has no access modes
}

// persistentVolumes fills in those of wanted that are there.
func (k *Kubernetes) persistentVolumes(ctx context.Context, wanted map[string]*persistentVolume) error {
	return everyPage(ctx, "PersistentVolumes", func(opts metav1.ListOptions) (string, error) {
		page, err := k.core.PersistentVolumes().List(ctx, opts)
		if err != nil {
			return "", err
		}
		if opts.Continue == "" {
			for name := range wanted {
				wanted[name] = nil
			}
		}
		for i := range page.Items {
			pv := &page.Items[i]
			if _, ok := wanted[pv.Name]; !ok {
				continue
			}
			slim := &persistentVolume{mode: modeOf(pv.Spec.AccessModes)}
			if csi := pv.Spec.CSI; csi != nil {
				slim.csi, slim.driver, slim.handle = true, csi.Driver, csi.VolumeHandle
			}
			wanted[pv.Name] = slim
		}
		return page.Continue, nil
	})
}

// modeOf is how a volume of these access modes is held. They say what the
// volume can do, not what is done with it: one that many nodes may use is
// shared, also if it lists a mode of a single node beside that. So does
// Kubernetes decide whether a second node may attach, and so does its attacher
// tell the driver.
func modeOf(access []corev1.PersistentVolumeAccessMode) state.Mode {
	mode := state.Mode("")
	for _, m := range access {
		switch m {
		case corev1.ReadWriteMany, corev1.ReadOnlyMany:
			return state.Shared
		case corev1.ReadWriteOnce, corev1.ReadWriteOncePod:
			mode = state.Exclusive
		}
	}
	return mode
}

// NodeUIDs are the UIDs of the cluster's Nodes, by name.
func (k *Kubernetes) NodeUIDs(ctx context.Context) (map[string]string, error) {
	var uids map[string]string
	err := everyPage(ctx, "Nodes", func(opts metav1.ListOptions) (string, error) {
		page, err := k.core.Nodes().List(ctx, opts)
		if err != nil {
			return "", err
		}
		if opts.Continue == "" {
			uids = map[string]string{}
		}
		for i := range page.Items {
			uids[page.Items[i].Name] = string(page.Items[i].UID)
		}
		return page.Continue, nil
	})
	return uids, err
}

// everyPage calls page for one page of a list after the other, and with no
// Continue again where the list has to begin anew. page returns what the next
// one continues with.
func everyPage(ctx context.Context, what string, page func(metav1.ListOptions) (string, error)) error {
	opts := metav1.ListOptions{Limit: pageSize}
	for anew := 0; ; {
		more, err := page(opts)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && opts.Continue != "" && apierrors.IsResourceExpired(err) && anew < listsAnew:
			anew++
			more = ""
		case err != nil:
			return fmt.Errorf("listing %s: %w", what, err)
		case more == "":
			return nil
		}
		opts.Continue = more
	}
}
