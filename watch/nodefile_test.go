package watch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// listOf is a node file's content.
func listOf(names ...string) string {
	var b strings.Builder
	b.WriteString("apiVersion: v1\nitems:")
	if len(names) == 0 {
		b.WriteString(" []")
	}
	b.WriteString("\n")
	for _, n := range names {
		fmt.Fprintf(&b, "- apiVersion: v1\n  kind: Node\n  metadata:\n    name: %s\n    uid: uid-%s\n", n, n)
	}
	b.WriteString("kind: List\n")
	return b.String()
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// replace puts a file into the place of another, as is best.
func replace(t *testing.T, path, content string) {
	t.Helper()
	write(t, path+".tmp", content)
	if err := os.Rename(path+".tmp", path); err != nil {
		t.Fatal(err)
	}
}

// link makes path a symbolic link to target, in one step.
func link(t *testing.T, target, path string) {
	t.Helper()
	if err := errors.Join(os.Symlink(target, path+".tmp"), os.Rename(path+".tmp", path)); err != nil {
		t.Fatal(err)
	}
}

// announced makes a source that hears of changes or never does: an hour is
// longer than any test.
func announced(path string) *File {
	f := NewFile(path, "", slog.New(slog.DiscardHandler))
	f.pace.restat, f.pace.retry = time.Hour, time.Hour
	f.pace.settle = time.Millisecond
	return f
}

func TestFile_IsReadAgainWhenItChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nodes.yaml")
	write(t, path, listOf("a", "b"))
	var rev revisions
	sink := runSource(t, announced(path), rev.next)
	sink.untilNodes(t, "a b")

	replace(t, path, listOf("a"))
	sink.untilNodes(t, "a")
	replace(t, path, listOf())
	sink.untilNodes(t, "")
	sink.read(func() {
		if sink.since != 1 || len(sink.errs) > 0 {
			t.Errorf("continuous since %d, errors %q; want since 1 and none", sink.since, sink.errs)
		}
	})
	write(t, path, listOf("a", "c")) // may be read half-way, but not for long
	sink.untilNodes(t, "a c")
}

// As a ConfigMap is mounted: nodes.json -> ..data/nodes.json, ..data -> ..1.
func TestFile_BehindLinksThatAreSwapped(t *testing.T) {
	dir := t.TempDir()
	for i, nodes := range []string{listOf("a"), listOf("b")} {
		sub := filepath.Join(dir, fmt.Sprintf("..%d", i))
		if err := os.Mkdir(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(sub, "nodes.json"), nodes)
	}
	link(t, "..0", filepath.Join(dir, "..data"))
	path := filepath.Join(dir, "nodes.json")
	link(t, "..data/nodes.json", path)
	var rev revisions
	sink := runSource(t, announced(path), rev.next)
	sink.untilNodes(t, "a")

	link(t, "..1", filepath.Join(dir, "..data"))
	sink.untilNodes(t, "b")
	write(t, filepath.Join(dir, "..1", "nodes.json"), listOf("c"))
	sink.untilNodes(t, "c")
}

// A link to a file of another folder, under another name.
func TestFile_BehindALinkToAnotherFolder(t *testing.T) {
	there, path := filepath.Join(t.TempDir(), "list"), filepath.Join(t.TempDir(), "nodes")
	write(t, there, listOf("a"))
	link(t, there, path)
	var rev revisions
	sink := runSource(t, announced(path), rev.next)
	sink.untilNodes(t, "a")
	replace(t, there, listOf("b"))
	sink.untilNodes(t, "b")
}

// What no one announces (here the swap of a link further up) is found by looking.
func TestFile_BackstopAndSignOfLife(t *testing.T) {
	dir := t.TempDir()
	for i, nodes := range []string{listOf("a"), listOf("b")} {
		sub := filepath.Join(dir, fmt.Sprint(i))
		if err := os.Mkdir(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(sub, "nodes"), nodes)
	}
	link(t, "0", filepath.Join(dir, "current"))
	f := announced(filepath.Join(dir, "current", "nodes"))
	f.pace.restat = time.Millisecond
	var rev revisions
	sink := runSource(t, f, rev.next)
	sink.untilNodes(t, "a")
	sink.until(t, "a file that does not change is heard of", func() bool { return sink.heard > 5 })
	link(t, "1", filepath.Join(dir, "current"))
	sink.untilNodes(t, "b")
	sink.read(func() {
		if sink.since != 1 {
			t.Errorf("continuous since %d, want 1", sink.since)
		}
	})
}

