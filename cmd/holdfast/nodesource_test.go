package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-storage/holdfast/state"
)

// writeKubeconfig has a context for each cluster, named as it is; the first is the current one.
func writeKubeconfig(t *testing.T, clusters ...string) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("apiVersion: v1\nkind: Config\ncurrent-context: " + clusters[0] + "\nclusters:\n")
	for _, c := range clusters {
		fmt.Fprintf(&b, "- {name: %s, cluster: {server: %q}}\n", c, newKube(t, "uid-of-"+c).server.URL)
	}
	b.WriteString("contexts:\n")
	for _, c := range clusters {
		fmt.Fprintf(&b, "- {name: %s, context: {cluster: %s, user: nobody}}\n", c, c)
	}
	b.WriteString("users:\n- {name: nobody, user: {}}\n")
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A kubeconfig that is empty is no word for the cluster of the pod. Where there
// is none, client-go's own loader would not find it either: so this tells the two
// apart in a pod only.
func TestReadKubeconfig_EmptyIsNotThePod(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "1")
	if config, err := readKubeconfig(empty, ""); err == nil {
		t.Errorf("an empty kubeconfig is the cluster at %s", config.Host)
	}
}

func TestNodeSource(t *testing.T) {
	path := writeKubeconfig(t, "east", "west")
	file := filepath.Join(t.TempDir(), "nodes.json")
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// A kubeconfig that is only lying there is never taken.
	t.Setenv("KUBECONFIG", path)
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for name, c := range map[string]struct {
		flags nodeFlags
		uid   string // of the cluster that the source is of
		err   string
	}{
		"current context":         {nodeFlags{kubeconfig: path}, "uid-of-east", ""},
		"another context":         {nodeFlags{kubeconfig: path, context: "west"}, "uid-of-west", ""},
		"context of the usual":    {nodeFlags{context: "west"}, "uid-of-west", ""},
		"no such context":         {nodeFlags{kubeconfig: path, context: "north"}, "", `--context "north"`},
		"no such file":            {nodeFlags{kubeconfig: path + "x"}, "", "--kubeconfig"},
		"an empty kubeconfig":     {nodeFlags{kubeconfig: empty}, "", "no configuration"},
		"a file of nodes":         {nodeFlags{file: file}, "given", ""},
		"a file and a kubeconfig": {nodeFlags{file: file, context: "west"}, "", "exclude each other"},
		"nothing":                 {nodeFlags{}, "", "expected --nodes FILE, --kubeconfig FILE"},
	} {
		t.Run(name, func(t *testing.T) {
			source, err := c.flags.source("given", slog.New(slog.DiscardHandler))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("source: %v, want an error with %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			uid, err := source.ClusterUID(t.Context())
			if err != nil || uid != c.uid {
				t.Errorf("ClusterUID: %q, %v, want %q", uid, err, c.uid)
			}
		})
	}
}

// With a Kubernetes, --cluster-uid is what the cluster has to be.
func TestProcess_RefusesAnotherKubernetes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, state.Config{})
	refused(t, w.program, exitUsage, `has the kube-system UID "uid-of-east"`, "--cluster", "east", "--endpoints", w.etcd.Endpoint(),
		"--kubeconfig", writeKubeconfig(t, "east"), "--cluster-uid", "uid-of-west", "--listen", "")
}
