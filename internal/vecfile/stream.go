package vecfile

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

const (
	readBufferBytes = 256 << 10
	// maxWindowBytes is the largest zstd window accepted: what `zstd --long=27` writes, and the memory a frame can ask for.
	maxWindowBytes = 128 << 20
)

// stream is a file's bytes, unpacked, with the offset of the next one.
type stream struct {
	path   string
	file   *os.File
	unpack func() // releases the decompressor; nil for a plain file
	r      *bufio.Reader
	offset int64
	size   int64 // unpacked size in bytes; -1 when not known
}

func openStream(path, compression string) (*stream, error) {
	// Looked at before it is opened: opening a pipe waits for its other end.
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("open %q: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	s := &stream{path: path, file: f, size: -1}
	if err := s.init(compression); err != nil {
		f.Close()
		return nil, fmt.Errorf("open %q: %w", path, err)
	}
	return s, nil
}

func (s *stream) init(compression string) error {
	var src io.Reader = s.file
	switch compression {
	case ".gz":
		z, err := gzip.NewReader(s.file)
		if err != nil {
			return fmt.Errorf("gzip: %w", noEOF(err))
		}
		src = z
	case ".zst":
		z, err := zstd.NewReader(s.file, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindowBytes))
		if err != nil {
			return fmt.Errorf("zstd: %w", err)
		}
		src, s.unpack = z, z.Close
	default:
		info, err := s.file.Stat()
		if err != nil {
			return err
		}
		s.size = info.Size()
	}
	s.r = bufio.NewReaderSize(src, readBufferBytes)
	return nil
}

// full fills p. It returns how many bytes it got, with io.EOF when that is none and io.ErrUnexpectedEOF when it is some.
func (s *stream) full(p []byte) (int, error) {
	n, err := io.ReadFull(s.r, p)
	s.offset += int64(n)
	return n, err
}

// skip moves past n bytes: by seeking in a plain file, by reading otherwise. It returns how many there were.
func (s *stream) skip(n int64) (int64, error) {
	if s.size >= 0 && n > int64(s.r.Buffered()) {
		n = min(n, max(s.size-s.offset, 0))
		if _, err := s.file.Seek(s.offset+n, io.SeekStart); err != nil {
			return 0, err
		}
		s.r.Reset(s.file)
		s.offset += n
		return n, nil
	}
	got, err := io.CopyN(io.Discard, s.r, n)
	s.offset += got
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return got, err
}

// fail is an error at the given row and byte offset that ends the reading of the file.
func (s *stream) fail(row, offset int64, cause error) *Error {
	return &Error{Path: s.path, Row: row, Offset: offset, Cause: cause}
}

func (s *stream) Close() error {
	if s.unpack != nil {
		s.unpack()
	}
	return s.file.Close()
}

// noEOF keeps the end of a packed stream's header from passing for the end of a file.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
