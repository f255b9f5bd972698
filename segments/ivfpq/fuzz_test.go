package ivfpq

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"testing"
)

// FuzzScanList reads arbitrary bytes as a list: no panic, no row that does not exist or is
// masked, no estimate that is not finite; wrong lengths are errors.
func FuzzScanList(f *testing.F) {
	f.Add([]byte{0}, uint8(33), uint8(4), uint8(1), uint64(0), false)
	f.Add([]byte{0xff, 0x7f, 0x80, 0xff}, uint8(40), uint8(0), uint8(2), uint64(math.MaxUint64), true)
	f.Add([]byte{1, 0, 0, 0}, uint8(0), uint8(3), uint8(0), uint64(math.MaxUint64), false)
	f.Fuzz(func(t *testing.T, data []byte, count, spilled, metric uint8, bits uint64, cut bool) {
		params := Params{Dim: 20, Metric: metrics[int(metric)%3], Codebook: Sign, Seed: 1}
		lists := []List{{0, 300, 0}, {300, uint32(count), uint32(spilled)}}
		random := rand.New(rand.NewPCG(bits, 1))
		z := testQuantizer(t, params, normals(random, 2*CodeDim(params.Dim)))
		p, err := NewPostings(z, lists, nil)
		if err != nil {
			t.Fatal(err)
		}
		q, err := z.Query(normals(random, params.Dim))
		if err != nil {
			t.Fatal(err)
		}
		probe := q.Probe(2)[0]
		probe.List = 1
		stored := make([]byte, z.ListSize(lists[1]))
		for i := range stored {
			if len(data) > 0 {
				stored[i] = data[i%len(data)]
			}
		}
		if len(stored) > 0 { // else nothing but the header is looked at
			binary.LittleEndian.PutUint32(stored[8:], uint32(count))
			binary.LittleEndian.PutUint32(stored[12:], uint32(spilled))
		}
		if cut {
			if err := q.ScanList(probe, p, append(stored, 0), nil, 0, NewCandidates(9)); err == nil {
				t.Error("a byte too many passed")
			}
		}
		rows := 300 + uint32(count)
		allowed := make(Bitmap, (rows+63)/64)
		for i := range allowed {
			allowed[i] = bits
		}
		out := NewCandidates(int(bits%50) + 1)
		if err := q.ScanList(probe, p, stored, allowed, 0, out); err != nil {
			return // a scale that is none, or a spilled row that is not there
		}
		out.Count()
		for i, key := range out.keys {
			if row := RowOf(key); row.Ordinal >= rows || bits>>(row.Ordinal%64)&1 == 0 {
				t.Errorf("row %d of %d is not allowed", row.Ordinal, rows)
			}
			if out.est[i] != out.est[i] {
				t.Errorf("row %v: estimate %v", RowOf(key), out.est[i])
			}
		}
		if _, err := out.Finalists(5, []Part{{q, p, listBytes{make([]byte, z.ListSize(lists[0])), stored}}}); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzDecodeQuantizer: no bytes make it panic or take more memory than they have.
func FuzzDecodeQuantizer(f *testing.F) {
	z := testQuantizer(f, Params{Dim: 3, Metric: L2, Codebook: Sign}, make([]float32, 32))
	f.Add(z.AppendBinary(nil), uint16(20))
	f.Fuzz(func(t *testing.T, b []byte, flip uint16) {
		if len(b) > 4 { // a right checksum lets it look further
			b[int(flip)%(len(b)-4)] ^= byte(flip >> 8)
			binary.LittleEndian.PutUint32(b[len(b)-4:], crc32.Checksum(b[:len(b)-4], castagnoli))
		}
		z, err := DecodeQuantizer(b)
		if err == nil && len(z.AppendBinary(nil)) != len(b) {
			t.Errorf("%d bytes decode to %d", len(b), len(z.AppendBinary(nil)))
		}
	})
}
