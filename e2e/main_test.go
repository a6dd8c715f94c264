package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The programs, as make builds them.
var (
	holdfastBin  = built("bin/holdfast")
	etcdBin      = built("bin/etcd")
	apiServerBin = built(".cache/kubernetes/kube-apiserver")
	kubectlBin   = built(".cache/kubernetes/kubectl")
)

func built(path string) string {
	root, err := filepath.Abs("..")
	if err != nil {
		panic(err)
	}
	return filepath.Join(root, path)
}

func TestMain(m *testing.M) {
	for _, program := range []string{holdfastBin, etcdBin, apiServerBin, kubectlBin} {
		if _, err := os.Stat(program); err != nil {
			fmt.Fprintf(os.Stderr, "e2e: %v: run 'make e2e', which builds it\n", err)
			os.Exit(1)
		}
	}
	code := m.Run()
	if never := neverUsed(); code == 0 && len(never) > 0 {
		fmt.Fprintf(os.Stderr, "FAIL: the manifests grant what no scenario has used:\n  %s\n", strings.Join(never, "\n  "))
		code = 1
	}
	os.Exit(code)
}

const (
	// patience bounds every wait for a condition. It is for a machine that is
	// busy: what is waited for takes seconds.
	patience = 90 * time.Second
	look     = 25 * time.Millisecond
)

// eventually waits until is says nothing is wrong any more.
func eventually(t testing.TB, what string, is func() error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		err := is()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s: %v", patience, what, err)
		}
		time.Sleep(look)
	}
}

// throughout fails the test if is says that something is wrong at any time of d.
func throughout(t testing.TB, d time.Duration, what string, is func() error) {
	t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(look) {
		if err := is(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
}
