package watch

import (
	"log/slog"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fsnotify/fsnotify"
)

// folder tells when something happens to a file, by watching the folder that it
// is in: a file that is replaced is another file, and one that a symbolic link
// leads to (in Kubernetes' mounts of a ConfigMap, through the folder "..data",
// which is itself swapped) changes without being touched.
type folder struct {
	path    string
	log     *slog.Logger
	watcher *fsnotify.Watcher // nil where the system has none
	target  string            // where path leads, as last seen
	told    bool
}

func newFolder(path string, log *slog.Logger) *folder {
	if full, err := filepath.Abs(path); err == nil {
		path = full
	}
	f := &folder{path: path, log: log}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		f.tell(err)
		return f
	}
	f.watcher = watcher
	return f
}

func (f *folder) tell(err error) {
	if !f.told {
		f.told = true
		f.log.Warn("changes of the node file are not announced; it is looked at every so often", "file", f.path, "error", err)
	}
}

// follow watches the folders that path now leads through: its own, and that of
// the file behind it.
func (f *folder) follow() {
	if f.watcher == nil {
		return
	}
	var want []string
	if dir, err := filepath.EvalSymlinks(filepath.Dir(f.path)); err == nil {
		want = append(want, dir)
	}
	if target, err := filepath.EvalSymlinks(f.path); err == nil {
		f.target = target
		want = append(want, filepath.Dir(target))
	}
	have := f.watcher.WatchList()
	for _, dir := range have {
		if !slices.Contains(want, dir) {
			_ = f.watcher.Remove(dir) // gone by itself, if it fails
		}
	}
	for _, dir := range want {
		if slices.Contains(have, dir) {
			continue
		}
		if err := f.watcher.Add(dir); err != nil {
			f.tell(err)
		} else {
			have = append(have, dir)
		}
	}
}

// concerns says whether an event may be about the file.
func (f *folder) concerns(e fsnotify.Event) bool {
	base := filepath.Base(e.Name)
	return e.Op != fsnotify.Chmod &&
		(base == filepath.Base(f.path) || base == filepath.Base(f.target) || strings.HasPrefix(base, ".."))
}

// announces says whether changes are announced at all.
func (f *folder) announces() bool { return f.watcher != nil && len(f.watcher.WatchList()) > 0 }

func (f *folder) events() <-chan fsnotify.Event {
	if f.watcher == nil {
		return nil
	}
	return f.watcher.Events
}

func (f *folder) errors() <-chan error {
	if f.watcher == nil {
		return nil
	}
	return f.watcher.Errors
}

func (f *folder) close() {
	if f.watcher != nil {
		_ = f.watcher.Close() // nothing of it is needed any more
	}
}
