package httpapi

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"testing"
)

// allocated is how many bytes fn allocates.
func allocated(fn func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestDecompressingIsBounded: a bomb is refused at the limit, having taken less
// than thrice of it all in all; a claim of a size sets aside no more than is
// credible; and one that is true is all that is set aside.
func TestDecompressingIsBounded(t *testing.T) {
	const limit = 16 << 20
	bomb := bytes.Repeat([]byte{' '}, 256<<20)
	usual := make([]byte, 8<<20)
	for i := range usual {
		usual[i] = byte(i >> 4 * 31)
	}
	lying := []byte(gzipped(usual[:10]))
	binary.LittleEndian.PutUint32(lying[len(lying)-4:], limit)
	const gunzips, unzstds = 1 << 20, 3 * zstdWindow // the most that a reader makes for itself, unless it was used before
	for name, c := range map[string]struct {
		raw    []byte
		decode func([]byte, int) ([]byte, error)
		want   []byte // nil when refused
		code   string
		most   uint64
	}{
		"gzip bomb":          {[]byte(gzipped(bomb)), gunzip, nil, "body_too_large", 3*limit + gunzips},
		"zstd bomb":          {[]byte(zstded(t, bomb)), unzstd, nil, "body_too_large", 3*limit + unzstds},
		"zstd bomb streamed": {[]byte(zstdStreamed(t, bomb)), unzstd, nil, "body_too_large", 3*limit + unzstds},
		"gzip":               {[]byte(gzipped(usual)), gunzip, usual, "", 8<<20 + gunzips},
		"zstd":               {[]byte(zstded(t, usual)), unzstd, usual, "", 8<<20 + unzstds},
		"gzip that lies":     {lying, gunzip, nil, "malformed_gzip", gunzips},
	} {
		t.Run(name, func(t *testing.T) {
			var got []byte
			var err error
			n := allocated(func() { got, err = c.decode(c.raw, limit) })
			if e, _ := errors.AsType[*Error](err); c.code == "" && err != nil || c.code != "" && (e == nil || e.Code != c.code) || !bytes.Equal(got, c.want) {
				t.Fatalf("%d bytes, %v", len(got), err)
			}
			if n > c.most {
				t.Errorf("%d bytes allocated, want at most %d", n, c.most)
			}
		})
	}
}
