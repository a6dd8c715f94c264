package watch

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kubewatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// slimVolume is what matters of a PersistentVolume, and all that is kept of it
// while a list is taken in.
type slimVolume struct {
	name           string // of the PersistentVolume
	driver, handle string // empty unless it is of CSI
	claim          Claim  // zero unless it is somebody's
}

var _ runtime.Object = (*slimVolume)(nil)

func slim(pv *corev1.PersistentVolume) *slimVolume {
	v := &slimVolume{name: pv.Name}
	if csi := pv.Spec.CSI; csi != nil {
		v.driver, v.handle = csi.Driver, csi.VolumeHandle
	}
	if ref := pv.Spec.ClaimRef; ref != nil {
		v.claim = Claim{Namespace: ref.Namespace, Name: ref.Name, UID: string(ref.UID)}
	}
	return v
}

func (v *slimVolume) owned() bool { return v.handle != "" && v.claim.Name != "" }

// GetObjectKind and DeepCopyObject make it an object for a list.
func (v *slimVolume) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject copies it.
func (v *slimVolume) DeepCopyObject() runtime.Object { out := *v; return &out }

// pagedLister makes the Reflector list and then watch, and not have the list
// streamed: of a list in pages, slim, there is never much at a time, and a role
// that lacks one of the two verbs shows at once.
type pagedLister struct{ *cache.ListWatch }

// IsWatchListSemanticsUnSupported is how client-go asks.
func (pagedLister) IsWatchListSemanticsUnSupported() bool { return true }

// list is a whole list for the Reflector, in one page.
func (c *Claims) list(ctx context.Context, _ metav1.ListOptions) (runtime.Object, error) {
	out := &corev1.List{}
	version, err := eachVolume(ctx, c.pvs, func(v *slimVolume) bool {
		out.Items = append(out.Items, runtime.RawExtension{Object: v})
		return true
	})
	if err != nil {
		c.say(ctx, err)
		return nil, err
	}
	out.ResourceVersion = version
	return out, nil
}

func (c *Claims) watch(ctx context.Context, opts metav1.ListOptions) (kubewatch.Interface, error) {
	w, err := c.pvs.PersistentVolumes().Watch(ctx, opts)
	if err != nil {
		err = fmt.Errorf("watching PersistentVolumes: %w", err)
	}
	c.say(ctx, err)
	return w, err
}

// claimStore is where the Reflector puts what it sees.
type claimStore struct{ c *Claims }

var _ cache.ReflectorStore = claimStore{}

// Replace takes in a whole list.
func (s claimStore) Replace(objects []any, _ string) error {
	claims := map[string]*claimed{}
	for _, o := range objects {
		v, err := slimmed(o)
		if err != nil {
			return err
		}
		s.c.put(claims, v, false)
	}
	s.c.mu.Lock()
	s.c.claims = claims
	s.c.mu.Unlock()
	s.c.trying.Do(func() { close(s.c.tried) })
	return nil
}

func (s claimStore) Add(obj any) error    { return s.apply(obj, false) }
func (s claimStore) Update(obj any) error { return s.apply(obj, false) }
func (s claimStore) Delete(obj any) error { return s.apply(obj, true) }

// Resync has nothing to do: there is one store.
func (claimStore) Resync() error { return nil }

func (s claimStore) apply(obj any, gone bool) error {
	v, err := slimmed(obj)
	if err != nil {
		return err
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.c.put(s.c.claims, v, gone)
	return nil
}

func slimmed(obj any) (*slimVolume, error) {
	switch o := obj.(type) {
	case *slimVolume:
		return o, nil
	case *corev1.PersistentVolume:
		return slim(o), nil
	}
	return nil, fmt.Errorf("among PersistentVolumes is a %T", obj)
}
