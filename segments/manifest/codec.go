package manifest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"

	"github.com/akidb/akidb/segments/blob"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Bounds of what is read and written, in bytes.
const (
	MaxCurrentBytes = 4 << 10
	MaxBodyBytes    = 64 << 20
)

// CURRENT ends in its own checksum, in a place that no future format moves, so
// that damage is told apart from a version this build does not know.
const (
	sealFormat = ",\n  \"crc32c\": \"%08x\"\n}\n"
	sealBytes  = len(sealFormat) - len("%08x") + 8 // of what sealFormat makes
	openBytes  = len("\n}")                        // that the seal replaces
)

// encodeCurrent writes c as it lies in the store: JSON, and a CRC32C over
// everything before it.
func encodeCurrent(c Current) ([]byte, error) {
	b, err := encode(c)
	if err != nil {
		return nil, err
	}
	b = b[:len(b)-openBytes]
	b = fmt.Appendf(b, sealFormat, crc32.Checksum(b, blob.Castagnoli))
	if len(b) > MaxCurrentBytes {
		return nil, fmt.Errorf("got %d bytes, want at most %d", len(b), MaxCurrentBytes)
	}
	return b, nil
}

// decodeCurrent reads what encodeCurrent wrote and nothing else. Its errors
// wrap blob.ErrCorrupt or ErrUnsupported.
func decodeCurrent(b []byte) (Current, error) {
	var c Current
	if len(b) > MaxCurrentBytes || len(b) < sealBytes {
		return c, fmt.Errorf("got %d bytes, want %d to %d: %w", len(b), sealBytes, MaxCurrentBytes, blob.ErrCorrupt)
	}
	payload, seal := b[:len(b)-sealBytes], b[len(b)-sealBytes:]
	if want := fmt.Sprintf(sealFormat, crc32.Checksum(payload, blob.Castagnoli)); string(seal) != want {
		return c, fmt.Errorf("checksum: got %q, want %q: %w", seal, want, blob.ErrCorrupt)
	}
	if err := decode(append(payload[:len(payload):len(payload)], "\n}"...), &c); err != nil {
		return Current{}, err
	}
	if err := c.check(); err != nil {
		return Current{}, fmt.Errorf("%w: %w", err, blob.ErrCorrupt)
	}
	return c, nil
}

// encodeBody writes a snapshot as it lies in the store, and says its hash.
func encodeBody(s *Snapshot) (body []byte, sha string, err error) {
	if body, err = encode(s); err != nil {
		return nil, "", err
	}
	if len(body) > MaxBodyBytes {
		return nil, "", fmt.Errorf("got %d bytes, want at most %d", len(body), MaxBodyBytes)
	}
	return body, hash(body), nil
}

// decodeBody reads what encodeBody wrote and nothing else. Its errors wrap
// blob.ErrCorrupt or ErrUnsupported.
func decodeBody(b []byte) (*Snapshot, error) {
	if len(b) > MaxBodyBytes {
		return nil, fmt.Errorf("got %d bytes, want at most %d: %w", len(b), MaxBodyBytes, blob.ErrCorrupt)
	}
	s := new(Snapshot)
	if err := decode(b, s); err != nil {
		return nil, err
	}
	err := errors.Join(s.check(), checkNames(b, s.Format))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, blob.ErrCorrupt)
	}
	return s, nil
}

// since says with which format names came that were not in the first one, by
// path. An earlier body that has one is damaged, whatever its value; the
// snapshot cannot tell null from absence.
var since = map[string]int{
	"collection.codebook": 2, "quantizers": 2, "segments.quantizer": 2,
	"ancestors": 3, "pins": 3, "origins": 3, "set_digest": 3,
	"placement": 4,
}

// checkNames reports the names in a body that its format does not know yet.
func checkNames(b []byte, format int) error {
	if format == FormatVersion {
		return nil
	}
	var errs []error
	d := jsontext.NewDecoder(bytes.NewReader(b))
	for {
		token, err := d.ReadToken()
		if err == io.EOF {
			return errors.Join(errs...)
		}
		if err != nil {
			return err
		}
		if kind, n := d.StackIndex(d.StackDepth()); token.Kind() != '"' || kind != '{' || n%2 == 0 {
			continue // no name of a member
		}
		var name, where string
		for part := range d.StackPointer().Tokens() {
			if i, err := strconv.Atoi(part); err == nil {
				where += fmt.Sprintf("[%d]", i)
			} else {
				name, where = name+"."+part, where+"."+part
			}
		}
		if since[name[1:]] > format {
			errs = append(errs, fmt.Errorf("%s: unknown in format %d", where[1:], format))
		}
	}
}

func encode(v any) ([]byte, error) {
	return json.Marshal(v, jsontext.WithIndent("  "))
}

// decode is strict: unknown, duplicate and wrongly cased names, invalid UTF-8
// and trailing bytes are all errors. The format is looked at first, because a
// newer one may well have names that are unknown here.
func decode(b []byte, v any) error {
	var probe struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(b, &probe); err != nil {
		return fmt.Errorf("%w: %w", err, blob.ErrCorrupt)
	}
	if probe.Format > FormatVersion {
		return fmt.Errorf("got format %d, want at most %d: %w", probe.Format, FormatVersion, ErrUnsupported)
	}
	if err := json.Unmarshal(b, v, json.RejectUnknownMembers(true)); err != nil {
		return fmt.Errorf("%w: %w", err, blob.ErrCorrupt)
	}
	return nil
}

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