// Whatever is wrong with the file: the last list stays, one line says what, and
// the next good list is one of a new view.
func TestFile_BadKeepsTheLastGoodList(t *testing.T) {
	cases := map[string]func(t *testing.T, path string){
		"missing":  func(t *testing.T, path string) { os.Remove(path) },
		"a folder": func(t *testing.T, path string) { os.Remove(path); os.Mkdir(path, 0o755) },
		"dangling": func(t *testing.T, path string) { link(t, "nowhere", path) },
	}
	for name, c := range bad {
		cases[name] = func(t *testing.T, path string) { replace(t, path, c.data) }
	}
	says := map[string]string{"missing": "is missing", "a folder": "is no regular file", "dangling": "is missing"}
	for name, spoil := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "nodes")
			write(t, path, listOf("a", "b"))
			f := announced(path)
			var rev revisions
			sink := runSource(t, f, rev.next)
			sink.untilNodes(t, "a b")

			spoil(t, path)
			want := says[name]
			if want == "" {
				want = bad[name].want
			}
			sink.untilError(t, path, want, "expected what", "kubectl get nodes")
			sink.read(func() {
				if sink.names() != "a b" || strings.Contains(sink.err.Error(), "\n") {
					t.Errorf("nodes %q, error %q; want a and b still, and one line", sink.names(), sink.err)
				}
			})
			if _, err := f.Live(context.Background(), "gone"); err == nil || errors.Is(err, ErrNodeNotFound) {
				t.Errorf("Live of a file that is bad: %v; want an error that is no ErrNodeNotFound", err)
			}

			os.Remove(path)
			replace(t, path, listOf("a"))
			sink.untilNodes(t, "a")
			sink.read(func() {
				if sink.since != 2 {
					t.Errorf("continuous since %d, want a new revision, 2", sink.since)
				}
			})
		})
	}
}

// A file read within the time that its clock cannot tell apart may have changed
// since and look the same.
func TestFile_UnchangedIsCertainOnlyLater(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nodes")
	write(t, path, listOf("a"))
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	r := &fileRun{file: NewFile(path, "", nil), good: info, read: info.ModTime().Add(time.Second)}
	if r.unchanged() {
		t.Error("read a second after it changed: counts as unchanged")
	}
	r.read = info.ModTime().Add(time.Minute)
	if !r.unchanged() {
		t.Error("read a minute after it changed: does not count as unchanged")
	}
	replace(t, path, listOf("b"))
	if r.unchanged() {
		t.Error("another file: counts as unchanged")
	}
}

func TestFile_MissingAtFirst(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "later")
	path := filepath.Join(dir, "nodes")
	f := announced(path)
	f.pace.retry = time.Millisecond // no one tells of a folder that is not there yet
	var rev revisions
	sink := runSource(t, f, rev.next)
	sink.untilError(t, path, "is missing")
	if n := rev.n.Load(); n != 0 {
		t.Errorf("etcd was asked for its revision %d times, for no list", n)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	replace(t, path, listOf("a"))
	sink.untilNodes(t, "a")

	// The folder made anew is watched too.
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	sink.untilError(t, "is missing")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	replace(t, path, listOf("b"))
	sink.untilNodes(t, "b")
}

// The revision is newer than the list that it is said of.
func TestFile_RevisionComesAfterTheList(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nodes")
	write(t, path, listOf("before"))
	rev := revisions{hook: func() { replace(t, path, listOf("after")) }}
	f := NewFile(path, "", nil)
	sink := runSource(t, f, rev.next)
	sink.untilNodes(t, "after")
	sink.read(func() {
		if !sink.had("before") {
			t.Error("the first list was read after its revision")
		}
	})
}

