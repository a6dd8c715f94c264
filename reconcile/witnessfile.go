package reconcile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// maxWitnessBytes is far more than a witness has.
const maxWitnessBytes = 64 << 10

// WitnessFile is the WitnessStore of a machine: a file, replaced whole or not at
// all. Processes of one machine may share it; replicas on others have their own.
type WitnessFile struct{ path string }

// NewWitnessFile makes a store of a file, which need not be there yet. Its folder
// has to be, and to be writable.
func NewWitnessFile(path string) *WitnessFile { return &WitnessFile{path} }

// Load reads the file.
func (f *WitnessFile) Load(context.Context) ([]byte, string, error) {
	data, err := os.ReadFile(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, "", nil
	case err != nil:
		return nil, "", err
	case len(data) == 0:
		return nil, "", fmt.Errorf("%s is empty", f.path)
	case len(data) > maxWitnessBytes:
		return nil, "", fmt.Errorf("%s has %d bytes: expected a witness", f.path, len(data))
	}
	return data, fileVersion(data), nil
}

// Store replaces the file. From the look at its version to the new one it holds
// the folder's lock: a leader that is stopped in between and goes on later would
// otherwise put its own in the place of its successor's.
func (f *WitnessFile) Store(ctx context.Context, data []byte, version string) (string, error) {
	unlock, err := lockFolder(ctx, filepath.Dir(f.path))
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, now, err := f.Load(ctx); err != nil {
		return "", err
	} else if now != version {
		return "", ErrWitnessMoved
	}
	tmp, err := os.CreateTemp(filepath.Dir(f.path), filepath.Base(f.path)+".new-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(tmp.Name()) // in vain, once it is renamed
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return "", err
	}
	if err := os.Rename(tmp.Name(), f.path); err != nil {
		return "", err
	}
	return fileVersion(data), syncFolder(filepath.Dir(f.path))
}

// syncFolder makes a rename outlive a loss of power.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

func fileVersion(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
