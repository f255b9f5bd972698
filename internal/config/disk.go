package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// DiskSize returns the size in bytes of the file system that dir is on. A
// directory that does not exist yet will be on that of its nearest parent.
func DiskSize(dir string) (int64, error) {
	var s unix.Statfs_t
	for at := dir; ; at = filepath.Dir(at) {
		err := unix.Statfs(at, &s)
		if err == nil {
			return int64(s.Blocks) * int64(s.Bsize), nil
		}
		if !errors.Is(err, fs.ErrNotExist) || at == filepath.Dir(at) {
			return 0, fmt.Errorf("size of the file system of %q: %w", dir, err)
		}
	}
}
