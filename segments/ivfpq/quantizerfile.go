package ivfpq

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// The stored form of a quantizer, as FORMAT.md draws it.
const (
	quantizerMagic   = "AKIDBIVQ"
	QuantizerVersion = 1
	quantizerHeader  = 64
	quantizerTail    = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	// ErrQuantizerCorrupt: the bytes are not those of a quantizer.
	ErrQuantizerCorrupt = errors.New("corrupt quantizer")
	// ErrQuantizerVersion: the quantizer was written by a version this one does not know.
	ErrQuantizerVersion = errors.New("unsupported quantizer version")
)

// AppendBinary appends the stored form of the quantizer.
func (z *Quantizer) AppendBinary(dst []byte) []byte {
	start := len(dst)
	le := binary.LittleEndian
	dst = append(dst, quantizerMagic...)
	dst = le.AppendUint32(dst, QuantizerVersion)
	dst = le.AppendUint32(dst, uint32(z.Dim))
	dst = append(dst, byte(z.Metric), byte(z.Codebook), 0, 0)
	dst = le.AppendUint32(dst, uint32(int32(z.Exponent)))
	dst = le.AppendUint64(dst, z.Seed)
	dst = le.AppendUint64(dst, z.Rows)
	dst = le.AppendUint64(dst, math.Float64bits(z.Residual))
	dst = le.AppendUint32(dst, uint32(z.Lists()))
	dst = append(dst, make([]byte, start+quantizerHeader-len(dst))...)
	for _, part := range [][]float32{z.origin, z.grid.steps, z.entries} {
		for _, x := range part {
			dst = le.AppendUint32(dst, math.Float32bits(x))
		}
	}
	dst = append(dst, z.grid.bytes...)
	return le.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// DecodeQuantizer is the inverse of AppendBinary. The quantizer keeps no reference to b.
func DecodeQuantizer(b []byte) (*Quantizer, error) {
	fail := func(format string, args ...any) (*Quantizer, error) {
		return nil, fmt.Errorf("decode quantizer: %w: %w", fmt.Errorf(format, args...), ErrQuantizerCorrupt)
	}
	if len(b) < quantizerHeader+quantizerTail || string(b[:8]) != quantizerMagic {
		return fail("%d bytes do not begin with %q", len(b), quantizerMagic)
	}
	le := binary.LittleEndian
	body := b[:len(b)-quantizerTail]
	if got, want := crc32.Checksum(body, castagnoli), le.Uint32(b[len(body):]); got != want {
		return fail("crc32c %08x, want %08x", got, want)
	}
	if v := le.Uint32(b[8:]); v != QuantizerVersion {
		return nil, fmt.Errorf("decode quantizer: version %d, this build reads %d: %w", v, QuantizerVersion, ErrQuantizerVersion)
	}
	p := Params{
		Dim: int(le.Uint32(b[12:])), Metric: Metric(b[16]), Codebook: Codebook(b[17]),
		Exponent: int(int32(le.Uint32(b[20:]))), Seed: le.Uint64(b[24:]),
	}
	if err := p.Validate(); err != nil {
		return fail("%w", err)
	}
	lists, dim := int(le.Uint32(b[48:])), CodeDim(p.Dim)
	entries := 0
	if p.Codebook == Learned {
		entries = dim * 16
	}
	if want := 4*(dim+lists+entries) + lists*dim; len(body)-quantizerHeader != want {
		return fail("%d lists of %d dimensions take %d bytes, got %d", lists, p.Dim, want, len(body)-quantizerHeader)
	}
	rest := body[quantizerHeader:]
	floats := func(n int) []float32 {
		out := make([]float32, n)
		for i := range out {
			out[i] = math.Float32frombits(le.Uint32(rest[4*i:]))
		}
		rest = rest[4*n:]
		return out
	}
	origin, steps, table := floats(dim), floats(lists), floats(entries)
	if entries == 0 {
		table = nil
	}
	z, err := newQuantizer(p, origin, nil, gridCodes{bytes: append([]byte(nil), rest...), steps: steps}, table)
	if err != nil {
		return fail("%w", err)
	}
	z.Rows, z.Residual = le.Uint64(b[32:]), math.Float64frombits(le.Uint64(b[40:]))
	if !(z.Residual >= 0 && z.Residual <= math.MaxFloat64) {
		return fail("residual %v", z.Residual)
	}
	return z, nil
}
