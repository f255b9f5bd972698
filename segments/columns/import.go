package columns

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// ImportConfig says which columns of a user's Parquet file mean what.
type ImportConfig struct {
	// IDColumn holds the ids: strings or integers. "" means "id", else "_id".
	IDColumn string
	// VectorColumn holds the vectors: a list of FLOAT, DOUBLE or FLOAT16, or
	// fixed-size bytes of little-endian float32. "" means "vector", else
	// "embedding", else "emb".
	VectorColumn string
	// MetadataColumn holds the metadata: a string with a JSON object, or a
	// struct. "" means "metadata" if there is one, else all other columns make
	// the metadata, null ones left out.
	MetadataColumn string
	// MetadataBytes bounds the metadata of a row; a row with more has a
	// *MetadataSizeError. A dictionary lets a file of a few kilobytes have
	// gigabytes of metadata, so this is found out before any is made. 0 means no
	// bound.
	MetadataBytes int
	// Bytes bounds what the file has decompressed, and its vectors in float32,
	// bytes; OpenImport refuses a file with more with a *SizeError, before
	// any of it is made. 0 means no bound.
	Bytes int64
}

// MetadataSizeError is a row's whose metadata is larger than asked for.
type MetadataSizeError struct{ Size int } // bytes, at least

func (e *MetadataSizeError) Error() string {
	return fmt.Sprintf("metadata has at least %d bytes", e.Size)
}

// Import reads rows out of a Parquet file of any origin.
type Import struct {
	file     *parquet.File
	id       *importNode
	vector   *importNode
	metadata []*importNode // one column that is the whole, or one member each
	whole    bool
	ignored  []string
	most     int // bytes of metadata a row may have, 0 for any
}

// ImportRow is a row of a user's file. With Err the row cannot be used, and the
// error names it and the column; otherwise id, vector and metadata are set and
// seq is 0. Rows are what the file says: whether they suit a collection is for
// the caller to check.
type ImportRow struct {
	Row
	Number int64 // 0-based position in the file
	Err    error
}

// importBatchRows and importBatchValues bound what is read at a time, a value
// taking 24 bytes, importBatchText the metadata made of it, but for one row.
const (
	importBatchRows   = 256
	importBatchValues = 128 << 10
	importBatchText   = 256 << 10 // bytes
)

// batchRows is how many rows are read at a time.
func (im *Import) batchRows() int {
	values := int64(1)
	for _, group := range im.file.Metadata().RowGroups {
		for _, column := range group.Columns {
			values += max(0, column.MetaData.NumValues)
		}
	}
	perRow := values/max(1, im.Rows()) + 1
	return int(min(max(1, importBatchValues/perRow), importBatchRows))
}

// OpenImport reads the schema of a file of size bytes and finds the columns.
func OpenImport(r io.ReaderAt, size int64, config ImportConfig) (im *Import, err error) {
	defer recoverInto(&err)
	if _, err := readFooter(r, size); err != nil { // before a library trusts its lengths
		return nil, fmt.Errorf("columns: import: %w", err)
	}
	file, err := parquet.OpenFile(r, size,
		parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true), parquet.ReadBufferSize(1<<20))
	if err != nil {
		return nil, fmt.Errorf("columns: import: %w", err)
	}
	im = &Import{file: file, most: config.MetadataBytes}
	if err := im.assign(config); err != nil {
		return nil, fmt.Errorf("columns: import: %w", err)
	}
	if config.Bytes > 0 {
		if err := im.bound(r, config.Bytes); err != nil {
			return nil, err
		}
	}
	return im, nil
}

// assign gives every top-level column its meaning.
func (im *Import) assign(config ImportConfig) error {
	columns := im.file.Root().Columns()
	nodes := make([]*importNode, len(columns))
	for i, c := range columns {
		nodes[i] = newImportNode(c, 0, 0)
	}
	find := func(what, configured string, defaults ...string) (*importNode, error) {
		if configured != "" {
			defaults = []string{configured}
		}
		for _, name := range defaults {
			for _, n := range nodes {
				if n.name == name {
					return n, nil
				}
			}
		}
		names := make([]string, len(nodes))
		for i, n := range nodes {
			names[i] = n.name
		}
		return nil, fmt.Errorf("file has no %s column %s, it has %q", what, orList(defaults), names)
	}
	var err error
	if im.id, err = find("id", config.IDColumn, "id", "_id"); err != nil {
		return err
	}
	if !im.id.isID() {
		return fmt.Errorf("id column %q is %v, want strings or integers", im.id.name, im.id.describe())
	}
	if im.vector, err = find("vector", config.VectorColumn, "vector", "embedding", "emb"); err != nil {
		return err
	}
	if !im.vector.isVector() {
		return fmt.Errorf("vector column %q is %v, want a list of floats or fixed-size bytes of them", im.vector.name, im.vector.describe())
	}
	whole, err := find("metadata", config.MetadataColumn, "metadata")
	if err != nil && config.MetadataColumn != "" {
		return err
	}
	if whole != nil && !whole.isObject() {
		if config.MetadataColumn != "" {
			return fmt.Errorf("metadata column %q is %v, want a string of JSON or a struct", whole.name, whole.describe())
		}
		whole = nil
	}
	for _, n := range nodes {
		switch {
		case n == im.id || n == im.vector:
		case whole == nil:
			im.metadata = append(im.metadata, n)
		case n == whole:
			im.metadata, im.whole = []*importNode{n}, true
		default:
			im.ignored = append(im.ignored, n.name)
		}
	}
	return nil
}

