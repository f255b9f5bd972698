package columns

import (
	"fmt"
	"strconv"

	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/format"
)

// Numbers of the physical layout. FORMAT.md explains them; a test compares.
const (
	// FormatName and FormatVersion identify the layout, in the file's key/value
	// metadata.
	FormatName    = "akidb.columns"
	FormatVersion = 1

	// MaxDimension is the longest vector a file can hold.
	MaxDimension = 16384

	// vectorPageBytes is the target size of a vector page. At 16 KiB the page
	// headers, levels and index cost 1-2 % of the file.
	vectorPageBytes = 16 << 10

	// pageRows and pageBytes bound the pages of the other columns, whichever
	// comes first: a point read decodes one such page. pageRows bounds vector
	// pages of tiny dimensions too.
	pageRows  = 1024
	pageBytes = 64 << 10

	// groupRows and groupBytes end a row group, whichever comes first. The
	// writer holds one row group in memory.
	groupRows  = 1 << 17
	groupBytes = 64 << 20
)

// Keys of the file's key/value metadata.
const (
	keyFormat    = "akidb.format"
	keyVersion   = "akidb.version"
	keyDimension = "akidb.dimension"
)

// Leaf columns in file order.
const (
	columnID = iota
	columnVector
	columnMetadata
	columnSeq
	columnCount
)

var columnNames = [columnCount]string{"id", "vector", "metadata", "seq"}

// record is the schema: parquet-go derives the columns from its tags. Metadata is
// a pointer because parquet-go 0.32 writes some nulls of an optional []byte or
// string as empty values, when nulls and values alternate.
type record struct {
	ID       string    `parquet:"id,plain,uncompressed"`
	Vector   []float32 `parquet:"vector,list,plain,uncompressed"`
	Metadata *string   `parquet:"metadata,optional,plain,zstd"`
	Seq      uint64    `parquet:"seq,plain,uncompressed"`
}

// rowsPerVectorPage is how many vectors of the dimension a full page holds.
func rowsPerVectorPage(dimension int) int {
	return max(1, min(pageRows, vectorPageBytes/(4*dimension)))
}

// Row is one row of a file.
type Row struct {
	ID       string
	Vector   []float32
	Metadata []byte // one JSON object; nil when the row has none
	Seq      uint64
}

// checkSchema compares the flattened schema tree with the only one this version
// has. Field order, names, repetition and types all matter: readers find columns
// by position.
func checkSchema(schema []format.SchemaElement) error {
	const (
		required = format.Required
		optional = format.Optional
		repeated = format.Repeated
		group    = format.Type(-1)
	)
	want := []struct {
		name       string
		repetition format.FieldRepetitionType
		typ        format.Type
		children   int32
		converted  deprecated.ConvertedType
	}{
		{"id", required, format.ByteArray, 0, deprecated.UTF8},
		{"vector", required, group, 1, deprecated.List},
		{"list", repeated, group, 1, -1},
		{"element", required, format.Float, 0, -1},
		{"metadata", optional, format.ByteArray, 0, deprecated.UTF8},
		{"seq", required, format.Int64, 0, deprecated.Uint64},
	}
	if got := len(schema); got != len(want)+1 {
		return fmt.Errorf("schema has %d elements, want %d", got, len(want)+1)
	}
	if got := schema[0].NumChildren; !got.Valid || got.V != columnCount {
		return fmt.Errorf("schema root has %d columns, want %d", got.V, columnCount)
	}
	for i, w := range want {
		e := &schema[i+1]
		typ, converted := group, deprecated.ConvertedType(-1)
		if e.Type.Valid {
			typ = e.Type.V
		}
		if e.ConvertedType.Valid {
			converted = e.ConvertedType.V
		}
		if e.Name != w.name || !e.RepetitionType.Valid || e.RepetitionType.V != w.repetition ||
			typ != w.typ || e.NumChildren.V != w.children || converted != w.converted {
			return fmt.Errorf("schema element %d is %q, want %q as this version writes it", i+1, e.Name, w.name)
		}
	}
	return nil
}

// checkIdentity reads format, version and dimension out of the key/value
// metadata.
func checkIdentity(pairs []format.KeyValue) (dimension int, err error) {
	value := func(key string) string {
		for _, p := range pairs {
			if p.Key == key {
				return p.Value
			}
		}
		return ""
	}
	if got := value(keyFormat); got != FormatName {
		return 0, fmt.Errorf("%s is %q, want %q", keyFormat, got, FormatName)
	}
	if got := value(keyVersion); got != strconv.Itoa(FormatVersion) {
		return 0, fmt.Errorf("%s is %q, this program reads %d: %w", keyVersion, got, FormatVersion, ErrUnsupportedVersion)
	}
	dimension, err = strconv.Atoi(value(keyDimension))
	if err != nil || dimension < 1 || dimension > MaxDimension {
		return 0, fmt.Errorf("%s is %q, want 1 to %d", keyDimension, value(keyDimension), MaxDimension)
	}
	return dimension, nil
}
