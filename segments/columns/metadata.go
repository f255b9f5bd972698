package columns

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"
)

// maxMetadataDepth is how deep objects and arrays of metadata may nest. JSON
// libraries give up at some depth (ours at 10 000, Python's near 1 000), and an
// answer nests metadata deeper still: a row beyond it could not be told.
const maxMetadataDepth = 100

// ValidateMetadata makes sure that metadata is what a file may hold and a filter
// may walk: one JSON object in valid UTF-8, no name twice in one object, nested
// at most 100 deep, at most maxBytes long. nil means "none" and is fine. The error says what is wrong and
// where.
func ValidateMetadata(metadata []byte, maxBytes int) error {
	if metadata == nil {
		return nil
	}
	if len(metadata) > maxBytes {
		return fmt.Errorf("metadata has %d bytes, at most %d are allowed", len(metadata), maxBytes)
	}
	if err := checkJSON(metadata); err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	if got := kindName(rawDocument(metadata)); got != "an object" {
		return fmt.Errorf("metadata is %s, want an object", got)
	}
	if depth := depthOf(metadata); depth > maxMetadataDepth {
		return fmt.Errorf("metadata nests %d deep, at most %d are allowed", depth, maxMetadataDepth)
	}
	return nil
}

// depthOf is how deep valid JSON nests; 1 for an object of scalars.
func depthOf(json []byte) int {
	depth, deepest := 0, 0
	for i := 0; i < len(json); i++ {
		switch json[i] {
		case '{', '[':
			depth++
			deepest = max(deepest, depth)
		case '}', ']':
			depth--
		case '"':
			for i++; json[i] != '"'; i++ {
				if json[i] == '\\' {
					i++
				}
			}
		}
	}
	return deepest
}

// checkJSON accepts exactly one JSON value, strictly.
func checkJSON(b []byte) error {
	if jsontext.Value(b).IsValid() {
		return nil
	}
	d := jsontext.NewDecoder(bytes.NewBuffer(b)) // again, for the reason
	if _, err := d.ReadValue(); err != nil {
		var syntax *jsontext.SyntacticError
		switch {
		case err == io.EOF:
			return errors.New("not json: empty")
		case errors.As(err, &syntax) && syntax.JSONPointer != "":
			return fmt.Errorf("not json: %w at byte %d, in %s", syntax.Err, syntax.ByteOffset, syntax.JSONPointer)
		case errors.As(err, &syntax):
			return fmt.Errorf("not json: %w at byte %d", syntax.Err, syntax.ByteOffset)
		}
		return fmt.Errorf("not json: %w", err)
	}
	return fmt.Errorf("not json: more than one value, the second after byte %d", d.InputOffset())
}

// kindName names the kind of a value for an error.
func kindName(v rawValue) string {
	switch k := v.kind(); {
	case k == '{':
		return "an object"
	case k == '[':
		return "an array"
	case k == '"':
		return "a string"
	case k == 't' || k == 'f':
		return "a boolean"
	case k == 'n':
		return "null"
	case v.isNumber():
		return "a number"
	}
	return "nothing"
}
