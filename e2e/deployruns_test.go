package e2e

import (
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
)

// What nobody has set yet stops the controller, by its name; what the overlay
// for trying things sets is enough to run.
func TestDeploy_Runs(t *testing.T) {
	needRoot(t)
	w := newWorld(t)
	c := w.bareCluster("east")
	nodes := []string{"node-1", "node-2", "node-3", "node-4"}
	for _, n := range nodes {
		c.addNode(n)
	}

	t.Log("the base as it stands")
	c.kubectl("apply", "--server-side", "-k", deployFolder+"/base")
	p := c.shipped("holdfast-controller")
	if code := p.exits(); code != 2 || p.count("SET-HOLDFAST_CLUSTER") == 0 {
		t.Errorf("exit code %d; expected 2, and that it names SET-HOLDFAST_CLUSTER:\n%s", code, p.logged())
	}

	t.Log("with a name, and no etcd")
	c.applyPart("../deploy/base", "HOLDFAST_CLUSTER=east")
	p = c.shipped("holdfast-controller")
	eventually(t, "/readyz names the endpoint that is to be set", func() error {
		if code, body := p.get("/readyz"); code != 503 || !strings.Contains(body, "set-holdfast-endpoints.invalid") {
			return fmt.Errorf("%d: %s", code, body)
		}
		return nil
	})
	p.kill()

	t.Log("with both: it works, and what is about no claim is an Event about its pod")
	c.applyPart("../deploy/base", "HOLDFAST_CLUSTER=east", "HOLDFAST_ENDPOINTS="+w.etcd.Endpoint())
	p = c.shipped("holdfast-controller")
	eventually(t, "it is ready", p.ready)
	c.leads(p)
	for _, n := range nodes {
		c.attach("vol-of-"+n, n)
	}
	for _, n := range nodes {
		c.deleteNode(n)
	}
	if note := c.event("Pod", "holdfast-controller-0", "BrakeEngaged"); !strings.Contains(note, "holdfast resume east --brake") {
		t.Errorf("the Event says %q; expected what to do", note)
	}
	p.kill()

	t.Log("development")
	c.applyPart("../deploy/overlays/development", "HOLDFAST_EMBEDDED_LISTEN="+freeAddress(t))
	p = c.shipped("holdfast-controller")
	eventually(t, "it is ready, with an etcd of its own", p.ready)
}

// applyPart applies a folder of deploy/ with more of the ConfigMap set, as a
// user's own kustomization does.
func (c *cluster) applyPart(folder string, settings ...string) {
	c.t.Helper()
	folder, err := filepath.Abs(folder)
	if err != nil {
		c.t.Fatal(err)
	}
	c.applyText("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [" + folder + "]\n" +
		"configMapGenerator:\n- name: holdfast\n  namespace: " + namespace + "\n  behavior: merge\n  literals: ['" + strings.Join(settings, "', '") + "']\n")
}

// applyText applies a kustomization, and returns what it comes to.
func (c *cluster) applyText(kustomization string) []runtime.Object {
	c.t.Helper()
	dir := c.t.TempDir()
	for _, p := range regexp.MustCompile(`/\S+deploy/[a-z/-]+`).FindAllString(kustomization, -1) {
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			c.t.Fatal(err)
		}
		kustomization = strings.Replace(kustomization, p, rel, 1)
	}
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(kustomization), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.kubectl("apply", "--server-side", "--force-conflicts", "--validate=strict", "-k", dir)
	return c.rendered(dir)
}

