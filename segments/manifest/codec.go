package manifest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"

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
	err := s.check()
	if s.Format == 1 {
		err = errors.Join(err, checkFormat1(b))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, blob.ErrCorrupt)
	}
	return s, nil
}

// checkFormat1 reports the names in a body of format 1 that came with format 2.
// They are unknown there whatever their value, so the snapshot cannot tell.
func checkFormat1(b []byte) error {
	var later struct {
		Collection struct {
			Codebook jsontext.Value `json:"codebook"`
		} `json:"collection"`
		Quantizers jsontext.Value `json:"quantizers"`
		Segments   []struct {
			Quantizer jsontext.Value `json:"quantizer"`
		} `json:"segments"`
	}
	if err := json.Unmarshal(b, &later); err != nil {
		return err
	}
	var errs []error
	wrong := collect(&errs)
	wrong(later.Collection.Codebook != nil, "collection.codebook: unknown in format 1")
	wrong(later.Quantizers != nil, "quantizers: unknown in format 1")
	for i, seg := range later.Segments {
		wrong(seg.Quantizer != nil, "segments[%d].quantizer: unknown in format 1", i)
	}
	return errors.Join(errs...)
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
