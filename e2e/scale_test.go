package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-storage/holdfast/state"
)

// What a controller of a large cluster may take.
const (
	scaleNodes   = 2000
	scaleVolumes = 20_000
	readyWithin  = 10 * time.Second
	mostMemory   = 150 << 20
)

// 2,000 Nodes and 20,000 attachments, and then every Node is replaced by a new
// one, a hundred at a time: of each old one half of the volumes move to the new
// one in time, and half are left behind.
func TestScale_RollingReplacement(t *testing.T) {
	const perNode, batch = scaleVolumes / scaleNodes, 100
	w := newWorld(t)
	c := w.cluster("east")
	each(t, scaleNodes, func(ctx context.Context, i int) error { return c.makeNode(ctx, oldNode(i)) })
	each(t, scaleVolumes, func(ctx context.Context, i int) error { return c.makeVolume(ctx, i) })
	as := c.asCluster()
	each(t, scaleVolumes, func(ctx context.Context, i int) error {
		_, err := as.Attach(ctx, state.AttachRequest{Volume: scaleVolume(i), Node: oldNode(i / perNode)})
		return err
	})

	began := time.Now()
	// Every node goes within minutes, which the brake is there to doubt.
	controller := c.start("--brake-fraction", "1", "--removal-rate", "2000")
	eventually(t, "controller is ready", controller.ready)
	took := time.Since(began)
	c.leads(controller)
	t.Logf("ready after %v; %d MiB", took.Round(10*time.Millisecond), rss(t, controller)>>20)
	if took > readyWithin {
		t.Errorf("ready after %v, expected within %v", took, readyWithin)
	}

	for from := 0; from < scaleNodes; from += batch {
		each(t, batch, func(ctx context.Context, i int) error { return c.makeNode(ctx, newNode(from+i)) })
		each(t, batch*perNode/2, func(ctx context.Context, i int) error {
			node := from + i/(perNode/2)
			volume := scaleVolume(node*perNode + i%(perNode/2))
			if _, err := as.Detach(ctx, state.DetachRequest{Volume: volume, Node: oldNode(node)}); err != nil {
				return err
			}
			_, err := as.Attach(ctx, state.AttachRequest{Volume: volume, Node: newNode(node)})
			return err
		})
		each(t, batch, func(ctx context.Context, i int) error {
			return c.kube.CoreV1().Nodes().Delete(ctx, oldNode(from+i), metav1.DeleteOptions{})
		})
	}
	eventually(t, "every orphan is removed", func() error {
		if n := len(w.journal("east", state.ActionRemoved)); n < scaleVolumes/2 {
			return fmt.Errorf("%d removed", n)
		}
		return nil
	})
	t.Logf("%d orphans removed; %d MiB", scaleVolumes/2, rss(t, controller)>>20)
	if most := peak(t, controller); most > mostMemory {
		t.Errorf("it has taken %d MiB at most, expected under %d", most>>20, mostMemory>>20)
	}

	held := map[string]string{}
	for h, err := range w.ledger.Holds(t.Context(), state.HoldFilter{Cluster: "east"}) {
		if err != nil {
			t.Fatal(err)
		}
		held[h.Volume] = h.Node
	}
	wrong := 0
	for i := range scaleVolumes {
		want := ""
		if i%perNode < perNode/2 {
			want = newNode(i / perNode)
		}
		if got := held[scaleVolume(i)]; got != want {
			if wrong++; wrong < 10 {
				t.Errorf("%s is held by %q, expected %q", scaleVolume(i), got, want)
			}
		}
	}
	if n := len(w.journal("east", state.ActionRemoved)); wrong > 0 || n != scaleVolumes/2 {
		t.Errorf("%d volumes are not where they should be, and the journal has %d removals of %d", wrong, n, scaleVolumes/2)
	}
	eventually(t, "no departure is left", w.hasNot("departures/east/"))
}

func oldNode(i int) string     { return fmt.Sprintf("old-%04d", i) }
func newNode(i int) string     { return fmt.Sprintf("new-%04d", i) }
func scaleVolume(i int) string { return fmt.Sprintf("pvc-0b7e5d1c-9f0a-4e55-8a51-%012d", i) }

func (c *cluster) makeNode(ctx context.Context, name string) error {
	// Some 18 KB, as real ones are: what is kept of it is far less.
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{"example.com/reported": strings.Repeat("x", 8<<10)}}}
	for i := range 50 { // as many as a kubelet reports
		image := fmt.Sprintf("registry.example.com/some-team/some-application-%02d", i)
		node.Status.Images = append(node.Status.Images, corev1.ContainerImage{
			Names: []string{image + "@sha256:" + strings.Repeat("0123456789abcdef", 4), image + ":v1.0.0"}, SizeBytes: 1 << 28,
		})
	}
	_, err := c.kube.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	return err
}

// makeVolume makes a PersistentVolume of a volume, bound to a claim that is not there.
func (c *cluster) makeVolume(ctx context.Context, i int) error {
	pv := persistentVolume(scaleVolume(i), fmt.Sprintf("claim-%d", i))
	pv.Annotations = map[string]string{"example.com/provisioned": strings.Repeat("x", 1<<10)} // some 2 KB, as real ones are
	_, err := c.kube.CoreV1().PersistentVolumes().Create(ctx, pv, metav1.CreateOptions{})
	return err
}

// each calls act with 0 to n-1, some at a time, and stops at the first failure.
func each(t *testing.T, n int, act func(ctx context.Context, i int) error) {
	t.Helper()
	const atOnce = 64
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var joined sync.WaitGroup
	next := make(chan int)
	for range min(atOnce, n) {
		joined.Go(func() {
			for i := range next {
				if err := act(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := range n {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	joined.Wait()
	if err := context.Cause(ctx); err != nil {
		t.Fatal(err)
	}
}

// rss is the memory that a process has now, and peak the most that it has had.
func rss(t *testing.T, p *process) int64  { return status(t, p, "VmRSS") }
func peak(t *testing.T, p *process) int64 { return status(t, p, "VmHWM") }

func status(t *testing.T, p *process, field string) int64 {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if name, value, _ := strings.Cut(line, ":"); name == field {
			kib, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal(errors.New("no " + field))
	return 0
}
