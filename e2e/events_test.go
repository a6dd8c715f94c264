package e2e

import (
	"context"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-storage/holdfast/state"
)

// What the owner of a claim should see is an Event on the claim.
func TestEvents(t *testing.T) {
	w := newWorld(t)
	c := w.cluster("east", "node-1", "node-2", "node-3")
	c.claimed("vol-1", "csi.example.com", "data")
	c.claimed("vol-2", "csi.example.com", "logs")
	session := []string{"--attachment-ttl", "3s"}
	controller := c.controller(session...)
	c.leads(controller)
	says := func(note string, texts ...string) {
		t.Helper()
		for _, text := range texts {
			if !strings.Contains(note, text) {
				t.Errorf("the Event says %q; expected %q in it", note, text)
			}
		}
	}
	does := func(args ...string) { t.Helper(); w.does(append(args, "--cluster", "east")...) }

	t.Log("a conflict, reported by whoever attaches")
	does("attach", "vol-1", "node-1", "--attachment-ttl", "3s")
	w.fails(3, []string{"node-1"}, "attach", "vol-1", "node-2", "--cluster", "east", "--kubeconfig", c.kubeconfig())
	says(c.event("PersistentVolumeClaim", "data", "AttachConflict"), "vol-1", "node-1", "east")

	t.Log("a migration that is overdue, until one of the two is detached")
	does("attach", "vol-2", "node-1", "--attachment-ttl", "3s")
	does("migrate", "vol-2", "--to", "node-2", "--migration-window", "2s", "--attachment-ttl", "3s")
	says(c.event("PersistentVolumeClaim", "logs", "MigrationOverdue"), "vol-2", "node-1", "node-2")
	const overdue = `holdfast_overdue_migrations{cluster="east"}`
	controller.metricIs(overdue, 1)
	if v := w.volume("vol-2"); v.State != state.StateOverdue {
		t.Errorf("vol-2 is %s, expected overdue", v.State)
	}
	does("detach", "vol-2", "node-1")
	controller.metricIs(overdue, 0)

	t.Log("holds that lapse while no controller runs, and are stood by again")
	controller.kill()
	eventually(t, "the attachments lapse", w.hasNot("attachments/east/"))
	quiet := c.controller(append(session, "--events=false")...)
	eventually(t, "they are stood by again", w.has("attachments/east/node-1/"))
	quiet.kill()
	if n := c.events("HoldLapsed"); n != 0 {
		t.Errorf("%d Events with --events=false", n)
	}
	eventually(t, "the attachments lapse again", w.hasNot("attachments/east/"))
	c.controller(session...)
	says(c.event("PersistentVolumeClaim", "data", "HoldLapsed"), "vol-1", "node-1", "east")
	if n := len(w.journal("east", state.ActionRemoved)); n != 0 {
		t.Errorf("%d removals in the journal, of nodes that are all there", n)
	}
}

// events counts the Events of a reason.
func (c *cluster) events(reason string) int {
	c.t.Helper()
	list, err := c.kube.EventsV1().Events(metav1.NamespaceAll).List(context.Background(), metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	n := 0
	for _, e := range list.Items {
		if e.Reason == reason {
			n++
		}
	}
	return n
}
