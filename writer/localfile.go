package writer

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/writer/wal"
)

// maxLocalBytes bounds what is read of a file in the data directory.
const maxLocalBytes = 256 << 20

// sealPrefix begins the last line of a file in the data directory, which is the
// CRC32C of everything before it.
const sealPrefix = "crc32c "

// replaceFile puts body, and its seal, in the place of a file in one step that
// is durable when it returns.
func replaceFile(fs wal.FS, name string, body []byte) error {
	b := fmt.Appendf(bytes.Clone(body), "\n%s%08x\n", sealPrefix, crc32.Checksum(body, blob.Castagnoli))
	temp := name + ".tmp"
	f, err := fs.Create(temp)
	if err == nil {
		_, err = f.WriteAt(b, 0)
		if err == nil {
			err = f.SyncData()
		}
		err = errors.Join(err, f.Close())
	}
	if err == nil {
		err = fs.Rename(temp, name)
	}
	if err == nil {
		err = fs.SyncDir(filepath.Dir(name))
	}
	if err != nil {
		return fmt.Errorf("write %q: %w", name, err)
	}
	return nil
}

// readFile returns what replaceFile was given. A file that does not match its
// seal is blob.ErrCorrupt.
func readFile(fs wal.FS, name string) ([]byte, error) {
	fail := func(err error) ([]byte, error) { return nil, fmt.Errorf("read %q: %w", name, err) }
	f, err := fs.Open(name)
	if err != nil {
		return fail(err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return fail(err)
	}
	if size > maxLocalBytes {
		return fail(fmt.Errorf("%d bytes, want at most %d: %w", size, maxLocalBytes, blob.ErrCorrupt))
	}
	b := make([]byte, size)
	if _, err := f.ReadAt(b, 0); err != nil {
		return fail(err)
	}
	at := bytes.LastIndex(b, []byte("\n"+sealPrefix))
	if at < 0 {
		return fail(fmt.Errorf("no seal: %w", blob.ErrCorrupt))
	}
	body := b[:at]
	if want := fmt.Sprintf("\n%s%08x\n", sealPrefix, crc32.Checksum(body, blob.Castagnoli)); string(b[at:]) != want {
		return fail(fmt.Errorf("the seal does not match: %w", blob.ErrCorrupt))
	}
	return body, nil
}
