package writer

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/internal/memtable"
	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/manifest"
)

// rowBody is one row in a JSON body. Unknown names are refused by the decoder.
type rowBody struct {
	ID       string         `json:"id"`
	Vector   httpapi.Vector `json:"vector"`
	Metadata jsontext.Value `json:"metadata"`
	condition
}

// upsertBody is either one row or a batch, of which if_absent holds for all rows.
type upsertBody struct {
	ID       *string               `json:"id"`
	Vector   httpapi.Vector        `json:"vector"`
	Metadata jsontext.Value        `json:"metadata"`
	Vectors  httpapi.List[rowBody] `json:"vectors"`
	condition
}

// batch turns a request body into operations, checking every row on the way:
// nothing is written unless all are right.
type batch struct {
	limits httpapi.Limits
	meta   manifest.Collection

	ops  []memtable.Op
	at   map[string]int // id → its operation
	rows int            // taken, repeated ids included

	claims  []claim
	claimed map[string]struct{} // ids of claims

	arena     []float32 // for vectors to come
	arenaRows int       // of the last one made
	raw       []byte    // of one vector in base64
}

func newBatch(limits httpapi.Limits, meta manifest.Collection) *batch {
	return &batch{limits: limits, meta: meta, at: map[string]int{}}
}

// parse reads a body of the given media type.
func (b *batch) parse(mediaType string, body []byte) error {
	switch mediaType {
	case httpapi.TypeNDJSON:
		return b.parseLines(body, b.parseLine)
	case httpapi.TypeParquet:
		return b.parseParquet(body)
	}
	return b.parseJSON(body)
}

func (b *batch) parseJSON(body []byte) error {
	s := scanner{batch: b, b: body}
	if ops, ok := s.body(); ok {
		b.at, b.ops = make(map[string]int, len(ops)), ops[:0] // take writes no further than was read
		for _, op := range ops {
			b.take(op)
		}
		return nil
	}
	b.arena, b.arenaRows = nil, 0
	return b.decodeJSON(body)
}

// decodeJSON is parseJSON without the shortcut.
func (b *batch) decodeJSON(body []byte) error {
	u := upsertBody{Vectors: httpapi.List[rowBody]{Most: b.limits.BatchRows}}
	if err := httpapi.DecodeJSON(body, &u); err != nil {
		return err
	}
	if !u.Vectors.Given {
		if u.ID == nil {
			return httpapi.Unprocessable("missing_field", "id", "id is missing").
				WithHint(`a body is one {"id", "vector", "metadata"} or {"vectors": [ … ]} of them`)
		}
		return b.add("", rowBody{*u.ID, u.Vector, u.Metadata, u.condition})
	}
	if u.ID != nil || u.Vector != nil || u.Metadata != nil || u.IfVersion != nil {
		return httpapi.Unprocessable("ambiguous_body", "vectors", "the body has both vectors and the fields of a single one")
	}
	if e := b.limits.CheckRows("vectors", u.Vectors.Count); e != nil {
		return e
	}
	for i, row := range u.Vectors.Items {
		row.IfAbsent = row.IfAbsent || u.IfAbsent
		if err := b.add(fmt.Sprintf("vectors[%d].", i), row); err != nil {
			return err
		}
	}
	return nil
}

// parseLines reads one row a line. Empty lines are nothing.
func (b *batch) parseLines(body []byte, parse func([]byte) error) error {
	number := 0
	for line := range bytes.Lines(body) {
		number++
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if err := parse(line); err != nil {
			if e, ok := errors.AsType[*httpapi.Error](err); ok {
				located := *e
				located.Message = fmt.Sprintf("line %d: %s", number, e.Message)
				return &located
			}
			return err
		}
	}
	return asError(b.limits.CheckRows("the body", b.rows))
}

func (b *batch) parseLine(line []byte) error {
	arena := b.arena
	s := scanner{batch: b, b: line}
	op, ok := s.row()
	_, claimed := b.claimed[op.ID]
	if ok && s.atEnd() && !claimed && b.rows < b.limits.BatchRows {
		b.take(op)
		return nil
	}
	b.arena = arena
	return b.decodeLine(line)
}

// decodeLine is parseLine without the shortcut.
func (b *batch) decodeLine(line []byte) error {
	var row rowBody
	prefix := fmt.Sprintf("vectors[%d]", b.rows)
	if err := httpapi.DecodeJSON(line, &row); err != nil {
		if e, ok := errors.AsType[*httpapi.Error](err); ok {
			return e.WithFieldPrefix(prefix)
		}
		return err
	}
	if b.rows == b.limits.BatchRows {
		return asError(b.limits.CheckRows("the body", b.rows+1))
	}
	return b.add(prefix+".", row)
}