// Rows is how many rows the file claims to have.
func (im *Import) Rows() int64 { return im.file.NumRows() }

// Ignored names the columns that a metadata column makes superfluous.
func (im *Import) Ignored() []string { return im.ignored }

// Scan calls batch with rows from number first on, in order, up to 256 at a
// time. Their vectors and metadata are valid until batch returns. An error of
// batch ends the scan and is returned as it is.
func (im *Import) Scan(first int64, batch func([]ImportRow) error) error {
	if first < 0 {
		return fmt.Errorf("columns: import: first row is %d, want 0 or more", first)
	}
	s := importScan{
		file:  im,
		raw:   make([]parquet.Row, im.batchRows()),
		rows:  make([]ImportRow, 0, importBatchRows),
		leafs: make([][]parquet.Value, len(im.file.Schema().Columns())),
	}
	number := int64(0)
	for i, group := range im.file.RowGroups() {
		skip := min(max(0, first-number), group.NumRows())
		if skip < group.NumRows() {
			if err := s.group(group, number, skip, batch); err != nil {
				var own *batchError
				if errors.As(err, &own) {
					return own.err
				}
				return fmt.Errorf("columns: import: row group %d: %w", i, err)
			}
		}
		number += group.NumRows()
	}
	return nil
}

// batchError carries an error of the caller's function past our own context.
type batchError struct{ err error }

func (e *batchError) Error() string { return e.err.Error() }

type importScan struct {
	file   *Import
	raw    []parquet.Row
	rows   []ImportRow
	leafs  [][]parquet.Value // of one row, by leaf column
	floats []float32         // of the batch
	text   []byte            // metadata of the batch
}

// group reads one row group, from its row skip on; number is its first row's.
func (s *importScan) group(group parquet.RowGroup, number, skip int64, batch func([]ImportRow) error) error {
	reader, err := openRows(group, skip)
	if err != nil {
		return err
	}
	defer reader.Close()
	for next := skip; next < group.NumRows(); {
		n, err := s.read(reader)
		for done := 0; done < n; done += len(s.rows) {
			if err := s.convertRows(s.raw[done:n], number+next+int64(done)); err != nil {
				return err
			}
			if err := batch(s.rows); err != nil {
				return &batchError{err}
			}
		}
		next += int64(n)
		switch {
		case err == io.EOF && next < group.NumRows():
			return fmt.Errorf("ends after %d rows, claims %d", next, group.NumRows())
		case err != nil && err != io.EOF:
			return fmt.Errorf("row %d: %w", number+next, err)
		}
	}
	return nil
}

func openRows(group parquet.RowGroup, skip int64) (rows parquet.Rows, err error) {
	defer recoverInto(&err)
	rows = group.Rows()
	if skip > 0 {
		err = rows.SeekToRow(skip)
	}
	return rows, err
}

// read fills s.raw with the next n rows.
func (s *importScan) read(reader parquet.Rows) (n int, err error) {
	defer recoverInto(&err)
	n, err = reader.ReadRows(s.raw)
	if n == 0 && err == nil {
		err = io.ErrNoProgress
	}
	return n, err
}

// convertRows fills s.rows with what raw has, the first of which has the number:
// fewer when it becomes much.
func (s *importScan) convertRows(raw []parquet.Row, number int64) (err error) {
	defer recoverInto(&err)
	s.rows, s.floats, s.text = s.rows[:0], s.floats[:0], s.text[:0]
	for i := 0; i < len(raw) && len(s.text) < importBatchText; i++ {
		row := ImportRow{Number: number + int64(i)}
		row.Err = s.convert(&row, raw[i])
		s.rows = append(s.rows, row)
	}
	return nil
}

