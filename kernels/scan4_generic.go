package kernels

import "encoding/binary"

func scan4Generic(blocks, lut []byte, scan Scan, mask []uint32, est []float32, rows []uint32) int {
	size := len(lut) + BlockFactorSize // 16 bytes of code for each 16 entries of table
	kept := 0
	var sums [BlockRows]int32
	for b, allowed := range mask {
		if allowed == 0 {
			continue
		}
		block := blocks[b*size : (b+1)*size]
		sumCodesGeneric(block[:len(lut)], lut, &sums)
		factors := (*[BlockFactorSize]byte)(block[len(lut):])
		for j, sum := range sums {
			add := Float32(binary.LittleEndian.Uint16(factors[2*j:]))
			res := Float32(binary.LittleEndian.Uint16(factors[2*BlockRows+2*j:]))
			ip := float32(scan.Scale*float32(sum)) + scan.Bias
			e := float32(res*ip) + add
			if e < scan.Limit && allowed>>j&1 != 0 {
				est[kept], rows[kept] = e, uint32(b*BlockRows+j)
				kept++
			}
		}
	}
	return kept
}

// sumCodesGeneric adds up the table entries of 32 rows. Four bytes at a time, so that the eight
// sums of an inner loop stay in registers; & 15 into a [16]byte needs no bounds check.
func sumCodesGeneric(codes, lut []byte, sums *[BlockRows]int32) {
	lut = lut[:len(codes)]
	for j := 0; j < codeBytes; j += 4 {
		var a0, a1, a2, a3, b0, b1, b2, b3 int32
		for i := 0; i+16 <= len(codes); i += 16 {
			table := (*[LUTEntries]byte)(lut[i:])
			c := binary.LittleEndian.Uint32((*[codeBytes]byte)(codes[i:])[j:])
			a0 += int32(table[c&15])
			b0 += int32(table[c>>4&15])
			a1 += int32(table[c>>8&15])
			b1 += int32(table[c>>12&15])
			a2 += int32(table[c>>16&15])
			b2 += int32(table[c>>20&15])
			a3 += int32(table[c>>24&15])
			b3 += int32(table[c>>28])
		}
		sums[j], sums[j+1], sums[j+2], sums[j+3] = a0, a1, a2, a3
		sums[j+16], sums[j+17], sums[j+18], sums[j+19] = b0, b1, b2, b3
	}
}
