package watch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

// pace is when a file is read and looked at.
type pace struct {
	// settle is how long a file must have been left alone before it is read
	// again, so that one that is being written is not read half-way; settleMost
	// is how long that may put it off.
	settle, settleMost time.Duration
	// restat is how often the file is looked at though nothing was said of it:
	// the sign of life, and the backstop for changes that go unannounced
	// (network file systems). retry is how often while it cannot be used.
	restat, retry time.Duration
}

var filePace = pace{
	settle: 50 * time.Millisecond, settleMost: 500 * time.Millisecond,
	restat: 10 * time.Second, retry: time.Second,
}

const (
	// racy is how close to its own time of change a file must have been read
	// for a later change to have left the same time.
	racy = 2 * time.Second

	maxFileBytes = 1 << 30
)

// File is a NodeSource for where there is no Kubernetes to ask: a file of Node
// objects, exactly what "kubectl get nodes -o json" or "-o yaml" prints. It is
// read again when it changes, best by renaming a new one into its place. What it
// says between two readings is not seen.
//
// A file that is missing, empty, cut short or malformed keeps the last good
// list, makes the source stale and breaks the continuity of the view. It is
// never taken for an empty list.
type File struct {
	path string
	uid  string
	log  *slog.Logger
	pace pace

	mu   sync.Mutex
	last parsed
}

// parsed is the last good content.
type parsed struct {
	sum   [sha256.Size]byte
	nodes []Node
}

var _ NodeSource = (*File)(nil)

// NewFile makes a source of a file's nodes. uid stands for the UID of a
// kube-system namespace; see ClusterUID. A nil log is slog.Default().
func NewFile(path, uid string, log *slog.Logger) *File {
	if log == nil {
		log = slog.Default()
	}
	return &File{path: path, uid: uid, log: log, pace: filePace}
}

// read reads the file and what it says. Its error is one line that names the
// file and what was expected.
func (f *File) read() ([]Node, fs.FileInfo, error) {
	data, info, err := f.bytes()
	if err == nil {
		var nodes []Node
		if nodes, err = f.parse(data); err == nil {
			return nodes, info, nil
		}
	}
	return nil, nil, fmt.Errorf("node file %s %w; expected what \"kubectl get nodes -o json\" or \"-o yaml\" prints", f.path, err)
}

func (f *File) parse(data []byte) ([]Node, error) {
	sum := sha256.Sum256(data)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last.nodes != nil && f.last.sum == sum {
		return f.last.nodes, nil // many nodes take long to parse, and Live asks often
	}
	nodes, err := parseNodes(data)
	if err != nil {
		return nil, err
	}
	f.last = parsed{sum: sum, nodes: append(make([]Node, 0, len(nodes)), nodes...)}
	return f.last.nodes, nil
}

// bytes is the whole file at one moment, as far as its size and time can tell.
func (f *File) bytes() ([]byte, fs.FileInfo, error) {
	file, err := os.Open(f.path)
	if err != nil {
		return nil, nil, cannot("be opened", err)
	}
	defer file.Close()
	before, err := file.Stat()
	switch {
	case err != nil:
		return nil, nil, cannot("be looked at", err)
	case !before.Mode().IsRegular():
		return nil, nil, errors.New("is no regular file")
	case before.Size() > maxFileBytes:
		return nil, nil, fmt.Errorf("has %d bytes, more than %d", before.Size(), maxFileBytes)
	}
	var data bytes.Buffer
	if _, err := io.Copy(&data, io.LimitReader(file, maxFileBytes+1)); err != nil {
		return nil, nil, cannot("be read", err)
	}
	after, err := file.Stat()
	if err != nil {
		return nil, nil, cannot("be looked at", err)
	}
	if !same(before, after) || int64(data.Len()) != after.Size() {
		return nil, nil, errors.New("is being written")
	}
	return data.Bytes(), after, nil
}

func cannot(what string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("is missing")
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err // the file is named already
	}
	return fmt.Errorf("cannot %s: %w", what, err)
}

func same(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// Live reads the file again. Only a good one that does not have the node is ErrNodeNotFound.
func (f *File) Live(ctx context.Context, name string) (Node, error) {
	if err := ctx.Err(); err != nil {
		return Node{}, err
	}
	nodes, _, err := f.read()
	if err != nil {
		return Node{}, err
	}
	for _, n := range nodes {
		if n.Name == name {
			return n, nil
		}
	}
	return Node{}, fmt.Errorf("%w: node file %s has no %q", ErrNodeNotFound, f.path, name)
}

// Run reads the file, and again whenever it changes.
func (f *File) Run(ctx context.Context, revision func(context.Context) (int64, error), sink NodeSink) error {
	folder := newFolder(f.path, f.log)
	defer folder.close()
	r := &fileRun{file: f, revision: revision, sink: sink, gap: true}

	next := time.NewTimer(0)
	defer next.Stop()
	var unsettledSince time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-next.C:
			folder.follow()
			// Between a change and its announcement the timer may be due; what
			// was announced is read whatever its size and time say.
			good := r.look(ctx, !unsettledSince.IsZero())
			unsettledSince = time.Time{}
			next.Reset(f.pause(good && folder.announces()))
		case e, open := <-folder.events():
			if !open || !folder.concerns(e) {
				break
			}
			now := time.Now()
			if unsettledSince.IsZero() {
				unsettledSince = now
			}
			next.Reset(min(f.pace.settle, max(0, f.pace.settleMost-now.Sub(unsettledSince))))
		case err := <-folder.errors():
			f.log.Debug("watching the node file's folder", "file", f.path, "error", err)
			unsettledSince = time.Now() // events may be lost
			next.Reset(f.pace.settle)
		}
	}
}

// pause is how long to wait before looking at the file unasked.
func (f *File) pause(fine bool) time.Duration {
	if fine {
		return f.pace.restat
	}
	return f.pace.retry
}

// fileRun is one Run's view of the file.
type fileRun struct {
	file     *File
	revision func(context.Context) (int64, error)
	sink     NodeSink

	gap   bool  // what the file said was not seen all the time since the last good reading
	since int64 // the view is continuous since then, unless there is a gap
	good  fs.FileInfo
	read  time.Time // when good was read
}

// look hands the file's nodes on if it changed, or changed is set, and says
// whether the file is good.
func (r *fileRun) look(ctx context.Context, changed bool) bool {
	if !changed && !r.gap && r.unchanged() {
		r.sink.Heard(nil)
		return true
	}
	begun := time.Now()
	nodes, info, err := r.file.read()
	since := r.since
	if err == nil && r.gap {
		// After the reading: what came and went before it, nobody saw.
		if since, err = r.revision(ctx); err != nil {
			err = fmt.Errorf("node file %s is not relied on, for want of a revision to count from: %w", r.file.path, err)
		}
	}
	if ctx.Err() != nil {
		return false
	}
	if err != nil {
		r.gap = true
		r.sink.Heard(err)
		return false
	}
	r.gap, r.since, r.good, r.read = false, since, info, begun
	r.sink.ReplaceNodes(nodes, since)
	return true
}

// unchanged: the file is the one that was read last, as far as a look at it tells.
func (r *fileRun) unchanged() bool {
	now, err := os.Stat(r.file.path)
	return err == nil && same(now, r.good) && r.read.Sub(r.good.ModTime()) > racy
}
