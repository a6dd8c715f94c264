package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-storage/holdfast/state"
)

// witness is the ConfigMap of the shipped manifests.
const witness = "holdfast-witness"

// etcd is restored from a backup while no controller runs, as docs/backup.md
// says: no header tells of it, only the ConfigMap knows. The ledger is frozen
// until an operator has put right what differs.
func TestRestore(t *testing.T) {
	w := newWorld(t)
	c := w.cluster("east", "node-1", "node-2", "node-3", "node-4", "node-5")
	for i := range 3 {
		c.claimed(fmt.Sprintf("vol-%d", i+1), attacher, fmt.Sprintf("claim-%d", i+1))
	}
	both := func(volume, node string) state.Hold { // on both sides, as a driver does
		c.volumeAttachment("va-"+volume, strings.Replace(volume, "vol", "claim", 1), node, true)
		return c.attach(volume, node)
	}
	controller := c.controller()
	both("vol-1", "node-1")
	both("vol-2", "node-2")
	first := c.witness("")
	snapshot := w.etcd.Snapshot(t)
	lost := both("vol-3", "node-3")
	w.does("detach", "vol-2", "node-2", "--cluster", "east")
	c.forget("va-vol-2")
	c.witness(first) // renewed, so that there is something to tell by
	controller.kill()
	w.etcd.Restore(t, built("bin/etcdutl"), snapshot, "--bump-revision=1000000000", "--mark-compacted")

	t.Log("the controller that is started after it knows, though the manifests were applied again, and removes nothing")
	c.kubectl("apply", "--server-side", "-k", deployFolder+"/base")
	controller = c.controller()
	eventually(t, "it says who noticed, and by what", func() error {
		if said := w.does("clusters", "-o", "json"); !strings.Contains(said, "etcd does not have the witness") {
			return errors.New(said)
		}
		return nil
	})
	c.deleteNode("node-1")
	controller.metricIs(`holdfast_held_back{cluster="east",obstacle="frozen"}`, 1)
	controller.metricIs(`holdfast_ledger_frozen{cause="restore",cluster="east"}`, 1)
	controller.metricIs(`holdfast_restores_noticed_total{cluster="east"}`, 1)
	w.mustBeHeldBy("vol-1", "east/node-1")
	remedy := []string{"holdfast unfreeze --restored"}
	w.fails(3, remedy, "attach", "vol-3", "node-4", "--cluster", "east")
	w.fails(3, remedy, "unfreeze")

	t.Log("what was lost is found, and put right")
	as := []string{"--cluster", "east", "--attacher", attacher, "--kubeconfig", c.server.AdminKubeconfig(t)}
	audit := append([]string{"audit", "--settle", "1s"}, as...)
	w.fails(1, []string{"missing", "vol-3", "extra", "vol-2"}, audit...)
	w.does("detach", "vol-2", "node-2", "--cluster", "east")
	w.does("unfreeze", "--restored")
	w.does(append([]string{"import", "--yes"}, as...)...)
	w.mustBeHeldBy("vol-3", "east/node-3")
	if token := w.volume("vol-3").Holds[0].Token; token <= lost.Token || token.Epoch() != 1 {
		t.Errorf("the token is %v, and was %v before the restore: expected a greater one, of epoch 1", token, lost.Token)
	}
	eventually(t, "the orphan is removed", func() error { return w.heldBy("vol-1") })
	c.forget("va-vol-1") // as Kubernetes does once it gives the node up
	w.does(audit...)
	if n := controller.count("etcd was restored or replaced"); n != 1 {
		t.Errorf("%d lines of the log say that etcd was restored, expected one:\n%s", n, controller.logged())
	}
	controller.metricIs(`holdfast_ledger_frozen{cause="restore",cluster="east"}`, 0)
}

// witness waits for a witness in the ConfigMap that is not this one, and whose
// renewal is done.
func (c *cluster) witness(not string) string {
	c.t.Helper()
	found := ""
	eventually(c.t, "the witness is renewed", func() error {
		m, err := c.kube.CoreV1().ConfigMaps(namespace).Get(context.Background(), witness, getOptions)
		if err != nil {
			return err
		}
		if found = m.Data[c.name]; found == "" || found == not || strings.Contains(found, `"next"`) {
			return fmt.Errorf("it is %q", found)
		}
		return nil
	})
	return found
}

// forget deletes a VolumeAttachment.
func (c *cluster) forget(name string) {
	c.t.Helper()
	if err := c.kube.StorageV1().VolumeAttachments().Delete(c.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

// Somebody takes away what the witness needs: nothing is removed, it is said
// what is missing, and it goes on once that is back, under the next leader too.
func TestRestore_WitnessTakenAway(t *testing.T) {
	w := newWorld(t)
	c := w.cluster("east", "node-1", "node-2", "node-3", "node-4", "node-5")
	for i, taken := range []string{"configmap/" + witness, "rolebinding/holdfast-controller"} {
		controller := c.controller()
		c.leads(controller)
		volume, node := fmt.Sprintf("vol-%d", i), fmt.Sprintf("node-%d", i+1)
		c.attach(volume, node)
		c.witness("")
		c.kubectl("-n", namespace, "delete", taken)
		t.Logf("without %s", taken)
		eventually(t, "/readyz says what is missing", func() error {
			code, body := controller.get("/readyz")
			if code != http.StatusServiceUnavailable || !strings.Contains(body, witness) || !strings.Contains(body, "apply deploy/base/access") {
				return fmt.Errorf("%d: %s", code, body)
			}
			return nil
		})
		c.deleteNode(node)
		controller.metricIs(`holdfast_held_back{cluster="east",obstacle="unwitnessed"}`, 1)
		w.mustBeHeldBy(volume, "east/"+node)
		const says = "whether etcd is the one it was is not known"
		if n := controller.count(says); n < 1 || n > 2 || n != controller.count(says, witness) {
			t.Errorf("%d lines of the log say so; expected one or two, that name %s:\n%s", n, witness, controller.logged())
		}
		if i == 0 {
			controller.kill()
			controller = c.start()
			controller.says(says, witness+" is not there")
			controller.metricIs(`holdfast_held_back{cluster="east",obstacle="unwitnessed"}`, 1)
		}
		c.kubectl("apply", "--server-side", "-k", deployFolder+"/base/access")
		eventually(t, "the orphan is removed", func() error { return w.heldBy(volume) })
		eventually(t, "it is ready again", controller.ready)
		controller.kill()
	}
}
