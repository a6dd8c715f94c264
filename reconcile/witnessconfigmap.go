package reconcile

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
)

// WitnessConfigMap is the WitnessStore of a Kubernetes cluster: one key of a
// ConfigMap, which its replicas share. It needs get and patch of the ConfigMap,
// and create only where that is not there yet.
type WitnessConfigMap struct {
	client    corev1client.ConfigMapInterface
	name, key string
}

// NewWitnessConfigMap makes a store of a key of a ConfigMap. What other keys it
// has stays as it is.
func NewWitnessConfigMap(client corev1client.ConfigMapInterface, name, key string) *WitnessConfigMap {
	return &WitnessConfigMap{client, name, key}
}

// Load reads the key. Its version is the ConfigMap's, empty where there is none.
func (c *WitnessConfigMap) Load(ctx context.Context) ([]byte, string, error) {
	found, err := c.client.Get(ctx, c.name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, "", nil
	case err != nil:
		return nil, "", err
	}
	return []byte(found.Data[c.key]), found.ResourceVersion, nil
}

// Store writes the key, if the ConfigMap is of the version.
func (c *WitnessConfigMap) Store(ctx context.Context, data []byte, version string) (string, error) {
	written, err := c.write(ctx, data, version)
	switch {
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), version != "" && apierrors.IsNotFound(err):
		return "", fmt.Errorf("%w: %w", ErrWitnessMoved, err)
	case err != nil:
		return "", err
	}
	return written.ResourceVersion, nil
}

func (c *WitnessConfigMap) write(ctx context.Context, data []byte, version string) (*corev1.ConfigMap, error) {
	if version == "" {
		return c.client.Create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: c.name}, Data: map[string]string{c.key: string(data)},
		}, metav1.CreateOptions{})
	}
	// A patch that names the version is refused where it is another by now.
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]string{"resourceVersion": version}, "data": map[string]string{c.key: string(data)},
	})
	if err != nil {
		return nil, err
	}
	return c.client.Patch(ctx, c.name, types.MergePatchType, patch, metav1.PatchOptions{})
}
