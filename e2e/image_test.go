package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The image is built as `make image` builds it, has nothing in it but the
// binary, and runs as a user who is not root.
func TestDeploy_Image(t *testing.T) {
	needRoot(t)
	t.Parallel()
	buildah, err := exec.LookPath("buildah")
	if err != nil {
		t.Skip("there is no buildah to build the image with")
	}
	store := t.TempDir()
	builder := []string{buildah, "--storage-driver", "vfs", "--root", filepath.Join(store, "root"), "--runroot", filepath.Join(store, "run")}
	run := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(args[0], args[1:]...).Output()
		if err != nil {
			detail := ""
			if exit, ok := err.(*exec.ExitError); ok { //nolint:errorlint // Output wraps nothing
				detail = string(exit.Stderr)
			}
			t.Fatalf("%v: %v\n%s", args, err, detail)
		}
		return string(out)
	}
	image := func(args ...string) string { t.Helper(); return run(append(builder, args...)...) }
	// The binary is there, and other tests run it.
	run("make", "-C", "..", "--old-file=build", "image", "IMAGE=holdfast:e2e", "BUILDER="+strings.Join(builder, " "))

	var config struct {
		OCIv1 struct {
			Config struct {
				User       string
				Entrypoint []string
				Labels     map[string]string
			}
		}
	}
	if err := json.Unmarshal([]byte(image("inspect", "--type", "image", "holdfast:e2e")), &config); err != nil {
		t.Fatal(err)
	}
	c := config.OCIv1.Config
	if c.User != "65532:65532" || len(c.Entrypoint) != 1 || c.Entrypoint[0] != "/holdfast" {
		t.Errorf("user %q, entry point %v", c.User, c.Entrypoint)
	}
	for _, label := range []string{"title", "description", "source", "licenses", "version", "revision", "created"} {
		if v := c.Labels["org.opencontainers.image."+label]; v == "" || v == "unknown" || v == "devel" {
			t.Errorf("label %s is %q", label, v)
		}
	}

	container := strings.TrimSpace(image("from", "holdfast:e2e"))
	root := strings.TrimSpace(image("mount", container))
	t.Cleanup(func() { image("umount", container) })
	files, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if name := f.Name(); name != "holdfast" && name != "dev" && name != "proc" && name != "sys" {
			t.Errorf("the image has a %s in it", name)
		}
	}
	cmd := exec.Command("/holdfast", "version")
	cmd.Dir, cmd.Env = "/", []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), c.Labels["org.opencontainers.image.version"]) {
		t.Errorf("holdfast version in the image: %v\n%s\nexpected %s", err, out, c.Labels["org.opencontainers.image.version"])
	}
}
