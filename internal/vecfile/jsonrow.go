package vecfile

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// ParseVector reads one JSON value as a vector and appends its values to dst: an array of numbers, or a string holding the
// base64 of little-endian float32 values, as the REST interface takes them.
func ParseVector(dec *jsontext.Decoder, dst []float32) ([]float32, error) {
	switch kind := dec.PeekKind(); kind {
	case '[':
		return parseNumbers(dec, dst)
	case '"':
		tok, err := dec.ReadToken()
		if err != nil {
			return dst, err
		}
		return parseBase64(tok.String(), dst)
	case 0:
		_, err := dec.ReadToken()
		if errors.Is(err, io.EOF) {
			err = errors.New("vector is missing")
		}
		return dst, err
	default:
		return dst, fmt.Errorf("vector is %s, want an array of numbers or a base64 string", kindName(kind))
	}
}

func parseNumbers(dec *jsontext.Decoder, dst []float32) ([]float32, error) {
	if _, err := dec.ReadToken(); err != nil {
		return dst, err
	}
	for i := 0; dec.PeekKind() != ']'; i++ {
		if i == MaxDimension {
			return dst, fmt.Errorf("vector has more than %d values", MaxDimension)
		}
		if kind := dec.PeekKind(); kind != '0' && kind != 0 {
			return dst, fmt.Errorf("vector[%d] is %s, want a number", i, kindName(kind))
		}
		value, err := dec.ReadValue()
		if err != nil {
			return dst, noEOF(err)
		}
		x, err := parseFloat32(string(value))
		if err != nil {
			return dst, fmt.Errorf("vector[%d]: %w", i, err)
		}
		dst = append(dst, x)
	}
	_, err := dec.ReadToken()
	return dst, err
}

// parseFloat32 reads a finite number.
func parseFloat32(s string) (float32, error) {
	x, err := strconv.ParseFloat(s, 32)
	if err != nil {
		return 0, fmt.Errorf("%.40q: %w as a float32", s, errors.Unwrap(err))
	}
	if math.IsInf(x, 0) || math.IsNaN(x) {
		return 0, fmt.Errorf("%.40q is not finite", s)
	}
	return float32(x), nil
}

func parseBase64(s string, dst []float32) ([]float32, error) {
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return dst, fmt.Errorf("vector: %w", err)
	}
	if len(raw)%4 != 0 || len(raw) > 4*MaxDimension {
		return dst, fmt.Errorf("vector is base64 of %d bytes, want a multiple of 4, at most %d", len(raw), 4*MaxDimension)
	}
	for i := 0; i < len(raw); i += 4 {
		dst = append(dst, math.Float32frombits(binary.LittleEndian.Uint32(raw[i:])))
	}
	return dst, nil
}

// parseID takes a string, or an integer as its decimal digits.
func parseID(value jsontext.Value) (string, error) {
	switch value.Kind() {
	case '"':
		id, err := jsontext.AppendUnquote(nil, value)
		if err == nil && len(id) == 0 {
			err = errors.New("id is empty")
		}
		return string(id), err
	case '0':
		if bytes.ContainsAny(value, ".eE") {
			return "", fmt.Errorf("id is %.40s, want a string or an integer", value)
		}
		return string(value), nil
	}
	return "", fmt.Errorf("id is %s, want a string or an integer", kindName(value.Kind()))
}

// metadata gathers fields into one JSON object.
type metadata struct {
	json  []byte
	names map[string]struct{}
	given bool // an object was, if an empty one
}

func (m *metadata) reset() {
	m.json, m.given = m.json[:0], false
	if m.names == nil {
		m.names = map[string]struct{}{}
	}
	clear(m.names)
}

// add appends a field whose value is valid JSON.
func (m *metadata) add(name string, value []byte) error {
	if _, twice := m.names[name]; twice {
		return fmt.Errorf("metadata field %q is given twice", name)
	}
	m.names[name] = struct{}{}
	separator := byte('{')
	if len(m.json) > 0 {
		separator = ','
	}
	quoted, err := jsontext.AppendQuote(append(m.json, separator), name)
	if err != nil {
		return fmt.Errorf("metadata field %.40q: %w", name, err)
	}
	m.json = append(append(quoted, ':'), value...)
	return nil
}

// merge reads an object, or null, and adds its fields.
func (m *metadata) merge(dec *jsontext.Decoder) error {
	switch kind := dec.PeekKind(); kind {
	case 'n':
		return dec.SkipValue()
	case '{':
		m.given = true
	case 0:
		_, err := dec.ReadToken()
		return noEOF(err)
	default:
		return fmt.Errorf("metadata is %s, want an object", kindName(kind))
	}
	return eachField(dec, func(name string) error {
		value, err := dec.ReadValue()
		if err != nil {
			return noEOF(err)
		}
		return m.add(name, value)
	})
}

// object is the finished object; nil when there was neither a field nor an object.
func (m *metadata) object() []byte {
	switch {
	case len(m.json) > 0:
		m.json = append(m.json, '}')
	case m.given:
		m.json = append(m.json, "{}"...)
	default:
		return nil
	}
	return m.json
}

// eachField reads an object. For every field it calls read, which must consume the field's value.
func eachField(dec *jsontext.Decoder, read func(name string) error) error {
	tok, err := dec.ReadToken()
	if err != nil {
		return noEOF(err)
	}
	if tok.Kind() != '{' {
		return fmt.Errorf("got %s, want an object", kindName(tok.Kind()))
	}
	for {
		name, err := dec.ReadToken()
		if err != nil {
			return noEOF(err)
		}
		if name.Kind() == '}' {
			return nil
		}
		if err := read(name.String()); err != nil {
			return err
		}
	}
}

// checkEnd makes sure that nothing follows the one value dec was given.
func checkEnd(dec *jsontext.Decoder) error {
	if _, err := dec.ReadToken(); err == nil {
		return errors.New("more follows the end of the value")
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func kindName(kind jsontext.Kind) string {
	switch kind {
	case 'n':
		return "null"
	case 't', 'f':
		return "a boolean"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case '{':
		return "an object"
	case '[':
		return "an array"
	}
	return "malformed"
}
