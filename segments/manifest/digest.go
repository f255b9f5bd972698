package manifest

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"
)

// SetDigest stands for a set of rows, each of which is an id and the sequence
// number of its last write, whatever their order: the sum modulo 2^128 of the
// hashes of its elements (AdHash; Bellare, Micciancio: A New Paradigm for
// Collision-free Hashing, 1997). Adding and removing a row is an addition, so a
// commit keeps it up without reading the rest; reading all rows and adding them
// up has to give the same. That finds rows that were lost, invented,
// duplicated, brought back or reverted. It is no defence against somebody who
// wants two sets to agree. The zero value is the empty set.
type SetDigest struct{ high, low uint64 }

// Add puts a row into the set.
func (d *SetDigest) Add(id string, seq uint64) { d.Union(rowDigest(id, seq)) }

// Remove takes a row out of the set.
func (d *SetDigest) Remove(id string, seq uint64) { d.Subtract(rowDigest(id, seq)) }

// Union adds the rows of another set, which has none in common with d.
func (d *SetDigest) Union(other SetDigest) {
	var carry uint64
	d.low, carry = bits.Add64(d.low, other.low, 0)
	d.high, _ = bits.Add64(d.high, other.high, carry)
}

// Subtract takes the rows of another set, all of which d has, out of d.
func (d *SetDigest) Subtract(other SetDigest) {
	var borrow uint64
	d.low, borrow = bits.Sub64(d.low, other.low, 0)
	d.high, _ = bits.Sub64(d.high, other.high, borrow)
}

func rowDigest(id string, seq uint64) SetDigest {
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, 8+len(id)), seq)
	sum := sha256.Sum256(append(b, id...))
	return SetDigest{binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:])}
}

// String is 32 lower-case hexadecimal digits, as in a manifest.
func (d SetDigest) String() string { return fmt.Sprintf("%016x%016x", d.high, d.low) }

// MarshalText implements encoding.TextMarshaler.
func (d SetDigest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText accepts what MarshalText makes and nothing else.
func (d *SetDigest) UnmarshalText(text []byte) error {
	var b [16]byte
	if len(text) != 2*len(b) {
		return fmt.Errorf("digest of %d digits, want %d", len(text), 2*len(b))
	}
	if _, err := hex.Decode(b[:], text); err != nil {
		return err
	}
	got := SetDigest{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])}
	if got.String() != string(text) {
		return fmt.Errorf("digest %q is not in lower case", text)
	}
	*d = got
	return nil
}
