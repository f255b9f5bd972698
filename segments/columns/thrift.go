package columns

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/parquet-go/parquet-go/encoding/thrift"
)

// decodeThrift decodes one compact-protocol struct at the start of b into v and
// returns how many bytes it took. The decoder of parquet-go allocates what a
// length claims; the measuring pass before it makes sure that claims fit into b
// and that the struct has at most maxItems elements and fields.
func decodeThrift(b []byte, v any, maxItems int) (int, error) {
	m := thriftMeter{b: b, items: maxItems}
	if err := m.skipStruct(0); err != nil {
		return 0, err
	}
	size := len(b) - len(m.b)
	reader := new(thrift.CompactProtocol).NewReaderFromBytes(b[:size:size])
	if err := thrift.NewDecoder(reader).Decode(v); err != nil {
		return 0, err
	}
	return size, nil
}

// thriftMeter walks the compact protocol without building anything.
// Source: Apache Thrift, doc/specs/thrift-compact-protocol.md.
type thriftMeter struct {
	b     []byte // what remains
	items int    // list elements and fields still allowed
}

const thriftMaxDepth = 16 // Parquet's own structs nest 7 deep

// Wire types of the compact protocol.
const (
	thriftStop = iota
	thriftTrue
	thriftFalse
	thriftByte
	thriftI16
	thriftI32
	thriftI64
	thriftDouble
	thriftBinary
	thriftList
	thriftSet
	thriftMap
	thriftStruct
)

var errThriftShort = errors.New("thrift: data ends too early")

func (m *thriftMeter) take(n uint64) error {
	if n > uint64(len(m.b)) {
		return errThriftShort
	}
	m.b = m.b[n:]
	return nil
}

func (m *thriftMeter) byte() (byte, error) {
	if len(m.b) == 0 {
		return 0, errThriftShort
	}
	c := m.b[0]
	m.b = m.b[1:]
	return c, nil
}

func (m *thriftMeter) uvarint() (uint64, error) {
	u, n := binary.Uvarint(m.b)
	if n <= 0 {
		return 0, errThriftShort
	}
	m.b = m.b[n:]
	return u, nil
}

func (m *thriftMeter) spend(n uint64) error {
	if n > uint64(m.items) {
		return errors.New("thrift: too many elements")
	}
	m.items -= int(n)
	return nil
}

func (m *thriftMeter) skipStruct(depth int) error {
	if depth > thriftMaxDepth {
		return fmt.Errorf("thrift: structs nest deeper than %d", thriftMaxDepth)
	}
	for {
		head, err := m.byte()
		if err != nil || head == thriftStop {
			return err
		}
		if err := m.spend(1); err != nil {
			return err
		}
		if head>>4 == 0 { // the field id follows instead of a difference
			if _, err := m.uvarint(); err != nil {
				return err
			}
		}
		typ := head & 0x0f
		if typ == thriftTrue || typ == thriftFalse {
			continue // the type is the value
		}
		if err := m.skipValue(typ, depth); err != nil {
			return err
		}
	}
}

func (m *thriftMeter) skipValue(typ byte, depth int) error {
	switch typ {
	case thriftTrue, thriftFalse, thriftByte:
		return m.take(1)
	case thriftI16, thriftI32, thriftI64:
		_, err := m.uvarint()
		return err
	case thriftDouble:
		return m.take(8)
	case thriftBinary:
		n, err := m.uvarint()
		if err != nil {
			return err
		}
		return m.take(n)
	case thriftList, thriftSet:
		return m.skipList(depth)
	case thriftStruct:
		return m.skipStruct(depth + 1)
	default: // Parquet has no maps
		return fmt.Errorf("thrift: unexpected wire type %d", typ)
	}
}

func (m *thriftMeter) skipList(depth int) error {
	if depth > thriftMaxDepth {
		return fmt.Errorf("thrift: lists nest deeper than %d", thriftMaxDepth)
	}
	head, err := m.byte()
	if err != nil {
		return err
	}
	count := uint64(head >> 4)
	if count == 15 {
		if count, err = m.uvarint(); err != nil {
			return err
		}
	}
	if count > uint64(len(m.b)) { // an element takes at least a byte
		return errThriftShort
	}
	if err := m.spend(count); err != nil {
		return err
	}
	for range count {
		if err := m.skipValue(head&0x0f, depth+1); err != nil {
			return err
		}
	}
	return nil
}
