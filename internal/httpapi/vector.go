package httpapi

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"unsafe"

	"github.com/go-json-experiment/json/jsontext"
)

// Vector is a vector in a request or response. It is read from an array of
// numbers or from a string, the base64 of little-endian float32 values, and
// written as an array of the shortest decimals that read back as the same
// float32. Every value is finite once decoded. Nil means the field was absent;
// an empty array decodes to an empty, non-nil Vector.
type Vector []float32

const vectorWanted = "an array of numbers or a base64 string of little-endian float32"

// UnmarshalJSONFrom implements the json package's UnmarshalerFrom.
func (v *Vector) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	raw, err := dec.ReadValue()
	if err != nil {
		return err
	}
	var out Vector
	switch kind := raw.Kind(); kind {
	case '[':
		out, err = parseNumbers(raw)
	case '"':
		out, err = parseBase64(raw)
	default:
		err = BadRequest("wrong_type", "", "is %s, want %s", kindName(kind), vectorWanted)
	}
	if err != nil {
		return err
	}
	*v = out
	return nil
}

// parseNumbers parses an array the decoder has already found well-formed, so
// that only numbers, commas and white space need telling apart. It allocates the
// result and nothing else.
func parseNumbers(raw jsontext.Value) (Vector, error) {
	rest := bytes.TrimLeft(raw[1:len(raw)-1], jsonSpace)
	if len(rest) == 0 {
		return Vector{}, nil
	}
	out := make(Vector, 0, bytes.Count(rest, comma)+1)
	for {
		if c := rest[0]; c != '-' && (c < '0' || c > '9') {
			return nil, BadRequest("wrong_type", index(len(out)), "is %s, want a number", kindName(jsontext.Value(rest).Kind()))
		}
		number, tail, more := bytes.Cut(rest, comma)
		number = bytes.TrimRight(number, jsonSpace)
		// The string shares number's bytes; ParseFloat keeps it only in its error.
		f, err := strconv.ParseFloat(unsafe.String(&number[0], len(number)), 32)
		if err != nil {
			return nil, Unprocessable("not_finite", index(len(out)), "is %s, which does not fit a float32", printable(number))
		}
		out = append(out, float32(f))
		if !more {
			return out, nil
		}
		rest = bytes.TrimLeft(tail, jsonSpace)
	}
}

const jsonSpace = " \t\r\n"

var comma = []byte{','}

func parseBase64(raw jsontext.Value) (Vector, error) {
	text := []byte(raw[1 : len(raw)-1])
	if bytes.IndexByte(text, '\\') >= 0 { // some encoders write / as \/
		var err error
		if text, err = jsontext.AppendUnquote(nil, raw); err != nil {
			return nil, err
		}
	}
	text = bytes.TrimRight(text, "=")
	data := make([]byte, base64.RawStdEncoding.DecodedLen(len(text)))
	n, err := base64.RawStdEncoding.Decode(data, text)
	switch {
	case err != nil:
		return nil, BadRequest("malformed_vector", "", "is not valid base64, want %s", vectorWanted)
	case n%4 != 0:
		return nil, BadRequest("malformed_vector", "", "decodes to %d bytes, want a multiple of 4, the size of a float32", n)
	}
	out := make(Vector, n/4)
	for i := range out {
		f := math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		if !finite(f) {
			return nil, Unprocessable("not_finite", index(i), "is not finite")
		}
		out[i] = f
	}
	return out, nil
}

// MarshalJSONTo implements the json package's MarshalerTo.
func (v Vector) MarshalJSONTo(enc *jsontext.Encoder) error {
	b := append(enc.AvailableBuffer(), '[')
	for i, f := range v {
		if !finite(f) {
			return fmt.Errorf("marshal vector: value %d is %v, want a finite number", i, f)
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = appendFloat32(b, f)
	}
	return enc.WriteValue(append(b, ']'))
}

// Base64 returns v in the compact form UnmarshalJSONFrom reads.
func (v Vector) Base64() string {
	data := make([]byte, 0, 4*len(v))
	for _, f := range v {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(f))
	}
	return base64.StdEncoding.EncodeToString(data)
}

// appendFloat32 uses an exponent only where plain digits would be long.
func appendFloat32(b []byte, f float32) []byte {
	format := byte('f')
	if a := math.Abs(float64(f)); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(b, float64(f), format, -1, 32)
}

// finite is false for infinities and NaN: their difference with themselves is NaN.
func finite(f float32) bool { return f-f == 0 }

func index(i int) string { return "[" + strconv.Itoa(i) + "]" }
