package blob_test

import (
	"errors"
	"hash/crc32"
	"io"
	"strings"
	"testing"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/faultblob"
	"github.com/akidb/akidb/segments/blob/memblob"
)

func TestDirectVerifies(t *testing.T) {
	s := faultblob.New(memblob.New())
	body := "0123456789"
	if _, err := s.Put(t.Context(), "k", strings.NewReader(body), 10, blob.Condition{}); err != nil {
		t.Fatal(err)
	}
	r := blob.Range{Key: "k", Offset: 2, Length: 5, CRC32C: crc32.Checksum([]byte(body[2:7]), blob.Castagnoli)}
	b, err := blob.Direct(s).ReadRange(t.Context(), r)
	if err != nil || string(b) != body[2:7] {
		t.Errorf("got %q, %v", b, err)
	}
	for bit := range 8 * r.Length {
		rule := s.Inject(faultblob.On(faultblob.ReadRange), faultblob.FlipBit(bit))
		b, err := blob.Direct(s).ReadRange(t.Context(), r)
		if !errors.Is(err, blob.ErrCorrupt) || b != nil {
			t.Errorf("bit %d flipped: got %q, %v; want %v", bit, b, err, blob.ErrCorrupt)
		}
		s.Remove(rule)
	}
	r.Length = 9
	if _, err := blob.Direct(s).ReadRange(t.Context(), r); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("past the end: got %v, want %v", err, io.ErrUnexpectedEOF)
	}
	if err := r.Verify([]byte("short")); !errors.Is(err, blob.ErrCorrupt) {
		t.Errorf("wrong length: got %v, want %v", err, blob.ErrCorrupt)
	}
}
