package s3blob

import (
	"errors"
	"fmt"
	"io"
)

// section is the next size bytes of a body, seekable as the SDK wants it so
// that it can read them more than once.
type section struct {
	body  io.ReadSeeker
	start int64 // of the section in body
	size  int64
	at    int64 // where body stands, from start
}

func newSection(body io.ReadSeeker, size int64) (*section, error) {
	start, err := body.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, fmt.Errorf("body: %w", err)
	}
	end, err := body.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, fmt.Errorf("body: %w", err)
	}
	if end-start < size {
		return nil, fmt.Errorf("body: got %d bytes, want %d", max(end-start, 0), size)
	}
	_, err = body.Seek(start, io.SeekStart)
	return &section{body: body, start: start, size: size}, err
}

func (s *section) Read(p []byte) (int, error) {
	left := s.size - s.at
	if left == 0 {
		return 0, io.EOF
	}
	n, err := s.body.Read(p[:min(int64(len(p)), left)])
	s.at += int64(n)
	if errors.Is(err, io.EOF) && s.at < s.size {
		err = io.ErrUnexpectedEOF // it has shrunk
	}
	return n, err
}

func (s *section) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += s.at
	case io.SeekEnd:
		offset += s.size
	}
	if offset < 0 || offset > s.size {
		return 0, fmt.Errorf("seek to %d of %d bytes", offset, s.size)
	}
	if _, err := s.body.Seek(s.start+offset, io.SeekStart); err != nil {
		return 0, err
	}
	s.at = offset
	return offset, nil
}
