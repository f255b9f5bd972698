package client

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/akidb/akidb/internal/vecfile"
)

// Vector is sent as the base64 of its little-endian float32 values, which costs the server no decimal parsing, and is read from
// that or from an array of numbers.
type Vector []float32

// MarshalJSONTo writes the base64 form.
func (v Vector) MarshalJSONTo(enc *jsontext.Encoder) error {
	return enc.WriteValue(appendVector(nil, v))
}

// UnmarshalJSONFrom reads either form.
func (v *Vector) UnmarshalJSONFrom(dec *jsontext.Decoder) (err error) {
	*v, err = vecfile.ParseVector(dec, (*v)[:0])
	return err
}

// appendVector appends v as a JSON string of base64.
func appendVector(dst []byte, v []float32) []byte {
	size := base64.StdEncoding.EncodedLen(4 * len(v))
	dst = slices.Grow(dst, size+2)
	dst = append(dst, '"')
	var raw [3 * 4]byte // three values are the least whose base64 needs no padding
	for len(v) >= 3 {
		for i, x := range v[:3] {
			binary.LittleEndian.PutUint32(raw[4*i:], math.Float32bits(x))
		}
		dst = base64.StdEncoding.AppendEncode(dst, raw[:])
		v = v[3:]
	}
	for i, x := range v {
		binary.LittleEndian.PutUint32(raw[4*i:], math.Float32bits(x))
	}
	dst = base64.StdEncoding.AppendEncode(dst, raw[:4*len(v)])
	return append(dst, '"')
}

// Batch is the body of one upsert, built row by row. The zero value is empty.
type Batch struct {
	body []byte // the envelope's start and the rows, each followed by a comma
	ends []int  // where each row's comma ends
}

const batchStart = `{"vectors":[`

// Add appends a row. metadata is a JSON object or nil; it is taken over as it is. An id that is not UTF-8 is an error.
func (b *Batch) Add(id string, vector []float32, metadata []byte) error {
	start := len(b.body)
	if start == 0 {
		b.body = append(b.body, batchStart...)
	}
	body, err := jsontext.AppendQuote(append(b.body, `{"id":`...), id)
	if err != nil {
		b.body = b.body[:start]
		return fmt.Errorf("id %.40q: %w", id, err)
	}
	body = appendVector(append(body, `,"vector":`...), vector)
	if metadata != nil {
		body = append(append(body, `,"metadata":`...), metadata...)
	}
	b.body = append(body, '}', ',')
	b.ends = append(b.ends, len(b.body))
	return nil
}

// Remove takes out the i-th row; those behind it move up.
func (b *Batch) Remove(i int) {
	start := len(batchStart)
	if i > 0 {
		start = b.ends[i-1]
	}
	size := b.ends[i] - start
	b.body = slices.Delete(b.body, start, b.ends[i])
	b.ends = slices.Delete(b.ends, i, i+1)
	for j := i; j < len(b.ends); j++ {
		b.ends[j] -= size
	}
}

// Len is how many rows there are.
func (b *Batch) Len() int { return len(b.ends) }

// Size is how many bytes the body takes, before compression.
func (b *Batch) Size() int { return len(b.body) + 1 }

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() { b.body, b.ends = b.body[:0], b.ends[:0] }

// json is the body. The batch must not be empty, and must not be changed while the bytes are in use.
func (b *Batch) json() []byte {
	return append(b.body[:len(b.body)-1:len(b.body)-1], "]}"...)
}

// Written is the answer to a write. Token makes a later read wait for it.
type Written struct {
	Upserted int    `json:"upserted"`
	Token    string `json:"token"`
}

// Upsert writes the batch, all rows or none. It is not repeated when its fate is unknown.
func (c *Client) Upsert(ctx context.Context, collection string, b *Batch) (Written, error) {
	return c.upsert(ctx, collection, b, once)
}

// UpsertRepeatable writes the batch and repeats it even when an attempt may have been applied. That is right when nobody else
// writes these ids meanwhile: the same rows written twice are the same rows.
func (c *Client) UpsertRepeatable(ctx context.Context, collection string, b *Batch) (Written, error) {
	return c.upsert(ctx, collection, b, repeatable)
}

func (c *Client) upsert(ctx context.Context, collection string, b *Batch, e effect) (Written, error) {
	if b.Len() == 0 {
		panic("BUG: upsert of an empty batch")
	}
	var written Written
	err := c.do(ctx, call{effect: e, method: http.MethodPost, path: collectionPath(collection) + "/vectors", body: b.json(), answer: &written})
	if err == nil && written.Upserted != b.Len() {
		err = fmt.Errorf("upsert %q: the server took %d of %d rows", collection, written.Upserted, b.Len())
	}
	return written, err
}

// Record is one stored row.
type Record struct {
	ID       string         `json:"id"`
	Vector   Vector         `json:"vector"`
	Metadata jsontext.Value `json:"metadata"`
}

// GetVector reads one row by its id.
func (c *Client) GetVector(ctx context.Context, collection, id string) (Record, error) {
	var record Record
	err := c.do(ctx, call{method: http.MethodGet, path: collectionPath(collection) + "/vectors/" + url.PathEscape(id), answer: &record})
	return record, err
}

// Count counts the rows that match filter, or all of them when it is nil.
func (c *Client) Count(ctx context.Context, collection string, filter jsontext.Value) (int64, error) {
	var request struct {
		Filter jsontext.Value `json:"filter,omitzero"`
	}
	request.Filter = filter
	var answer struct {
		Count int64 `json:"count"`
	}
	err := c.send(ctx, call{method: http.MethodPost, path: collectionPath(collection) + "/vectors/count", answer: &answer}, request)
	return answer.Count, err
}

// ScrollRequest asks for one page of a collection's rows. Include names "metadata" and "vector". AsOf reads an earlier version
// than the newest: a manifest version in digits, a time as RFC 3339 writes it, or the id or name of a snapshot.
type ScrollRequest struct {
	Filter  jsontext.Value `json:"filter,omitzero"`
	Limit   int            `json:"limit,omitzero"`
	Cursor  string         `json:"cursor,omitzero"`
	Include []string       `json:"include,omitzero"`
	AsOf    string         `json:"as_of,omitzero"`
}

// Page is one page; an empty NextCursor says that it is the last.
type Page struct {
	Vectors    []Record `json:"vectors"`
	NextCursor string   `json:"next_cursor"`
}

// Scroll reads one page.
func (c *Client) Scroll(ctx context.Context, collection string, r ScrollRequest) (Page, error) {
	var page Page
	err := c.send(ctx, call{method: http.MethodPost, path: collectionPath(collection) + "/vectors/scroll", answer: &page}, r)
	return page, err
}
