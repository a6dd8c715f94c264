package watch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
)

const maxUIDBytes = 256

// ClusterUID is the UID that the source was made with. Without one it is kept
// in a file beside the node file, FILE.cluster-uid, which the first start makes;
// several that start at the same moment agree on one.
func (f *File) ClusterUID(context.Context) (string, error) {
	if f.uid != "" {
		return f.uid, nil
	}
	path := f.path + ".cluster-uid"
	uid, err := readUID(path)
	if errors.Is(err, fs.ErrNotExist) {
		// A path that was mistyped gets no identity.
		if _, _, err := f.read(); err != nil {
			return "", err
		}
		if err = makeUID(path); err == nil {
			uid, err = readUID(path)
		}
	}
	if err != nil {
		return "", fmt.Errorf("the cluster's UID is not given and cannot be kept in %s: %w; give one with --cluster-uid", path, err)
	}
	return uid, nil
}

func readUID(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	uid := strings.TrimSpace(string(data))
	if uid == "" || len(uid) > maxUIDBytes || strings.ContainsFunc(uid, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", errors.New("it has something else in it than one UID")
	}
	return uid, nil
}

// makeUID puts a file with a new UID at path, whole or not at all, unless there
// is one. A link fails where its name is taken, so of two processes one wins.
func makeUID(path string) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(uuid.NewString() + "\n")
	if err == nil {
		err = tmp.Chmod(0o644)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
