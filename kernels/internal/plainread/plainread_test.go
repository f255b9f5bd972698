package plainread

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/cpu"
)

func TestSumDependsOnEveryByte(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	data := make([]byte, 3*Step)
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	var want uint64
	for i := 0; i < len(data); i += 8 {
		want ^= binary.LittleEndian.Uint64(data[i:])
	}
	for _, wide := range []bool{false, cpu.X86.HasAVX512F} {
		if got := Sum(data, wide); got != want {
			t.Errorf("wide %v: got %#x, want %#x", wide, got, want)
		}
		if got := Sum(nil, wide); got != 0 {
			t.Errorf("wide %v: got %#x of nothing", wide, got)
		}
	}
}