// The kustomization of deploy/README.md, with every component: what it comes to
// fits together.
func TestDeploy_FitsTogether(t *testing.T) {
	w := newWorld(t)
	c := w.bareCluster("east")
	c.kubectl("apply", "--server-side", "-f", crd(t, "servicemonitors"))
	readme, err := os.ReadFile(deployFolder + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, ok := strings.Cut(string(readme), "```yaml\n")
	example, _, _ = strings.Cut(example, "```\n")
	if !ok {
		t.Fatal("deploy/README.md has no example any more")
	}
	example = regexp.MustCompile(`https://github.com/holdfast-storage/holdfast//(\S+)\?ref=\S+`).ReplaceAllString(example, built("")+"/$1")
	example = strings.Replace(example, "components:\n", "components:\n- "+built("deploy/components/servicemonitor")+"\n", 1)
	objects := c.applyText(example)

	var pods []corev1.PodTemplateSpec
	maps := map[string]bool{}
	for _, o := range objects {
		switch o := o.(type) {
		case *appsv1.Deployment:
			pods = append(pods, o.Spec.Template)
			maps[o.Spec.Template.Spec.Containers[0].EnvFrom[0].ConfigMapRef.Name] = true
			if image := o.Spec.Template.Spec.Containers[0].Image; !strings.HasPrefix(image, "registry.example.com/") {
				t.Errorf("Deployment %s has the image %s", o.Name, image)
			}
		case *corev1.ConfigMap:
			c.settingsExist(o)
		}
	}
	if len(pods) != 2 || len(maps) != 1 {
		t.Errorf("%d Deployments on ConfigMaps %v; expected controller and audit on one", len(pods), maps)
	}
	selected := 0
	for _, o := range objects {
		var selector labels.Selector
		switch o := o.(type) {
		case *corev1.Service:
			selector = labels.SelectorFromSet(o.Spec.Selector)
		case *policyv1.PodDisruptionBudget:
			selector = labels.SelectorFromSet(o.Spec.Selector.MatchLabels)
		case *networkingv1.NetworkPolicy:
			selector = labels.SelectorFromSet(o.Spec.PodSelector.MatchLabels)
		default:
			continue
		}
		selected++
		if n := len(slices.DeleteFunc(slices.Clone(pods), func(p corev1.PodTemplateSpec) bool { return !selector.Matches(labels.Set(p.Labels)) })); n != 1 {
			t.Errorf("%T %v selects %d of the pods, expected one", o, selector, n)
		}
	}
	if selected < 5 {
		t.Errorf("only %d objects select pods", selected)
	}
	if monitors := c.kubectl("-n", namespace, "get", "servicemonitors", "-o", "name"); !strings.Contains(monitors, "holdfast") {
		t.Errorf("there is no ServiceMonitor: %q", monitors)
	}

	for _, o := range c.rendered(deployFolder + "/overlays/hub") {
		switch o.(type) {
		case *rbacv1.ClusterRole, *rbacv1.Role:
			t.Errorf("a hub has a %T in its own cluster", o)
		}
	}
	for _, o := range c.rendered(deployFolder + "/overlays/hub-member") {
		if _, ok := o.(*appsv1.Deployment); ok {
			t.Error("a member of a hub has a Deployment")
		}
	}
}

// witnessesWhereItReads: what lets a controller see a cluster's nodes comes with
// what it needs to tell whether etcd was restored, and nothing else does.
func (c *cluster) witnessesWhereItReads(objects []runtime.Object) {
	c.t.Helper()
	reads, parts := false, map[string]bool{}
	for _, o := range objects {
		switch o := o.(type) {
		case *rbacv1.ClusterRole:
			reads = reads || o.Name == clusterRole
		case *rbacv1.Role:
			parts["Role "+o.Namespace] = true
		case *rbacv1.RoleBinding:
			parts["RoleBinding "+o.Namespace] = true
		case *corev1.ConfigMap:
			if o.Name == witness {
				parts["ConfigMap "+o.Namespace] = true
			}
		}
	}
	want := map[string]bool{}
	if reads {
		want = map[string]bool{"Role " + namespace: true, "RoleBinding " + namespace: true, "ConfigMap " + namespace: true}
	}
	if !maps.Equal(parts, want) {
		c.t.Errorf("it has %v for the witness, expected %v", parts, want)
	}
}

// settingsExist: each setting of a ConfigMap is one of the controller's or of the audit's.
func (c *cluster) settingsExist(m *corev1.ConfigMap) {
	c.t.Helper()
	help := c.does("controller", "--help") + c.does("audit", "--help")
	for name := range m.Data {
		if !strings.Contains(help, "["+name+"]") {
			c.t.Errorf("ConfigMap %s sets %s, which no command reads", m.Name, name)
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
