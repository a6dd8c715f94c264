package statetest

import (
	"context"
	"io"
	"os"
	"os/exec"
	"slices"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Snapshot saves all that the process has now into a file, as "etcdctl snapshot
// save" does, and returns its path. It is removed when the test ends.
func (p *Process) Snapshot(tb testing.TB) string {
	tb.Helper()
	client, err := newRawClient(clientv3.Config{Endpoints: p.endpoints, Username: p.user, Password: p.password})
	if err != nil {
		tb.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	from, err := client.Snapshot(ctx)
	if err != nil {
		tb.Fatalf("statetest: snapshot: %v", err)
	}
	defer from.Close()
	file, err := os.CreateTemp(p.with.dir, "snapshot-")
	if err != nil {
		tb.Fatal(err)
	}
	defer file.Close()
	if _, err := io.Copy(file, from); err != nil {
		tb.Fatalf("statetest: snapshot: %v", err)
	}
	return file.Name()
}

// Restore stops the process, has the etcdutl binary make its data anew from a
// snapshot, and starts it again at its address. args go to "etcdutl snapshot
// restore", such as "--bump-revision=1000000000", "--mark-compacted" or
// "--initial-cluster-token=…".
func (p *Process) Restore(tb testing.TB, etcdutl, snapshot string, args ...string) {
	tb.Helper()
	p.Rebuild(tb, func(founding []string) {
		restore := exec.Command(etcdutl, slices.Concat([]string{"snapshot", "restore", snapshot}, founding, args)...)
		if out, err := restore.CombinedOutput(); err != nil {
			tb.Fatalf("statetest: %v: %v\n%s", restore.Args, err, out)
		}
	})
}

// Rebuild stops the process, takes its data away, has the caller put others in
// their place, and starts it again at its address. founding are the flags of
// etcdutl that say which member they are of.
func (p *Process) Rebuild(tb testing.TB, put func(founding []string)) {
	tb.Helper()
	p.Stop()
	if err := os.RemoveAll(p.with.dataDir()); err != nil {
		tb.Fatal(err)
	}
	put(p.with.founding())
	p.Start(tb)
}

// Empty stops the process and starts it again, at its address, with no data.
func (p *Process) Empty(tb testing.TB) {
	tb.Helper()
	p.Rebuild(tb, func([]string) {})
}
