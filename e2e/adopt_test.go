package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"

	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const attacher = "csi.example.com"

// A cluster that has run without Holdfast is brought in, and looked after from
// then on: import, audit, audit --watch.
func TestAdopt_RunningCluster(t *testing.T) {
	w := newWorld(t)
	c := w.cluster("east", "node-1", "node-2")
	c.kubectl("apply", "--server-side", "-k", deployFolder+"/components/audit/standalone")
	for i := range 4 {
		c.claimed(fmt.Sprintf("vol-%d", i), attacher, fmt.Sprintf("claim-%d", i))
	}
	c.volumeAttachment("va-0", "claim-0", "node-1", true)
	c.volumeAttachment("va-1", "claim-1", "node-2", true)
	c.volumeAttachment("va-2", "claim-2", "node-1", false) // on its way
	c.volumeAttachment("va-gone", "no-such-claim", "node-1", true)
	c.claimed("vol-other", "csi.other.example", "claim-other")
	c.volumeAttachmentBy("csi.other.example", "va-other", "claim-other", "node-1", true) // of another driver
	// Another cluster's, under the same handle: it must stay so.
	w.does("attach", "vol-1", "elsewhere", "--cluster", "west", "--cluster-uid", "of-west")
	as := []string{"--cluster", "east", "--attacher", attacher, "--kubeconfig", c.server.Kubeconfig(t, namespace, auditAccount, "")}

	t.Log("dry: nothing is written")
	before := len(w.keys(""))
	out, _ := w.runs(append([]string{"import"}, as...)...)
	for _, text := range []string{"vol-0", "conflict", "west", "in-motion", "skipped"} {
		if !strings.Contains(out, text) {
			t.Errorf("the dry import does not say %q:\n%s", text, out)
		}
	}
	if n := len(w.keys("holds/")); n != 1 {
		t.Errorf("a dry import left %d holds of %d keys, expected west's alone", n, before)
	}

	t.Log("import, twice")
	for range 2 {
		w.fails(3, []string{"conflict", "west"}, append([]string{"import", "--yes"}, as...)...)
		w.mustBeHeldBy("vol-0", "east/node-1")
		w.mustBeHeldBy("vol-1", "west/elsewhere")
		w.mustBeHeldBy("vol-2")
		w.mustBeHeldBy("vol-other")
	}
	if h := w.volume("vol-0").Holds[0]; h.NodeUID != c.nodeUID("node-1") {
		t.Errorf("the hold has the node UID %q, expected %q", h.NodeUID, c.nodeUID("node-1"))
	}

	t.Log("audit, both ways")
	w.does("detach", "vol-1", "elsewhere", "--cluster", "west")
	w.does("attach", "vol-1", "node-1", "--cluster", "east", "--ignore-grace", "--reason", "west is done with it") // but Kubernetes says node-2
	w.does("attach", "vol-3", "node-2", "--cluster", "east")                                                       // of which Kubernetes knows nothing
	c.volumeAttachment("va-2b", "claim-2", "node-2", true)                                                         // never told
	c.volumeAttachment("va-0b", "claim-0", "node-2", true)                                                         // one volume, two nodes
	w.fails(1, []string{"elsewhere", "extra", "missing", "twice"}, append([]string{"audit", "--settle", "1s"}, as...)...)
	found := map[string]bool{}
	out, _ = w.runs(append([]string{"audit", "--settle", "1s", "-o", "json"}, as...)...)
	var report struct {
		Items []struct{ Kind, Volume string }
	}
	if err := json.Unmarshal([]byte(out[strings.Index(out, "{"):strings.LastIndex(out, "}")+1]), &report); err != nil {
		t.Fatalf("%v in:\n%s", err, out)
	}
	for _, d := range report.Items {
		found[d.Kind+" "+d.Volume] = true
	}
	if found["missing vol-other"] {
		t.Error("audit tells of another driver's volume")
	}
	for _, want := range []string{"elsewhere vol-1", "extra vol-3", "missing vol-2", "twice vol-0"} {
		if !found[want] {
			t.Errorf("audit does not tell of %s: %v", want, found)
		}
	}

	t.Log("watched, while it is put right")
	watching := start(t, nil, append([]string{"audit", "--watch", "--log-level", "info", "--every", "1s", "--settle", "1s", "--listen", "127.0.0.1:0", "--endpoints", w.etcd.Endpoint()}, as...)...)
	differences := func(kind string) string {
		return fmt.Sprintf("holdfast_audit_differences{cluster=%q,kind=%q}", "east", kind)
	}
	watching.metricIs(differences("extra"), 1)
	w.does("detach", "vol-3", "node-2", "--cluster", "east")
	w.does("detach", "vol-1", "node-1", "--cluster", "east")
	w.does("attach", "vol-1", "node-2", "--cluster", "east")
	w.does("attach", "vol-2", "node-2", "--cluster", "east")
	for _, va := range []string{"va-0b", "va-2"} {
		if err := c.kube.StorageV1().VolumeAttachments().Delete(t.Context(), va, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, kind := range []string{"missing", "extra", "elsewhere", "twice"} {
		watching.metricIs(differences(kind), 0)
	}
	w.does(append([]string{"audit", "--settle", "1s"}, as...)...)
	watching.signal(syscall.SIGTERM)
	if code := watching.exits(); code != 0 {
		t.Errorf("audit --watch ends with %d on SIGTERM, expected 0:\n%s", code, watching.logged())
	}
}

// volumeAttachment makes one of a claim's volume.
func (c *cluster) volumeAttachment(name, claim, node string, attached bool) {
	c.t.Helper()
	c.volumeAttachmentBy(attacher, name, claim, node, attached)
}

func (c *cluster) volumeAttachmentBy(driver, name, claim, node string, attached bool) {
	c.t.Helper()
	pv := "pv-" + claim
	api := c.kube.StorageV1().VolumeAttachments()
	va, err := api.Create(c.t.Context(), &storagev1.VolumeAttachment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       storagev1.VolumeAttachmentSpec{Attacher: driver, NodeName: node, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &pv}},
	}, metav1.CreateOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	va.Status.Attached = attached
	if _, err := api.UpdateStatus(c.t.Context(), va, metav1.UpdateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}
