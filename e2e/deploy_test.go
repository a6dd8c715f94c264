package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

const deployFolder = "../deploy"

// kustomizations are all that can be applied: not the components, which only
// add to another.
func kustomizations(t *testing.T) []string {
	t.Helper()
	var dirs []string
	for _, pattern := range []string{"base", "overlays/*", "components/*/*"} {
		found, err := filepath.Glob(filepath.Join(deployFolder, pattern, "kustomization.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if data, err := os.ReadFile(f); err != nil {
				t.Fatal(err)
			} else if !bytes.Contains(data, []byte("kind: Component")) {
				dirs = append(dirs, filepath.Dir(f))
			}
		}
	}
	if len(dirs) < 4 {
		t.Fatalf("there are only %v: expected a base and three overlays", dirs)
	}
	return dirs
}

// Every manifest is what the API says, to the letter, is accepted by a real API
// server, and asks of holdfast only what it has.
func TestDeploy_Accepted(t *testing.T) {
	w := newWorld(t)
	c := w.bareCluster("east")
	c.kubectl("apply", "--server-side", "-f", crd(t, "servicemonitors"))
	for _, dir := range kustomizations(t) {
		t.Run(strings.TrimPrefix(dir, deployFolder+"/"), func(t *testing.T) {
			c := c.in(t)
			kinds, settings := map[string]int{}, map[string]string{}
			objects := c.rendered(dir)
			for _, object := range objects {
				kinds[object.GetObjectKind().GroupVersionKind().Kind]++
				if m, ok := object.(*corev1.ConfigMap); ok {
					maps.Copy(settings, m.Data)
				}
			}
			for _, object := range objects {
				if d, ok := object.(*appsv1.Deployment); ok {
					c.asksForWhatThereIs(d, settings)
				}
			}
			t.Logf("%v", kinds)
			c.witnessesWhereItReads(objects)
			for range 2 { // the second changes nothing, and has to be accepted too
				c.kubectl("apply", "--server-side", "--validate=strict", "-k", dir)
			}
			c.kubectl("wait", "--for=create", "--timeout=30s", "deployment", "--all", "-n", namespace)
			c.passesRestricted() // now, for the next one's Deployment has the same name
		})
	}
}

// rendered decodes what kustomize makes of a folder, strictly. What a custom
// resource may say the API server knows alone.
func (c *cluster) rendered(dir string) []runtime.Object {
	c.t.Helper()
	decoder := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	documents := utilyaml.NewDocumentDecoder(io.NopCloser(strings.NewReader(c.kubectl("kustomize", dir))))
	defer documents.Close()
	var objects []runtime.Object
	for buffer := make([]byte, 1<<20); ; {
		n, err := documents.Read(buffer)
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			c.t.Fatal(err)
		}
		var meta metav1.PartialObjectMetadata
		if err := yaml.Unmarshal(buffer[:n], &meta); err != nil {
			c.t.Fatal(err)
		}
		if strings.HasSuffix(meta.APIVersion, "k8s.io/v1") || !strings.Contains(meta.APIVersion, ".") || strings.HasPrefix(meta.APIVersion, "policy/") {
			object, _, err := decoder.Decode(buffer[:n], nil, nil)
			if err != nil {
				c.t.Fatalf("%s %s of %s: %v", meta.Kind, meta.Name, dir, err)
			}
			objects = append(objects, object)
			continue
		}
		if meta.Kind != "ServiceMonitor" {
			c.t.Errorf("%s %s of %s is of no API that this test knows", meta.Kind, meta.APIVersion, dir)
		}
	}
}

var (
	flagInHelp = regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z-]+)`)
	envInHelp  = regexp.MustCompile(`\[(HOLDFAST_[A-Z_]+)\]`)
)

// asksForWhatThereIs: each flag, and each variable of the environment, is one
// that the command has. The ConfigMap is the controller's, and others take of it
// what they know.
func (c *cluster) asksForWhatThereIs(d *appsv1.Deployment, settings map[string]string) {
	c.t.Helper()
	for _, container := range d.Spec.Template.Spec.Containers {
		if len(container.Args) == 0 {
			c.t.Errorf("container %s of %s has no arguments", container.Name, d.Name)
			continue
		}
		help := c.does(container.Args[0], "--help")
		flags, variables := map[string]bool{}, map[string]bool{"HOLDFAST_PASSWORD": true}
		for _, m := range flagInHelp.FindAllStringSubmatch(help, -1) {
			flags[m[1]] = true
		}
		for _, m := range envInHelp.FindAllStringSubmatch(help, -1) {
			variables[m[1]] = true
		}
		for _, arg := range container.Args[1:] {
			name, _, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
			if strings.HasPrefix(arg, "--") && !flags[name] {
				c.t.Errorf("%s: holdfast %s has no --%s", d.Name, container.Args[0], name)
			}
		}
		if container.Args[0] == "controller" {
			for name := range settings {
				container.Env = append(container.Env, corev1.EnvVar{Name: name})
			}
		}
		for _, e := range container.Env {
			if strings.HasPrefix(e.Name, "HOLDFAST_") && !variables[e.Name] {
				c.t.Errorf("%s: holdfast %s reads no %s", d.Name, container.Args[0], e.Name)
			}
		}
	}
}

// passesRestricted: the pods of what was applied are let in where the namespace
// enforces the restricted Pod Security Standard.
func (c *cluster) passesRestricted() {
	c.t.Helper()
	c.kubectl("label", "--overwrite", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
	deployments, err := c.kube.AppsV1().Deployments(namespace).List(c.t.Context(), metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	if len(deployments.Items) == 0 {
		c.t.Error("no Deployment was applied")
	}
	for _, d := range deployments.Items {
		pod := &corev1.Pod{ObjectMeta: d.Spec.Template.ObjectMeta, Spec: d.Spec.Template.Spec}
		pod.GenerateName = d.Name + "-"
		if _, err := c.kube.CoreV1().Pods(namespace).Create(c.t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}); err != nil {
			c.t.Errorf("a pod of %s: %v", d.Name, err)
		}
	}
}

// crd finds the definition of one of the Prometheus operator's resources in its
// Go module, of the version in crds/go.mod.
func crd(t *testing.T, plural string) string {
	t.Helper()
	cmd := exec.Command("go", "mod", "download", "-json", "github.com/prometheus-operator/prometheus-operator")
	cmd.Dir = "crds"
	out, err := cmd.Output()
	var module struct{ Dir, Error string }
	if jerr := json.Unmarshal(out, &module); err != nil || jerr != nil {
		t.Fatalf("go mod download: %v, %v\n%s", err, jerr, out)
	}
	return filepath.Join(module.Dir, "example", "prometheus-operator-crd", "monitoring.coreos.com_"+plural+".yaml")
}