func (s *importScan) convert(row *ImportRow, raw parquet.Row) error {
	clear(s.leafs)
	raw.Range(func(column int, values []parquet.Value) bool {
		s.leafs[column] = values
		return true
	})
	fail := func(n *importNode, err error) error {
		return fmt.Errorf("row %d column %q: %w", row.Number, n.name, err)
	}
	var err error
	if row.ID, err = s.file.id.id(s.leafs); err != nil {
		return fail(s.file.id, err)
	}
	start := len(s.floats)
	if s.floats, err = s.file.vector.appendVector(s.floats, s.leafs); err != nil {
		return fail(s.file.vector, err)
	}
	row.Vector = s.floats[start:len(s.floats):len(s.floats)]
	if size := s.metadataSize(); s.file.most > 0 && size > s.file.most {
		return fmt.Errorf("row %d: %w", row.Number, &MetadataSizeError{size})
	}
	start = len(s.text)
	if s.file.whole {
		n := s.file.metadata[0]
		if s.text, err = n.appendObject(s.text, s.leafs); err != nil {
			return fail(n, err)
		}
	} else if s.text, err = appendMembers(s.text, s.file.metadata, s.leafs, true); err != nil {
		return fmt.Errorf("row %d: %w", row.Number, err)
	}
	if len(s.text) > start {
		row.Metadata = s.text[start:len(s.text):len(s.text)]
	}
	return nil
}

// metadataSize is at least how many bytes the row's metadata will have: that of
// its texts, and one for any other value.
func (s *importScan) metadataSize() int {
	size := 0
	for _, n := range s.file.metadata {
		for _, leaf := range n.leafs {
			_, isDecimal := leaf.logical.(*format.DecimalType) // shorter in digits
			for _, v := range s.leafs[leaf.leaf] {
				switch {
				case v.IsNull():
				case !isDecimal && (v.Kind() == parquet.ByteArray || v.Kind() == parquet.FixedLenByteArray):
					size += len(v.ByteArray())
				default:
					size++
				}
			}
		}
	}
	return size
}

// isID says whether a column can hold ids.
func (n *importNode) isID() bool {
	if n.leaf < 0 || n.repeated {
		return false
	}
	switch n.typ.Kind() {
	case parquet.ByteArray:
		_, isDecimal := n.logical.(*format.DecimalType)
		return !isDecimal
	case parquet.Int32, parquet.Int64:
		_, isInt := n.logical.(*format.IntType)
		return isInt || n.logical == nil
	}
	return false
}

func (n *importNode) id(leafs [][]parquet.Value) (string, error) {
	if len(leafs[n.leaf]) != 1 || leafs[n.leaf][0].IsNull() {
		return "", errors.New("is null, want an id")
	}
	v := leafs[n.leaf][0]
	if v.Kind() != parquet.ByteArray {
		text, err := n.appendLeaf(nil, v)
		return string(text), err
	}
	if !utf8.Valid(v.ByteArray()) {
		return "", fmt.Errorf("is %s, want utf-8", strconv.Quote(string(v.ByteArray())))
	}
	return string(v.ByteArray()), nil
}

// isVector says whether a column can hold vectors. Its only leaf is the values.
func (n *importNode) isVector() bool {
	leaf := n.onlyLeaf()
	if leaf == nil {
		return false
	}
	switch kind := leaf.typ.Kind(); {
	case leaf.rep == 1:
		return kind == parquet.Float || kind == parquet.Double || kind == parquet.FixedLenByteArray && leaf.typ.Length() == 2
	case leaf.rep == 0:
		return kind == parquet.FixedLenByteArray && leaf.typ.Length() >= 4 && leaf.typ.Length()%4 == 0
	}
	return false
}

func (n *importNode) appendVector(dst []float32, leafs [][]parquet.Value) ([]float32, error) {
	leaf := n.onlyLeaf()
	values := leafs[leaf.leaf]
	if len(values) == 0 || len(values) == 1 && values[0].IsNull() {
		return dst, errors.New("is null or empty, want a vector")
	}
	for i, v := range values {
		if v.IsNull() {
			return dst, fmt.Errorf("value %d is null", i)
		}
		switch v.Kind() {
		case parquet.Float:
			dst = append(dst, v.Float())
		case parquet.Double:
			f := float32(v.Double())
			if math.IsInf(float64(f), 0) && !math.IsInf(v.Double(), 0) {
				return dst, fmt.Errorf("value %d is %v, too large for float32", i, v.Double())
			}
			dst = append(dst, f)
		default:
			b := v.ByteArray()
			if leaf.rep == 1 {
				dst = append(dst, float16(uint16(b[0])|uint16(b[1])<<8))
				continue
			}
			start := len(dst)
			dst = append(dst, make([]float32, len(b)/4)...)
			decodeFloats(dst[start:], b)
		}
	}
	return dst, nil
}

// float16 converts IEEE 754 half precision, exactly.
func float16(h uint16) float32 {
	sign, exponent, fraction := uint32(h>>15)<<31, uint32(h>>10&0x1f), uint32(h&0x3ff)
	switch exponent {
	case 0: // zero and subnormal
		f := float32(fraction) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(f) | sign)
	case 0x1f: // infinite and NaN
		return math.Float32frombits(sign | 0x7f800000 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+112)<<23 | fraction<<13)
}
