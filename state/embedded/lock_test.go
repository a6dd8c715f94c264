package embedded_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/holdfast-storage/holdfast/state/embedded"
)

func TestLock_AnotherServerOfThisProcess(t *testing.T) {
	dir := t.TempDir()
	start(t, embedded.Config{Dir: dir})
	refuses(t, quick(embedded.Config{Dir: dir}), dir, "in use by process "+strconv.Itoa(os.Getpid()))
}

func TestLock_AnotherProcessUntilItIsKilled(t *testing.T) {
	dir := t.TempDir()
	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), heldEnv+"="+dir)
	output, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	kill := func() {
		other.Process.Kill()
		other.Wait()
	}
	defer kill()
	endpoint, err := bufio.NewReader(output).ReadString('\n')
	if err != nil || !strings.HasPrefix(endpoint, "http://") {
		t.Fatalf("the other process says %q, %v", endpoint, err)
	}
	put(t, connect(t, strings.TrimSpace(endpoint)), "a", "1")

	refuses(t, quick(embedded.Config{Dir: dir}), dir, "in use by process "+strconv.Itoa(other.Process.Pid))
	kill()
	server := start(t, embedded.Config{Dir: dir})
	if got := value(t, connect(t, server.Endpoint()), "a"); got != "1" {
		t.Errorf("a = %q after the other was killed, want 1", got)
	}
}

func TestLock_AnEtcdThatKnowsNothingOfOurLock(t *testing.T) {
	dir := used(t)
	db, err := bbolt.Open(filepath.Join(dir, "member", "snap", "db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	refuses(t, quick(embedded.Config{Dir: dir}), dir, "in use by another etcd", "snap/db")
}

func TestFolder_CannotBeUsed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refuses(t, quick(embedded.Config{Dir: file}), file, "folder")
	refuses(t, quick(embedded.Config{Dir: filepath.Join(file, "below")}), file, "folder")
}

func TestFolder_NotWritable(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may write anywhere")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(dir, 0o700)
	refuses(t, quick(embedded.Config{Dir: dir}), dir, "permission denied")
}

func TestFolder_WithSomethingElseForADatabase(t *testing.T) {
	dir := used(t)
	path := filepath.Join(dir, "member", "snap", "db")
	if err := os.WriteFile(path, []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	refuses(t, quick(embedded.Config{Dir: dir}), path, "no etcd database")
}

// used returns a data folder that a server has worked on.
func used(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	server := start(t, embedded.Config{Dir: dir})
	put(t, connect(t, server.Endpoint()), "a", "1")
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}
