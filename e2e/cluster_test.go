package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/holdfast-storage/holdfast/e2e/apiserver"
	"github.com/holdfast-storage/holdfast/state"
)

// Where deploy/ puts the controller, and as whom.
const (
	namespace      = "holdfast-system"
	serviceAccount = "holdfast-controller"
	clusterRole    = "holdfast-controller"
	auditAccount   = "holdfast-audit"
)

var getOptions metav1.GetOptions

// cluster is a Kubernetes cluster with deploy/ applied, on a world's ledger.
type cluster struct {
	*world
	name   string
	server *apiserver.Server
	kube   kubernetes.Interface // may do everything
	front  *apiserver.Front     // what the controllers go through
}

// cluster starts a Kubernetes cluster with the shipped manifests and these nodes.
func (w *world) cluster(name string, nodes ...string) *cluster {
	w.t.Helper()
	c := w.bareCluster(name)
	c.kubectl("apply", "--server-side", "-k", deployFolder+"/base")
	c.audit()
	for _, n := range nodes {
		c.addNode(n)
	}
	return c
}

// bareCluster starts a Kubernetes cluster with nothing in it.
func (w *world) bareCluster(name string) *cluster {
	w.t.Helper()
	c := &cluster{world: w, name: name, server: apiserver.Start(w.t, name, apiServerBin, etcdBin)}
	c.kube, c.front = c.server.Client(w.t), c.server.Front(w.t)
	return c
}

// in is the cluster as a part of the test sees it.
func (c *cluster) in(t *testing.T) *cluster {
	world := *c.world
	world.t = t
	part := *c
	part.world = &world
	return &part
}

// kubectl runs kubectl as the admin, and returns what it printed.
func (c *cluster) kubectl(args ...string) string {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), kubectlBin, append([]string{"--kubeconfig", c.server.AdminKubeconfig(c.t)}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		c.t.Fatalf("kubectl %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// kubeconfig is the shipped service account's, through the front.
func (c *cluster) kubeconfig() string {
	c.t.Helper()
	return c.server.Kubeconfig(c.t, namespace, serviceAccount, c.front.URL())
}

// uid is that of kube-system.
func (c *cluster) uid() string {
	c.t.Helper()
	ns, err := c.kube.CoreV1().Namespaces().Get(c.t.Context(), metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return string(ns.UID)
}

// asCluster opens the test's own ledger as the cluster: a driver's way in.
func (c *cluster) asCluster() *state.Cluster {
	c.t.Helper()
	opened, err := c.ledger.Cluster(c.t.Context(), state.Identity{Name: c.name, UID: c.uid()})
	if err != nil {
		c.t.Fatal(err)
	}
	return opened
}

// attach gives a node an exclusive hold, as a driver does.
func (c *cluster) attach(volume, node string) state.Hold {
	c.t.Helper()
	hold, err := c.asCluster().Attach(c.t.Context(), state.AttachRequest{Volume: volume, Node: node, NodeUID: c.nodeUID(node)})
	if err != nil {
		c.t.Fatal(err)
	}
	return hold
}

// nodeUID is empty for a node that is not there.
func (c *cluster) nodeUID(name string) string {
	c.t.Helper()
	n, err := c.kube.CoreV1().Nodes().Get(c.t.Context(), name, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		c.t.Fatal(err)
	}
	return string(n.UID)
}

// addNode puts a Node that is Ready.
func (c *cluster) addNode(name string) {
	c.t.Helper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	node, err := c.kube.CoreV1().Nodes().Create(c.t.Context(), node, metav1.CreateOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	c.setReady(node.Name, corev1.ConditionTrue)
}

func (c *cluster) setReady(name string, status corev1.ConditionStatus) {
	c.t.Helper()
	c.patchNode(name, map[string]any{"status": map[string]any{
		"conditions": []map[string]any{{"type": corev1.NodeReady, "status": status}},
	}}, "status")
}

// taint puts a taint on a node, in place of all others; an empty key takes all off.
func (c *cluster) taint(name, key string, effect corev1.TaintEffect) {
	c.t.Helper()
	taints := []corev1.Taint{}
	if key != "" {
		taints = append(taints, corev1.Taint{Key: key, Effect: effect})
	}
	c.patchNode(name, map[string]any{"spec": map[string]any{"taints": taints}})
}

func (c *cluster) patchNode(name string, change map[string]any, sub ...string) {
	c.t.Helper()
	patch, err := json.Marshal(change)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.kube.CoreV1().Nodes().Patch(c.t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{}, sub...); err != nil {
		c.t.Fatal(err)
	}
}

// deleteNode deletes a Node and returns once the API server says that it is gone.
func (c *cluster) deleteNode(name string) {
	c.t.Helper()
	err := c.kube.CoreV1().Nodes().Delete(c.t.Context(), name, metav1.DeleteOptions{})
	if err == nil {
		_, err = c.kube.CoreV1().Nodes().Get(c.t.Context(), name, metav1.GetOptions{})
	}
	if !apierrors.IsNotFound(err) {
		c.t.Fatalf("deleting node %s: %v", name, err)
	}
}

// claimed makes a PersistentVolume of a CSI driver that is bound to a claim in
// the namespace default.
func (c *cluster) claimed(volume, driver, claim string) {
	c.t.Helper()
	pv := persistentVolume(volume, claim)
	pv.Spec.CSI.Driver = driver
	pvc := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: claim, Namespace: metav1.NamespaceDefault},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: pv.Spec.AccessModes, VolumeName: pv.Name,
			Resources: corev1.VolumeResourceRequirements{Requests: pv.Spec.Capacity},
		},
	}
	made, err := c.kube.CoreV1().PersistentVolumeClaims(pvc.Namespace).Create(c.t.Context(), pvc, metav1.CreateOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	pv.Spec.ClaimRef.UID = made.UID
	if _, err := c.kube.CoreV1().PersistentVolumes().Create(c.t.Context(), pv, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

// event waits for an Event of this reason about an object, and returns its note.
func (c *cluster) event(kind, name, reason string) string {
	c.t.Helper()
	note := ""
	eventually(c.t, fmt.Sprintf("Event %s about %s %s", reason, kind, name), func() error {
		events, err := c.kube.EventsV1().Events(metav1.NamespaceAll).List(context.Background(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		var seen []string
		for _, e := range events.Items {
			seen = append(seen, e.Reason+" about "+e.Regarding.Kind+" "+e.Regarding.Name)
			if e.Reason == reason && e.Regarding.Kind == kind && e.Regarding.Name == name {
				note = e.Note
				return nil
			}
		}
		slices.Sort(seen)
		return errors.New("there are: " + fmt.Sprint(slices.Compact(seen)))
	})
	return note
}

// persistentVolume is a volume's, bound to a claim in the namespace default.
func persistentVolume(volume, claim string) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "pv-" + claim},
		Spec: corev1.PersistentVolumeSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Capacity:    corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
			ClaimRef:    &corev1.ObjectReference{Kind: "PersistentVolumeClaim", Namespace: metav1.NamespaceDefault, Name: claim},
			PersistentVolumeSource: corev1.PersistentVolumeSource{
				CSI: &corev1.CSIPersistentVolumeSource{Driver: "csi.example.com", VolumeHandle: volume},
			},
		},
	}
}
