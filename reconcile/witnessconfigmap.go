package reconcile

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

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

// Load reads the key. Its version is the ConfigMap's and what the key has; empty
// where there is no ConfigMap.
func (c *WitnessConfigMap) Load(ctx context.Context) ([]byte, string, error) {
	found, err := c.client.Get(ctx, c.name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, "", nil
	case err != nil:
		return nil, "", err
	}
	return []byte(found.Data[c.key]), c.version(found), nil
}

func (c *WitnessConfigMap) version(of *corev1.ConfigMap) string {
	return of.ResourceVersion + " " + fileVersion([]byte(of.Data[c.key]))
}

// Store writes the key, if it has what the version says. The ConfigMap may have
// changed all the same: controllers of another ledger write a key of their own.
func (c *WitnessConfigMap) Store(ctx context.Context, data []byte, version string) (string, error) {
	at, had, _ := strings.Cut(version, " ")
	written, err := c.write(ctx, data, at)
	for at != "" && apierrors.IsConflict(err) {
		_, now, looked := c.Load(ctx)
		if looked != nil {
			return "", looked
		}
		var has string
		if at, has, _ = strings.Cut(now, " "); at == "" || has != had {
			break
		}
		written, err = c.write(ctx, data, at)
	}
	switch {
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), version != "" && apierrors.IsNotFound(err):
		return "", fmt.Errorf("%w: %w", ErrWitnessMoved, err)
	case err != nil:
		return "", err
	}
	return c.version(written), nil
}

func (c *WitnessConfigMap) write(ctx context.Context, data []byte, version string) (*corev1.ConfigMap, error) {
	if version == "" {
		made, err := c.client.Create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: c.name}, Data: map[string]string{c.key: string(data)},
		}, metav1.CreateOptions{})
		if apierrors.IsForbidden(err) { // which does not name it
			err = fmt.Errorf("ConfigMap %s is not there: %w", c.name, err)
		}
		return made, err
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
