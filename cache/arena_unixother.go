//go:build unix && !linux

package cache

func adviseHuge([]byte) {}