func (b *batch) parseParquet(body []byte) error {
	im, err := columns.OpenImport(bytes.NewReader(body), int64(len(body)), columns.ImportConfig{
		MetadataBytes: b.limits.MetadataBytes, Bytes: int64(b.limits.BatchBytes),
	})
	if large, ok := errors.AsType[*columns.SizeError](err); ok {
		return b.rowsTooLarge(large.Size)
	}
	if err != nil {
		return malformedParquet(err)
	}
	if e := b.limits.CheckRows("the file", int(min(im.Rows(), int64(b.limits.BatchRows)+1))); e != nil {
		return e
	}
	size := int64(0)
	err = im.Scan(0, func(rows []columns.ImportRow) error {
		for _, r := range rows {
			if large, ok := errors.AsType[*columns.MetadataSizeError](r.Err); ok {
				return asError(b.limits.CheckMetadata(fmt.Sprintf("vectors[%d].metadata", b.rows), large.Size))
			}
			if r.Err != nil {
				return malformedParquet(r.Err)
			}
			if b.rows == b.limits.BatchRows {
				return asError(b.limits.CheckRows("the file", b.rows+1))
			}
			row := rowBody{ID: r.ID, Vector: r.Vector, Metadata: slices.Clone(r.Metadata)}
			if size += int64(len(r.ID) + 4*len(r.Vector) + len(r.Metadata)); size > int64(b.limits.BatchBytes) {
				return b.rowsTooLarge(size)
			}
			if len(r.Vector) == b.meta.Dimension { // else add refuses it
				row.Vector = b.newVector()
				copy(row.Vector, r.Vector)
			}
			if err := b.add(fmt.Sprintf("vectors[%d].", b.rows), row); err != nil {
				return err
			}
		}
		return nil
	})
	if _, ok := errors.AsType[*httpapi.Error](err); !ok && err != nil {
		return malformedParquet(err)
	}
	return err
}

// rowsTooLarge is the answer to a file that is small only as long as it is
// compressed or a dictionary stands for its rows.
func (b *batch) rowsTooLarge(size int64) *httpapi.Error {
	return httpapi.TooLarge("body_too_large", "", "the file's rows have at least %d bytes; at most %d are allowed", size, b.limits.BatchBytes).
		WithHint("send several smaller batches")
}

func malformedParquet(err error) *httpapi.Error {
	return httpapi.BadRequest("malformed_parquet", "", "the body is not a Parquet file of ids and vectors: %v", err)
}

// add checks one row, whose fields are named with prefix, and takes it. Of two
// rows with one id the later wins.
func (b *batch) add(prefix string, row rowBody) error {
	op, err := b.check(prefix, row)
	if err != nil {
		return err
	}
	if err := b.claim(prefix, op.ID, row.condition); err != nil {
		return err
	}
	b.take(op)
	return nil
}

func (b *batch) take(op memtable.Op) {
	b.rows++
	if i, ok := b.at[op.ID]; ok {
		b.ops[i] = op
		return
	}
	b.at[op.ID] = len(b.ops)
	b.ops = append(b.ops, op)
}

// arenaNumbers bounds how many numbers share an allocation, unless one vector
// has more.
const arenaNumbers = 64 << 10

// newVector returns room for a vector. Vectors share allocations, each of twice
// as many as the last one, so that a single row takes no more than it needs.
func (b *batch) newVector() []float32 {
	dim := b.meta.Dimension
	if len(b.arena) == 0 {
		b.arenaRows = min(max(1, 2*b.arenaRows), max(1, arenaNumbers/dim))
		b.arena = make([]float32, b.arenaRows*dim)
	}
	v := b.arena[:dim:dim]
	b.arena = b.arena[dim:]
	return v
}

func (b *batch) check(prefix string, row rowBody) (memtable.Op, error) {
	if e := b.limits.CheckID(prefix+"id", row.ID); e != nil {
		return memtable.Op{}, e
	}
	field := prefix + "vector"
	if row.Vector == nil {
		return memtable.Op{}, httpapi.Unprocessable("missing_field", field, "%s is missing", field)
	}
	if e := httpapi.CheckVector(field, row.Vector, b.meta.Dimension, b.meta.Name); e != nil {
		return memtable.Op{}, e
	}
	if err := b.checkValues(field, row.Vector); err != nil {
		return memtable.Op{}, err
	}
	metadata, err := checkMetadata(b.limits, prefix+"metadata", row.Metadata)
	if err != nil {
		return memtable.Op{}, err
	}
	return memtable.Op{ID: row.ID, Vector: row.Vector, Metadata: metadata}, nil
}

// checkValues refuses what no distance can be computed with. JSON has been
// through part of it already; Parquet has not.
func (b *batch) checkValues(field string, v []float32) error {
	zero := true
	for i, x := range v {
		if x-x != 0 {
			return httpapi.Unprocessable("not_finite", fmt.Sprintf("%s[%d]", field, i), "%s[%d] is not finite", field, i)
		}
		zero = zero && x == 0
	}
	if zero && b.meta.Metric == "cosine" {
		return httpapi.Unprocessable("zero_vector", field,
			"%s is all zeros and has no direction; collection %q compares by cosine", field, b.meta.Name)
	}
	return nil
}

// checkMetadata returns the metadata to keep: to the letter, nil for null or
// none.
func checkMetadata(limits httpapi.Limits, field string, raw jsontext.Value) ([]byte, error) {
	if len(raw) == 0 || raw.Kind() == 'n' {
		return nil, nil
	}
	if e := limits.CheckMetadata(field, len(raw)); e != nil {
		return nil, e
	}
	if err := columns.ValidateMetadata(raw, limits.MetadataBytes); err != nil {
		problem := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "metadata"), ":")
		return nil, httpapi.Unprocessable("invalid_metadata", field, "%s %s", field, strings.TrimSpace(problem))
	}
	return raw, nil
}

// asError keeps a nil *httpapi.Error from becoming an error that is not nil.
func asError(e *httpapi.Error) error {
	if e == nil {
		return nil
	}
	return e
}
