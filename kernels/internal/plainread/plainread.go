// Package plainread reads memory and does nothing else with it. It is what the benchmarks of the
// kernels are held against: no kernel can be faster than a read of its bytes.
package plainread

// Step divides the length of what is read.
const Step = 256

// Sum reads all of data, which is a multiple of Step long, with the widest loads there are, and
// returns something that depends on every byte. wide allows AVX-512.
func Sum(data []byte, wide bool) uint64 { return sum(data[:len(data)/Step*Step], wide) }
