//go:build noasm || !amd64

package plainread

import "encoding/binary"

func sum(data []byte, _ bool) uint64 {
	var a, b, c, d uint64
	for ; len(data) >= 32; data = data[32:] {
		a ^= binary.LittleEndian.Uint64(data)
		b ^= binary.LittleEndian.Uint64(data[8:])
		c ^= binary.LittleEndian.Uint64(data[16:])
		d ^= binary.LittleEndian.Uint64(data[24:])
	}
	return a ^ b ^ c ^ d
}
