package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/akidb/akidb/segments/columns"
)

// body is a request to send, over and over.
type body struct {
	bytes       []byte
	contentType string
	ids         []int // where the ids are, if they can be replaced
}

// idBytes is how long an id is: sixteen hexadecimal digits.
const idBytes = 16

// renumber gives the rows ids from first on.
func (b *body) renumber(first uint64) {
	for i, at := range b.ids {
		appendID(b.bytes[:at], first+uint64(i))
	}
}

func appendID(dst []byte, n uint64) []byte {
	const digits = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		dst = append(dst, digits[n>>shift&15])
	}
	return dst
}

// newBody makes a request of rows with ids from first on.
func newBody(s setting, r *rand.Rand, first uint64) (body, error) {
	rows := make([]columns.Row, s.batch)
	for i := range rows {
		rows[i].ID = string(appendID(nil, first+uint64(i)))
		rows[i].Vector = make([]float32, s.dim)
		for j := range rows[i].Vector {
			rows[i].Vector[j] = float32(r.NormFloat64())
		}
		if s.metadata {
			rows[i].Metadata = fmt.Appendf(nil, `{"title":"row %d","year":%d,"tags":["a","b"]}`, i, 1900+r.IntN(125))
		}
	}
	var b body
	switch s.encoding {
	case "json", "base64", "ndjson":
		b = textBody(s, rows)
	case "parquet":
		var out bytes.Buffer
		w, err := columns.NewWriter(&out, s.dim)
		if err != nil {
			return body{}, err
		}
		if err := w.Append(rows); err != nil {
			return body{}, err
		}
		if err := w.Close(); err != nil {
			return body{}, err
		}
		b = body{bytes: out.Bytes(), contentType: "application/vnd.apache.parquet"}
	default:
		return body{}, fmt.Errorf("encoding %q: want json, base64, ndjson or parquet", s.encoding)
	}
	return b.compress(s.compression)
}

func textBody(s setting, rows []columns.Row) body {
	b := body{contentType: "application/json"}
	before, between, after := `{"vectors":[`, ",", "]}"
	switch {
	case s.encoding == "ndjson":
		b.contentType, before, between, after = "application/x-ndjson", "", "\n", "\n"
	case s.batch == 1:
		before, after = "", ""
	}
	out := []byte(before)
	for i, row := range rows {
		if i > 0 {
			out = append(out, between...)
		}
		out = append(out, `{"id":"`...)
		b.ids = append(b.ids, len(out))
		out = append(append(out, row.ID...), `","vector":`...)
		if s.encoding == "base64" {
			out = appendBase64(out, row.Vector)
		} else {
			out = appendNumbers(out, row.Vector, s.digits)
		}
		if row.Metadata != nil {
			out = append(append(out, `,"metadata":`...), row.Metadata...)
		}
		out = append(out, '}')
	}
	b.bytes = append(out, after...)
	return b
}

func appendBase64(dst []byte, v []float32) []byte {
	raw := make([]byte, 0, 4*len(v))
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
	}
	dst = base64.StdEncoding.AppendEncode(append(dst, '"'), raw)
	return append(dst, '"')
}

func appendNumbers(dst []byte, v []float32, digits int) []byte {
	dst = append(dst, '[')
	for i, x := range v {
		if i > 0 {
			dst = append(dst, ',')
		}
		if digits == 0 {
			dst = strconv.AppendFloat(dst, float64(x), 'g', -1, 32)
		} else {
			dst = strconv.AppendFloat(dst, float64(x), 'g', digits, 64)
		}
	}
	return append(dst, ']')
}

func (b body) compress(how string) (body, error) {
	var out bytes.Buffer
	switch how {
	case "none":
		return b, nil
	case "gzip":
		w := gzip.NewWriter(&out)
		if _, err := w.Write(b.bytes); err != nil {
			return body{}, err
		}
		if err := w.Close(); err != nil {
			return body{}, err
		}
	case "zstd":
		w, err := zstd.NewWriter(&out)
		if err != nil {
			return body{}, err
		}
		if _, err := w.Write(b.bytes); err != nil {
			return body{}, err
		}
		if err := w.Close(); err != nil {
			return body{}, err
		}
	default:
		return body{}, fmt.Errorf("compression %q: want none, gzip or zstd", how)
	}
	return body{bytes: out.Bytes(), contentType: b.contentType}, nil
}
