package embedded

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
	"go.etcd.io/etcd/client/pkg/v3/fileutil"
)

// lockName is our own lock in the data folder. etcd locks its database too,
// but waits for it for ever.
const lockName = "holdfast.lock"

// lockFolder makes the data folder if need be, and claims it for this process
// until the lock is closed. The kernel lets go of the lock when the process
// ends, however it ends; the file stays, and means nothing by itself.
func lockFolder(dir string) (io.Closer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, folderError(dir, err)
	}
	path := filepath.Join(dir, lockName)
	lock, err := fileutil.TryLockFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fileutil.ErrLocked) {
		return nil, fmt.Errorf("embedded etcd: data folder %s is in use by %s: expected one that no running process uses", dir, owner(path))
	}
	if err != nil {
		return nil, folderError(dir, err)
	}
	if err := writeOwner(lock.File); err != nil {
		lock.Close()
		return nil, folderError(dir, err)
	}
	if err := checkDatabase(dir); err != nil {
		lock.Close()
		return nil, err
	}
	return lock, nil
}

func folderError(dir string, err error) error {
	return fmt.Errorf("embedded etcd: data folder %s cannot be used: %w: expected a folder that this process may write to", dir, err)
}

// writeOwner notes who holds the lock, for the message that the next one gets.
func writeOwner(file *os.File) error {
	if err := file.Truncate(0); err != nil {
		return err
	}
	_, err := file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

func owner(path string) string {
	content, err := os.ReadFile(path)
	if pid, convErr := strconv.Atoi(strings.TrimSpace(string(content))); err == nil && convErr == nil {
		return fmt.Sprintf("process %d", pid)
	}
	return "another process"
}

// checkDatabase looks at an existing database before etcd does: one that is
// locked (by an etcd which knows nothing of our lock) would make etcd wait
// for ever, and one that is not a database, or not ours to write, would make
// it panic.
func checkDatabase(dir string) error {
	path := filepath.Join(dir, "member", "snap", "db")
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return folderError(dir, err)
	}
	info, err := file.Stat()
	file.Close()
	if err == nil && info.Size() == 0 { // a crash while it was made: etcd makes it anew
		return nil
	}
	// Read-only, so that it is quick: the list of free pages is not read. The
	// timeout is one that a single attempt at the lock has used up.
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Millisecond})
	if errors.Is(err, bbolterrors.ErrTimeout) {
		return fmt.Errorf("embedded etcd: data folder %s is in use by another etcd, which has locked %s: expected one that no running process uses", dir, path)
	}
	if err != nil {
		return fmt.Errorf("embedded etcd: %s is no etcd database: %w", path, err)
	}
	return db.Close()
}
