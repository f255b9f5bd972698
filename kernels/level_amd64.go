//go:build !noasm

package kernels

import "golang.org/x/sys/cpu"

func machineLevels() []Level {
	x := &cpu.X86
	var levels []Level
	if !(x.HasAVX2 && x.HasFMA && x.HasF16C && x.HasBMI1 && x.HasBMI2 && x.HasPOPCNT) {
		return levels
	}
	levels = append(levels, AVX2)
	if !(x.HasAVX512F && x.HasAVX512BW && x.HasAVX512VL && x.HasAVX512DQ) {
		return levels
	}
	levels = append(levels, AVX512)
	if !(x.HasAVX512VBMI && x.HasAVX512VNNI) {
		return levels
	}
	return append(levels, AVX512VNNI)
}
