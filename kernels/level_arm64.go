//go:build !noasm

package kernels

import "golang.org/x/sys/cpu"

func machineLevels() []Level {
	var levels []Level
	if !cpu.ARM64.HasASIMD {
		return levels
	}
	levels = append(levels, NEON)
	if !cpu.ARM64.HasASIMDDP {
		return levels
	}
	return append(levels, NEONDotProd)
}
