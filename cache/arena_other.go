//go:build !unix

package cache

// reserve takes memory of Go's, aligned by its allocator.
func (a *Arena) reserve(size int) error {
	a.bytes = make([]byte, size)
	return nil
}

func (a *Arena) free() { a.bytes = nil }
