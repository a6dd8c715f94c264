package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// TestInstall_Page follows docs/install.md to the letter, from the certificates
// to two clusters that refuse each other's volumes. There is no kubelet: what it
// would start, the test does, as it would.
func TestInstall_Page(t *testing.T) {
	needRoot(t)
	t.Parallel()
	page := newPage(t, "../docs/install.md")
	w := &world{t: t}
	east, west := w.bareCluster("east"), w.bareCluster("west")
	page.contexts(east, west)
	east.addNode("node-1")
	west.addNode("node-2")
	east.claimed("vol-e", attacher, "east")
	east.volumeAttachment("va-e", "east", "node-1", true)
	west.claimed("vol-w", attacher, "west")
	west.volumeAttachment("va-w", "west", "node-2", true)

	page.runUntil("## 5.")
	for _, c := range []*cluster{east, west} {
		c.audit()
		controller := c.shipped("holdfast-controller")
		eventually(t, "the controller of "+c.name+" is ready, as it is shipped", controller.ready)
		defer func() {
			if err := controller.ready(); err != nil {
				t.Error(err)
			}
		}()
	}
	page.runUntil("")
	for _, c := range []*cluster{east, west} {
		audits := c.shipped("holdfast-audit")
		for _, kind := range []string{"missing", "extra", "elsewhere", "twice"} {
			audits.metricIs(fmt.Sprintf("holdfast_audit_differences{cluster=%q,kind=%q}", c.name, kind), 0)
		}
	}
	t.Log("a role that lacks something, and what is printed about that")
	page.run("etcdctl role revoke-permission holdfast-cluster-west /holdfast/v1/journal/west/ /holdfast/v1/journal/west0")
	lacking := west.shipped("holdfast-controller")
	eventually(t, "/readyz says what the role lacks", func() error {
		const says = `user "west" may not write /holdfast/v1/journal/west/; 'holdfast etcd-role --cluster west' prints the role`
		if code, body := lacking.get("/readyz"); code != 503 || !strings.Contains(body, says) {
			return fmt.Errorf("%d: %s", code, body)
		}
		return nil
	})
	page.run("holdfast etcd-role --cluster west | bash -e")
	eventually(t, "it is ready, once the role is whole", lacking.ready)

	eventually(t, "the ledger has what was attached before, and no more what was tried", func() error {
		list := page.run("holdfast list -o json")
		if !strings.Contains(list, "vol-e") || !strings.Contains(list, "vol-w") || strings.Contains(list, "try-1") {
			return errors.New(list)
		}
		return nil
	})
}

// page is a document whose shell blocks are followed, in one folder and with
// one environment.
type page struct {
	t      *testing.T
	rest   string
	folder string
}

func newPage(t *testing.T, path string) *page {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p := &page{t: t, rest: string(text), folder: t.TempDir()}
	for _, name := range []string{"bin", "deploy"} {
		if err := os.Symlink(built(name), filepath.Join(p.folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	env := fmt.Sprintf("export PATH=%q ETCD_URL=https://%s ETCD_PEER_URL=http://%s\n",
		filepath.Dir(kubectlBin)+":"+os.Getenv("PATH"), freeAddress(t), freeAddress(t))
	if err := os.WriteFile(p.path("env"), []byte(env), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *page) path(name string) string { return filepath.Join(p.folder, name) }

// contexts gives the page a kubeconfig with a context for each cluster.
func (p *page) contexts(clusters ...*cluster) {
	p.t.Helper()
	all := api.NewConfig()
	for _, c := range clusters {
		one, err := clientcmd.LoadFromFile(c.server.AdminKubeconfig(p.t))
		if err != nil {
			p.t.Fatal(err)
		}
		all.Clusters[c.name], all.AuthInfos[c.name], all.Contexts[c.name] = one.Clusters[c.name], one.AuthInfos[c.name], one.Contexts[c.name]
	}
	if err := clientcmd.WriteToFile(*all, p.path("kubeconfig")); err != nil {
		p.t.Fatal(err)
	}
}

var shellBlock = regexp.MustCompile("(?s)```sh( terminal)?\n(.*?)```\n")

// runUntil runs the blocks before a heading; an empty one is the page's end.
func (p *page) runUntil(heading string) {
	p.t.Helper()
	section, rest := p.rest, ""
	if heading != "" {
		var found bool
		if section, rest, found = strings.Cut(p.rest, "\n"+heading); !found {
			p.t.Fatalf("the page has no %q any more", heading)
		}
	}
	p.rest = rest
	for _, block := range shellBlock.FindAllStringSubmatch(section, -1) {
		if block[1] != "" {
			p.terminal(block[2])
			continue
		}
		p.run(block[2])
	}
}

// run runs a block, keeps what it exports, and returns what it prints.
func (p *page) run(block string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	out, err := p.bash(ctx, "set -e\nsource ./env\n"+block+"\nexport -p >env").CombinedOutput()
	if err != nil {
		p.t.Fatalf("%v of\n%s\nwhich printed\n%s", err, block, out)
	}
	return string(out)
}

// terminal runs a block in a terminal of its own: an etcd, until the test ends.
func (p *page) terminal(block string) {
	p.t.Helper()
	cmd := p.bash(context.Background(), "source ./env\nexec "+block)
	server := startCommand(p.t, cmd)
	eventually(p.t, "etcd serves", func() error {
		if !server.alive() {
			p.t.Fatalf("it has ended:\n%s", server.logged())
		}
		out, err := p.bash(context.Background(),
			`source ./env; bin/etcdctl --endpoints "$ETCD_URL" --cacert pki/ca.crt --cert pki/root.crt --key pki/root.key endpoint health`).CombinedOutput()
		if err != nil {
			return errors.New(string(out))
		}
		return nil
	})
}

func (p *page) bash(ctx context.Context, script string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir, cmd.Env = p.folder, environment("KUBECONFIG="+p.path("kubeconfig"))
	cmd.WaitDelay = 5 * time.Second
	return cmd
}
