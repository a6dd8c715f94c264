package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast-storage/holdfast/state"
	"github.com/holdfast-storage/holdfast/state/statetest"
)

// TestBackupPage follows docs/backup.md to the letter: an etcd is backed up, is
// written to, is lost and restored; what Holdfast shows; and every command up to
// two sides that are equal again.
func TestBackupPage(t *testing.T) {
	t.Parallel()
	p := newBackupPage(t)
	w := p.world
	controller := w.controller("--cluster-uid", "uid-of-east")
	p.attach("vol-1", "node-1")
	p.attach("vol-2", "node-2")
	w.eventually("there is a witness", func(context.Context) (bool, error) { return w.witness() != "", nil })

	p.run() // the backup
	before := w.witness()
	p.attach("vol-3", "node-3")
	w.does("detach", "vol-2", "node-2", "--cluster", "east")
	p.change("detach", "vol-2", "node-2")
	lost := w.volume("vol-3").Holds[0].Token
	w.eventually("the witness is renewed", func(context.Context) (bool, error) {
		return w.witness() != before && !strings.Contains(w.witness(), `"next"`), nil
	})

	w.etcd.Rebuild(t, func(founding []string) {
		p.env = append(p.env, memberEnvironment(founding)...)
		p.run() // the restore
	})
	p.run() // the freeze
	w.eventually("the controller has noticed", func(context.Context) (bool, error) {
		return strings.Contains(w.does("clusters"), "Restore noticed"), nil
	})
	if said := p.run(); !strings.Contains(said, "Restore noticed") {
		t.Errorf("the page's commands do not show who noticed:\n%s", said)
	}
	w.fails(exitConflict, "ledger is frozen", "attach", "vol-3", "node-1", "--cluster", "east")
	if said := p.run(); !strings.Contains(said, "missing") || !strings.Contains(said, "extra") {
		t.Errorf("the audit does not show what was lost:\n%s", said)
	}
	p.run() // the detach
	p.run() // accept, import, audit
	if left := p.blocks; len(left) != 0 {
		t.Errorf("%d more blocks that nobody has run: %q", len(left), left)
	}
	if again := w.volume("vol-3").Holds; len(again) != 1 || again[0].Token <= lost {
		t.Errorf("vol-3 after the import: %+v, and its token was %s before the restore", again, lost)
	}
	w.heldBy("vol-1", "node-1")
	if !controller.alive() {
		t.Errorf("the controller has ended:\n%s", controller.tail())
	}
}

// memberEnvironment has etcdutl's flags by the names that the page has for them.
func memberEnvironment(founding []string) []string {
	names := map[string]string{
		"--name": "NAME", "--data-dir": "DATA_DIR", "--initial-cluster": "INITIAL_CLUSTER",
		"--initial-cluster-token": "CLUSTER_TOKEN", "--initial-advertise-peer-urls": "PEER_URL",
	}
	var env []string
	for _, f := range founding {
		flag, value, _ := strings.Cut(f, "=")
		env = append(env, names[flag]+"="+value)
	}
	return env
}

// backupPage is the page, and what its commands run on.
type backupPage struct {
	*storageAPI
	world  *world
	blocks []string
	dir    string
	env    []string
}

func newBackupPage(t *testing.T) *backupPage {
	t.Helper()
	tools := filepath.Dir(statetest.Binary(t, "etcdctl"))
	statetest.Binary(t, "etcdutl")
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "backup.md"))
	if err != nil {
		t.Fatal(err)
	}
	p := &backupPage{world: newWorld(t, state.Config{}, "node-1", "node-2", "node-3"), storageAPI: newStorageAPI(), dir: t.TempDir()}
	t.Cleanup(p.Close)
	for _, found := range regexp.MustCompile("(?ms)^ *```sh\n(.*?)^ *```$").FindAllStringSubmatch(string(text), -1) {
		p.blocks = append(p.blocks, found[1])
	}
	config, err := p.kubeconfig(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	p.env = append(os.Environ(), "PATH="+filepath.Dir(p.world.program)+":"+tools+":"+os.Getenv("PATH"),
		"ETCDCTL_ENDPOINTS="+p.world.etcd.Endpoint(), "HOLDFAST_ENDPOINTS="+p.world.etcd.Endpoint(),
		"HOLDFAST_KUBECONFIG="+config, "HOLDFAST_ATTACHER=csi.example.com", "HOLDFAST_SETTLE=100ms")
	return p
}

// attach attaches on both sides, as a driver of Kubernetes does.
func (p *backupPage) attach(volume, node string) {
	p.world.t.Helper()
	p.change("attach", volume, node)
	p.world.does("attach", volume, node, "--cluster", "east")
}

func (p *backupPage) change(line ...string) {
	p.world.t.Helper()
	if err := p.storageAPI.change(line...); err != nil {
		p.world.t.Fatal(err)
	}
}

// run runs the next block, line by line, and returns what it printed.
func (p *backupPage) run() string {
	t := p.world.t
	t.Helper()
	if len(p.blocks) == 0 {
		t.Fatal("the page has no more blocks")
	}
	var said strings.Builder
	for line := range strings.Lines(p.blocks[0]) {
		want := 0
		if found := regexp.MustCompile(`# exit code (\d)`).FindStringSubmatch(line); found != nil {
			want, _ = strconv.Atoi(found[1])
		}
		cmd := exec.CommandContext(t.Context(), "bash", "-c", line)
		cmd.Dir, cmd.Env = p.dir, p.env
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		if code := cmd.ProcessState.ExitCode(); code != want {
			t.Errorf("%sexit code %d, want %d\n%s", line, code, want, out)
		}
		said.Write(out)
	}
	p.blocks = p.blocks[1:]
	return said.String()
}
