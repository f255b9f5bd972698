package vecfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// maxNpyHeaderBytes bounds the text header; NumPy itself writes about a hundred bytes for a plain array.
const maxNpyHeaderBytes = 64 << 10

const npyMagic = "\x93NUMPY"

// openNpy reads the format that NumPy's numpy.lib.format documents: magic, version 1.0, 2.0 or 3.0, the length of the
// header (uint16, from 2.0 on uint32), and the header, a Python dictionary of descr, fortran_order and shape.
func openNpy(s *stream, opts Options) (Reader, error) {
	var fixedHead [8]byte
	if n, err := s.full(fixedHead[:]); err != nil {
		return nil, s.fail(-1, 0, cutShort(err, int64(n), 8))
	}
	if string(fixedHead[:6]) != npyMagic {
		return nil, s.fail(-1, 0, fmt.Errorf("starts with %q, want %q", fixedHead[:6], npyMagic))
	}
	length := make([]byte, 2)
	switch major := fixedHead[6]; major {
	case 1:
	case 2, 3:
		length = make([]byte, 4)
	default:
		return nil, s.fail(-1, 6, fmt.Errorf("version %d.%d, want 1.0, 2.0 or 3.0", major, fixedHead[7]))
	}
	if n, err := s.full(length); err != nil {
		return nil, s.fail(-1, 8, cutShort(err, int64(n), int64(len(length))))
	}
	size := int64(binary.LittleEndian.Uint32(append(length, 0, 0)[:4]))
	if size > maxNpyHeaderBytes {
		return nil, s.fail(-1, 8, fmt.Errorf("header of %d bytes, want at most %d", size, maxNpyHeaderBytes))
	}
	header := make([]byte, size)
	at := s.offset
	if n, err := s.full(header); err != nil {
		return nil, s.fail(-1, at, cutShort(err, int64(n), size))
	}
	f := &fixed{stream: s, prefix: opts.IDPrefix}
	if err := f.parseNpyHeader(string(header)); err != nil {
		return nil, s.fail(-1, at, err)
	}
	return f, f.checkSize()
}

var npyEntry = regexp.MustCompile(`^\s*['"](\w+)['"]\s*:\s*('[^']*'|"[^"]*"|True|False|\([\d\s,L]*\))\s*(,|\})`)

// parseNpyHeader reads the dictionary into f. Structured arrays have a list for a descr, which no entry here matches.
func (f *fixed) parseNpyHeader(header string) error {
	rest, ok := strings.CutPrefix(strings.TrimSpace(header), "{")
	if !ok {
		return fmt.Errorf("header %.40q is not a dictionary", header)
	}
	entries := map[string]string{}
	for !strings.HasPrefix(strings.TrimSpace(rest), "}") {
		m := npyEntry.FindStringSubmatch(rest)
		if m == nil {
			return fmt.Errorf("header at %.60q: want descr, fortran_order and shape of a plain array", rest)
		}
		if _, twice := entries[m[1]]; twice {
			return fmt.Errorf("header holds %q twice", m[1])
		}
		entries[m[1]] = strings.Trim(m[2], `'"`)
		rest = rest[len(m[0]):]
		if m[3] == "}" {
			rest = "}" + rest
		}
	}
	if rest = strings.TrimSpace(rest)[1:]; strings.TrimSpace(rest) != "" {
		return fmt.Errorf("header goes on after its end with %.40q", rest)
	}
	if entries["fortran_order"] != "False" {
		return fmt.Errorf("fortran_order %q, want False: save the array with numpy.ascontiguousarray", entries["fortran_order"])
	}
	if err := f.setNpyType(entries["descr"]); err != nil {
		return err
	}
	return f.setNpyShape(entries["shape"])
}

func (f *fixed) setNpyType(descr string) error {
	var order binary.ByteOrder = binary.LittleEndian
	if strings.HasPrefix(descr, ">") {
		order = binary.BigEndian
	}
	switch strings.TrimLeft(descr, "<>") {
	case "f2":
		f.valueSize, f.decode = 2, func(dst []float32, src []byte) {
			for i := range dst {
				dst[i] = float16(order.Uint16(src[2*i:]))
			}
		}
	case "f4":
		f.valueSize, f.decode = 4, func(dst []float32, src []byte) {
			for i := range dst {
				dst[i] = math.Float32frombits(order.Uint32(src[4*i:]))
			}
		}
	case "f8":
		f.valueSize, f.decode = 8, func(dst []float32, src []byte) {
			for i := range dst {
				dst[i] = float32(math.Float64frombits(order.Uint64(src[8*i:])))
			}
		}
	default:
		return fmt.Errorf("descr %q, want f2, f4 or f8", descr)
	}
	if len(descr) != 3 {
		return fmt.Errorf("descr %q, want < or > and f2, f4 or f8", descr)
	}
	return nil
}

func (f *fixed) setNpyShape(shape string) error {
	fields := strings.Split(strings.TrimSuffix(strings.Trim(strings.ReplaceAll(shape, " ", ""), "()"), ","), ",")
	if len(fields) != 2 {
		return fmt.Errorf("shape %s, want (rows, dimension)", shape)
	}
	rows, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil {
		return fmt.Errorf("shape %s: %w", shape, errors.Unwrap(err))
	}
	dimension, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return fmt.Errorf("shape %s: %w", shape, errors.Unwrap(err))
	}
	if f.dimension, err = checkDimension(dimension); err != nil {
		return fmt.Errorf("shape %s: %w", shape, err)
	}
	if rows > math.MaxInt64/f.rowBytes()/2 {
		return fmt.Errorf("shape %s: %d rows are more than any file holds", shape, rows)
	}
	f.total = rows
	return nil
}

// float16 widens an IEEE 754 binary16 value; every one is exact in float32.
func float16(h uint16) float32 {
	sign, exponent, fraction := uint32(h>>15)<<31, uint32(h>>10)&0x1f, uint32(h)&0x3ff
	switch exponent {
	case 0: // zero and subnormals: fraction x 2^-24
		magnitude := float32(fraction) * 0x1p-24
		return math.Float32frombits(sign | math.Float32bits(magnitude))
	case 0x1f: // infinities and NaNs
		return math.Float32frombits(sign | 0xff<<23 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+127-15)<<23 | fraction<<13)
}
