package httpapi

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/akidb/akidb/internal/nearest"
)

// Limits bounds what a request may ask for. The zero value of a field means its
// default.
type Limits struct {
	Dimension     int // most dimensions of a vector; default 16 384
	IDBytes       int // longest id, bytes of UTF-8; default 512
	BatchRows     int // most rows or ids in one request; default 10 000
	BatchBytes    int // largest body, before and after decompression, bytes; default 64 MiB
	MetadataBytes int // largest metadata of one row, bytes of JSON; default 64 KiB
	FilterClauses int // most clauses in one filter; default 1 000
	FilterDepth   int // deepest nesting of one filter; default 16
	K             int // most results of one search; default 10 000
	Searches      int // most searches in one batch; default 1 000
}

// limitField ties a field to its name, default and the largest value the code
// behind it was made for.
type limitField struct {
	name         string
	value        *int
	def, highest int
}

func (l *Limits) fields() []limitField {
	return []limitField{
		{"dimension", &l.Dimension, 16384, 1 << 16},
		{"id bytes", &l.IDBytes, 512, 4096},
		{"batch rows", &l.BatchRows, 10000, 1 << 20},
		{"batch bytes", &l.BatchBytes, 64 << 20, 1 << 30},
		{"metadata bytes", &l.MetadataBytes, 64 << 10, 16 << 20},
		{"filter clauses", &l.FilterClauses, 1000, 1 << 20},
		{"filter depth", &l.FilterDepth, 16, 1000},
		{"k", &l.K, 10000, 1 << 20},
		{"searches", &l.Searches, 1000, 1 << 16},
	}
}

// WithDefaults returns l with every zero field set to its default.
func (l Limits) WithDefaults() Limits {
	for _, f := range l.fields() {
		if *f.value == 0 {
			*f.value = f.def
		}
	}
	return l
}

// Validate reports every limit out of range at once.
func (l Limits) Validate() error {
	var errs []error
	for _, f := range l.fields() {
		if *f.value < 1 || *f.value > f.highest {
			errs = append(errs, fmt.Errorf("limit %s is %d, want 1 to %d", f.name, *f.value, f.highest))
		}
	}
	return errors.Join(errs...)
}

// NameRule says what a collection may be called.
const NameRule = "1 to 63 of a-z, 0-9, _ and -, beginning with a letter or digit"

// CheckName checks a collection's name: ^[a-z0-9][a-z0-9_-]{0,62}$.
func CheckName(field, name string) *Error {
	ok := name != "" && len(name) <= 63 && name[0] != '_' && name[0] != '-' && nameCharacters(name)
	if ok {
		return nil
	}
	return Unprocessable("invalid_name", field, "%s is %q", field, printable([]byte(name))).WithHint("a name is %s", NameRule)
}

func nameCharacters(name string) bool {
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

// CheckID checks a row's id: 1 to IDBytes bytes of UTF-8, no control characters.
func (l Limits) CheckID(field, id string) *Error {
	switch {
	case id == "":
		return Unprocessable("invalid_id", field, "%s is empty", field)
	case len(id) > l.IDBytes:
		return Unprocessable("invalid_id", field, "%s has %d bytes; at most %d are allowed", field, len(id), l.IDBytes)
	case !utf8.ValidString(id):
		return Unprocessable("invalid_id", field, "%s is not valid UTF-8", field)
	}
	if i := strings.IndexFunc(id, unicode.IsControl); i >= 0 {
		return Unprocessable("invalid_id", field, "%s has a control character at byte %d", field, i)
	}
	return nil
}

// CheckDimension checks a collection's dimension: 1 to Dimension.
func (l Limits) CheckDimension(field string, dimension int) *Error {
	if dimension >= 1 && dimension <= l.Dimension {
		return nil
	}
	return Unprocessable("invalid_dimension", field, "%s is %d, want 1 to %d", field, dimension, l.Dimension)
}

// CheckMetric checks a collection's metric: cosine, l2 or dot.
func CheckMetric(field, metric string) *Error {
	switch metric {
	case "cosine", "l2", "dot":
		return nil
	}
	e := Unprocessable("invalid_metric", field, "%s is %q, want cosine, l2 or dot", field, printable([]byte(metric)))
	if near := nearest.Name(metric, []string{"cosine", "l2", "dot"}); near != "" {
		return e.WithHint("did you mean %q?", near)
	}
	return e
}

// CheckVector checks that v has the collection's dimension. Its values are
// finite already: decoding saw to that.
func CheckVector(field string, v Vector, dimension int, collection string) *Error {
	if len(v) == dimension {
		return nil
	}
	return Unprocessable("dimension_mismatch", field, "%s has %d values; collection %q needs %d", field, len(v), collection, dimension)
}

// CheckK checks the number of results asked for: 1 to K.
func (l Limits) CheckK(field string, k int) *Error {
	if k >= 1 && k <= l.K {
		return nil
	}
	return Unprocessable("invalid_k", field, "%s is %d, want 1 to %d", field, k, l.K)
}

// CheckRows checks the number of rows or ids in a batch: 1 to BatchRows.
func (l Limits) CheckRows(field string, rows int) *Error {
	switch {
	case rows < 1:
		return Unprocessable("empty_batch", field, "%s is empty", field)
	case rows > l.BatchRows:
		return TooLarge("batch_too_large", field, "%s has %d rows; at most %d are allowed", field, rows, l.BatchRows).
			WithHint("send several smaller batches")
	}
	return nil
}

// CheckMetadata checks the size of one row's metadata: at most MetadataBytes.
func (l Limits) CheckMetadata(field string, size int) *Error {
	if size <= l.MetadataBytes {
		return nil
	}
	return TooLarge("metadata_too_large", field, "%s has %d bytes; at most %d are allowed", field, size, l.MetadataBytes)
}
