package columns

import "io"

// WithReader returns f reading through r, which must have the same bytes. What
// f has learned of the file is shared, so this costs nothing: a caller can give
// every call a reader of its own, bound to a context.
func (f *File) WithReader(r io.ReaderAt) *File {
	return &File{r: r, dimension: f.dimension, rows: f.rows, groups: f.groups}
}
