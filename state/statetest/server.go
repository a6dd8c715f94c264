package statetest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-storage/holdfast/state/embedded"
)

// Env names an environment variable. Where it holds the path of an etcd binary
// (from the module's root, if it is not absolute), the servers of Start, Shared
// and StartCluster are processes of that binary, and Binary answers it for
// "etcd", and the etcdutl that lies beside it under a like name for "etcdutl":
// so the same tests run on another version of etcd.
const Env = "HOLDFAST_TEST_ETCD"

// startTimeout is generous: race detector, two cores, several packages at once.
const startTimeout = time.Minute

// server is an etcd that runs, in this process or in its own.
type server interface {
	// Close ends it in good order: a leader hands over first.
	Close() error
	// kill ends it the way a crash does, as far as others can see.
	kill() error
}

// start returns once the server serves.
func (s settings) start() (server, error) {
	bin, err := ordered()
	if err != nil {
		return nil, err
	}
	if bin != "" && len(s.versions) == 0 {
		return s.startProcess(bin)
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	etcd, err := embedded.Start(ctx, s.embedded())
	if err != nil {
		return nil, err
	}
	return inProcess{etcd}, nil
}

type inProcess struct{ *embedded.Server }

func (p inProcess) kill() error {
	p.Etcd().Server.HardStop()
	return p.Close()
}

// ordered is the binary that Env names, empty where it names none.
func ordered() (string, error) {
	bin := os.Getenv(Env)
	if bin == "" || filepath.IsAbs(bin) {
		return bin, nil
	}
	root, err := moduleRoot()
	return filepath.Join(root, bin), err
}

func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("statetest: no go.mod above the test's folder")
		}
	}
}

// Binary finds a program in the bin folder at the root of the module, where
// "make etcd" puts etcd, etcdctl and etcdutl. It skips the test where the
// program has not been built.
func Binary(tb testing.TB, name string) string {
	tb.Helper()
	if bin, err := ordered(); bin != "" && err == nil {
		switch beside := filepath.Join(filepath.Dir(bin), strings.Replace(filepath.Base(bin), "etcd", "etcdutl", 1)); name {
		case "etcd":
			return bin
		case "etcdutl":
			return beside
		}
	}
	root, err := moduleRoot()
	if err != nil {
		tb.Fatal(err)
	}
	bin := filepath.Join(root, "bin", name)
	if _, err := os.Stat(bin); err != nil {
		tb.Skipf("statetest: %s is not there: build it with 'make etcd'", bin)
	}
	return bin
}

// untilFree runs a start that needs certain ports, again where one is taken:
// most likely for a moment only, by someone who looks whether it is free.
func untilFree(run func() error) error {
	err := run()
	for deadline := time.Now().Add(10 * time.Second); errors.Is(err, syscall.EADDRINUSE) && time.Now().Before(deadline); err = run() {
		time.Sleep(10 * time.Millisecond)
	}
	return err
}