func TestFile_WithoutARevisionThereIsNoList(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nodes")
	write(t, path, listOf("a"))
	f := announced(path)
	f.pace.retry = time.Millisecond
	var rev revisions
	rev.fail.Store(true)
	sink := runSource(t, f, rev.next)
	sink.untilError(t, errNoRevision.Error())
	sink.read(func() {
		if sink.lists != 0 {
			t.Error("a list, and nothing to count its continuity from")
		}
	})
	rev.fail.Store(false)
	sink.untilNodes(t, "a")
}

func TestFile_Live(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "nodes")
	f := NewFile(path, "", nil)
	if _, err := f.Live(ctx, "a"); err == nil || errors.Is(err, ErrNodeNotFound) {
		t.Errorf("no file: %v; want an error that is no ErrNodeNotFound", err)
	}
	write(t, path, listOf("a"))
	if n, err := f.Live(ctx, "a"); err != nil || n != (Node{Name: "a", UID: "uid-a"}) {
		t.Errorf("a is there: %v, %v", n, err)
	}
	if _, err := f.Live(ctx, "b"); !errors.Is(err, ErrNodeNotFound) {
		t.Errorf("b is not there: %v, want ErrNodeNotFound", err)
	}
	replace(t, path, listOf("b"))
	if _, err := f.Live(ctx, "b"); err != nil {
		t.Errorf("b is there now: %v", err)
	}
	write(t, path, listOf())
	if _, err := f.Live(ctx, "b"); !errors.Is(err, ErrNodeNotFound) {
		t.Errorf("an empty list: %v, want ErrNodeNotFound", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := f.Live(ended, "b"); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
}

func TestFile_ClusterUID(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	path := filepath.Join(dir, "nodes")
	if uid, err := NewFile(path, "given", nil).ClusterUID(ctx); uid != "given" || err != nil {
		t.Errorf("given: %q, %v", uid, err)
	}
	// A path that was mistyped gets no identity, and leaves nothing behind.
	if uid, err := NewFile(path, "", nil).ClusterUID(ctx); err == nil || !strings.Contains(err.Error(), "is missing") {
		t.Errorf("of a node file that is missing: %q, %v", uid, err)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*")); len(files) != 0 {
		t.Errorf("left behind: %q", files)
	}
	write(t, path, listOf("a"))

	// Many processes start at the same moment.
	var all sync.WaitGroup
	uids := make([]string, 50)
	for i := range uids {
		all.Go(func() {
			uid, err := NewFile(path, "", nil).ClusterUID(ctx)
			if err != nil {
				t.Error(err)
			}
			uids[i] = uid
		})
	}
	all.Wait()
	for _, uid := range uids {
		if uid != uids[0] || len(uid) != 36 {
			t.Fatalf("they do not agree on one UUID: %q", uids)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 2 {
		t.Errorf("what is left: %q (%v), want the nodes and the UID", files, err)
	}
	if info, err := os.Stat(path + ".cluster-uid"); err != nil || info.Mode() != 0o644 {
		t.Errorf("%v (%v), want all to read it", info.Mode(), err)
	}
}

func TestFile_ClusterUID_CannotBeKept(t *testing.T) {
	for name, c := range map[string]struct {
		make func(path string) error
		want string
	}{
		"empty":        {func(path string) error { return os.WriteFile(path+".cluster-uid", nil, 0o644) }, "something else"},
		"two of them":  {func(path string) error { return os.WriteFile(path+".cluster-uid", []byte("a b\n"), 0o644) }, "something else"},
		"far too long": {func(path string) error { return os.WriteFile(path+".cluster-uid", make([]byte, 1000), 0o644) }, "something else"},
		"a folder":     {func(path string) error { return os.Mkdir(path+".cluster-uid", fs.ModePerm) }, "is a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "nodes")
			write(t, path, listOf("a"))
			if err := c.make(path); err != nil {
				t.Fatal(err)
			}
			uid, err := NewFile(path, "", nil).ClusterUID(context.Background())
			if err == nil {
				t.Fatalf("UID %q", uid)
			}
			for _, want := range []string{path, "--cluster-uid", c.want} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
}
