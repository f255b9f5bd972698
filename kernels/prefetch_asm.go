//go:build !noasm && (amd64 || arm64)

package kernels

//go:noescape
func prefetch(b *byte, size int)
