//go:build noasm || !(amd64 || arm64)

package kernels

func machineLevels() []Level { return nil }
