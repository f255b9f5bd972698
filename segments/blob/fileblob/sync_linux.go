package fileblob

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncFileSystem makes everything that is visible on the file system of dir
// durable.
func syncFileSystem(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return os.NewSyscallError("syncfs", unix.Syncfs(int(f.Fd())))
}
