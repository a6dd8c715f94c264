package e2e

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// shipped runs the container of a Deployment that was applied as a node would:
// its arguments and its environment, as its user, in a root folder where there
// is nothing but the binary and its mounts, of which it can write none. Only
// where it serves is another address, since all of them share this machine's.
func (c *cluster) shipped(deployment string) *process {
	c.t.Helper()
	d, err := c.kube.AppsV1().Deployments(namespace).Get(c.t.Context(), deployment, getOptions)
	if err != nil {
		c.t.Fatal(err)
	}
	pod := d.Spec.Template.Spec
	root := c.rootFolder(&pod)
	container := pod.Containers[0]
	cmd := exec.Command("/holdfast", container.Args...)
	cmd.Dir, cmd.Env = "/", c.containerEnvironment(&container, deployment)
	user, group := uint32(*pod.SecurityContext.RunAsUser), uint32(*pod.SecurityContext.RunAsGroup)
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: user, Gid: group}}
	return startCommand(c.t, cmd)
}

// needRoot skips where nobody may change root and user.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("running a container as its own user takes root")
	}
}

// rootFolder is what the container sees.
func (c *cluster) rootFolder(pod *corev1.PodSpec) string {
	c.t.Helper()
	root := c.t.TempDir()
	binary, err := os.ReadFile(holdfastBin)
	if err != nil {
		c.t.Fatal(err)
	}
	put(c.t, root, "/holdfast", binary, 0o555, 0)
	if a := pod.AutomountServiceAccountToken; a != nil && *a {
		c.mountToken(root, pod.ServiceAccountName)
	}
	for _, mount := range pod.Containers[0].VolumeMounts {
		for _, v := range pod.Volumes {
			switch {
			case v.Name != mount.Name:
			case v.PersistentVolumeClaim != nil: // an empty one, of the pod's group
				dir := filepath.Join(root, mount.MountPath)
				if err := errors.Join(os.MkdirAll(dir, 0o755), os.Chown(dir, 0, int(*pod.SecurityContext.FSGroup)), os.Chmod(dir, os.ModeSetgid|0o775)); err != nil {
					c.t.Fatal(err)
				}
			case v.Secret != nil:
				c.mountSecret(root, mount.MountPath, v.Secret, pod.SecurityContext)
			default:
				c.t.Fatalf("volume %s: a test for its kind is missing", v.Name)
			}
		}
	}
	return root
}

// mountToken is what a kubelet does for a pod that has a token.
func (c *cluster) mountToken(root, serviceAccount string) {
	c.t.Helper()
	seconds := int64(3600)
	token, err := c.kube.CoreV1().ServiceAccounts(namespace).CreateToken(c.t.Context(), serviceAccount,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}, metav1.CreateOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	const folder = "/var/run/secrets/kubernetes.io/serviceaccount/"
	put(c.t, root, folder+"token", []byte(token.Status.Token), 0o644, 0)
	put(c.t, root, folder+"ca.crt", c.server.Admin().CAData, 0o644, 0)
	put(c.t, root, folder+"namespace", []byte(namespace), 0o644, 0)
}

func (c *cluster) mountSecret(root, path string, source *corev1.SecretVolumeSource, as *corev1.PodSecurityContext) {
	c.t.Helper()
	secret, err := c.kube.CoreV1().Secrets(namespace).Get(c.t.Context(), source.SecretName, getOptions)
	if err != nil {
		c.t.Fatal(err)
	}
	group := 0
	if as.FSGroup != nil {
		group = int(*as.FSGroup)
	}
	for name, data := range secret.Data {
		put(c.t, root, path+"/"+name, data, os.FileMode(*source.DefaultMode), group)
	}
}

// put writes a file of root's into a root folder that only root can write.
func put(t *testing.T, root, path string, data []byte, mode os.FileMode, group int) {
	t.Helper()
	path = filepath.Join(root, path)
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, data, mode)
	}
	if err == nil {
		err = os.Chown(path, 0, group)
	}
	if err == nil {
		err = os.Chmod(path, mode) // whatever the umask
	}
	if err != nil {
		t.Fatal(err)
	}
}

// containerEnvironment is what a kubelet gives the container.
func (c *cluster) containerEnvironment(container *corev1.Container, name string) []string {
	c.t.Helper()
	host, port, _ := strings.Cut(strings.TrimPrefix(c.server.URL(), "https://"), ":")
	env := []string{"KUBERNETES_SERVICE_HOST=" + host, "KUBERNETES_SERVICE_PORT=" + port}
	for _, from := range container.EnvFrom {
		config, err := c.kube.CoreV1().ConfigMaps(namespace).Get(context.Background(), from.ConfigMapRef.Name, getOptions)
		if err != nil {
			c.t.Fatal(err)
		}
		for k, v := range config.Data {
			env = append(env, k+"="+v)
		}
	}
	fields := map[string]string{
		"metadata.name": name + "-0", "metadata.namespace": namespace, "metadata.uid": "0b7e5d1c-9f0a-4e55-8a51-000000000001",
	}
	for _, e := range container.Env {
		value := e.Value
		if e.ValueFrom != nil {
			value = fields[e.ValueFrom.FieldRef.FieldPath]
		}
		env = append(env, e.Name+"="+value)
	}
	return append(env, "HOLDFAST_LISTEN=127.0.0.1:0")
}
