//go:build unix

package reconcile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// lockLook is how often a lock that another process has is tried again.
const lockLook = 20 * time.Millisecond

// lockFolder waits for the lock of a folder, until ctx ends. The kernel lets go
// of it when the process ends, however it ends.
func lockFolder(ctx context.Context, path string) (unlock func(), err error) {
	folder, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { folder.Close() }, nil
		}
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = sleep(ctx, lockLook)
		}
		if err != nil {
			folder.Close()
			return nil, fmt.Errorf("waiting for the lock of folder %s: %w", path, err)
		}
	}
}
