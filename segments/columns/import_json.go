package columns

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// importNode is a column of a user's file, or what it is made of. def and rep
// are the definition and repetition levels at which it has a value.
// Source of the levels: Dremel (Melnik et al., 2010), as Parquet's
// documentation of nested encoding has it.
type importNode struct {
	name               string
	optional, repeated bool
	def, rep           int
	leaf               int // index of its leaf column, -1 for a group
	leafs              []*importNode
	typ                parquet.Type // of a leaf
	logical            format.LogicalTypeValue
	children           []*importNode
}

func newImportNode(c *parquet.Column, def, rep int) *importNode {
	n := &importNode{name: c.Name(), optional: c.Optional(), repeated: c.Repeated(), leaf: -1}
	if n.optional || n.repeated {
		def++
	}
	if n.repeated {
		rep++
	}
	n.def, n.rep = def, rep
	if t := c.Type(); t != nil {
		if l := t.LogicalType(); l != nil {
			n.logical = l.Value
		}
	}
	if c.Leaf() {
		n.leaf, n.typ = c.Index(), c.Type()
		n.leafs = []*importNode{n}
		return n
	}
	for _, child := range c.Columns() {
		node := newImportNode(child, def, rep)
		n.children = append(n.children, node)
		n.leafs = append(n.leafs, node.leafs...)
	}
	return n
}

func (n *importNode) onlyLeaf() *importNode {
	if len(n.leafs) != 1 {
		return nil
	}
	return n.leafs[0]
}

func (n *importNode) describe() string {
	switch {
	case n.repeated && n.leaf >= 0:
		return fmt.Sprintf("repeated %v", n.typ)
	case n.leaf >= 0:
		return n.typ.String()
	case n.onlyLeaf() != nil:
		return fmt.Sprintf("a group of %v", n.onlyLeaf().typ)
	}
	return fmt.Sprintf("a group of %d columns", len(n.leafs))
}

// isObject says whether a column can be the whole metadata.
func (n *importNode) isObject() bool {
	if n.repeated {
		return false
	}
	if n.leaf >= 0 {
		return n.typ.Kind() == parquet.ByteArray
	}
	return n.listElement() == nil
}

// appendObject appends the metadata that the column holds; nothing for null.
func (n *importNode) appendObject(dst []byte, leafs [][]parquet.Value) ([]byte, error) {
	if n.isNull(leafs) {
		return dst, nil
	}
	if n.leaf < 0 {
		return n.appendValue(dst, leafs)
	}
	text := leafs[n.leaf][0].ByteArray()
	if err := checkJSON(text); err != nil {
		return dst, err
	}
	switch document := rawDocument(text); document.kind() {
	case 'n':
		return dst, nil
	case '{':
		return append(dst, document...), nil
	default:
		return dst, fmt.Errorf("is %s, want a JSON object", kindName(document))
	}
}

// appendMembers appends an object of the nodes. Without any member that is not
// null and with dropNulls it appends nothing.
func appendMembers(dst []byte, nodes []*importNode, leafs [][]parquet.Value, dropNulls bool) ([]byte, error) {
	start := len(dst)
	dst = append(dst, '{')
	for _, n := range nodes {
		if dropNulls && n.isNull(leafs) {
			continue
		}
		if len(dst) > start+1 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = appendText(dst, n.name); err != nil {
			return dst, err
		}
		dst = append(dst, ':')
		if dst, err = n.appendValue(dst, leafs); err != nil {
			return dst, fmt.Errorf("column %q: %w", n.name, err)
		}
	}
	if dropNulls && len(dst) == start+1 {
		return dst[:start], nil
	}
	return append(dst, '}'), nil
}

func appendText[T string | []byte](dst []byte, text T) ([]byte, error) {
	if !utf8.Valid([]byte(text)) {
		return dst, fmt.Errorf("is %q, want utf-8", text)
	}
	return jsontext.AppendQuote(dst, text)
}

// first is the next value of the node's first leaf; every leaf of a node has at
// least one value where the node is, null or not.
func (n *importNode) first(leafs [][]parquet.Value) (parquet.Value, bool) {
	if len(n.leafs) == 0 || len(leafs[n.leafs[0].leaf]) == 0 {
		return parquet.Value{}, false
	}
	return leafs[n.leafs[0].leaf][0], true
}

func (n *importNode) isNull(leafs [][]parquet.Value) bool {
	v, ok := n.first(leafs)
	return !ok || n.optional && v.DefinitionLevel() < n.def
}

// skip drops the one value that stands for a null or an empty list.
func (n *importNode) skip(leafs [][]parquet.Value) {
	for _, leaf := range n.leafs {
		if len(leafs[leaf.leaf]) > 0 {
			leafs[leaf.leaf] = leafs[leaf.leaf][1:]
		}
	}
}

// appendValue appends the node as JSON and takes its values out of leafs.
func (n *importNode) appendValue(dst []byte, leafs [][]parquet.Value) ([]byte, error) {
	if n.isNull(leafs) {
		n.skip(leafs)
		return append(dst, "null"...), nil
	}
	if n.repeated {
		return n.appendRepeated(dst, leafs, n.appendItem)
	}
	if element := n.listElement(); element != nil {
		return n.children[0].appendRepeated(dst, leafs, element)
	}
	if n.isMap() {
		start := len(dst)
		dst, err := n.children[0].appendRepeated(dst, leafs, n.children[0].appendEntry)
		if err == nil {
			dst[start], dst[len(dst)-1] = '{', '}'
		}
		return dst, err
	}
	return n.appendItem(dst, leafs)
}

// isMap says whether the node is a MAP from strings, which becomes an object.
func (n *importNode) isMap() bool {
	if _, ok := n.logical.(*format.MapType); !ok || len(n.children) != 1 || !n.children[0].repeated {
		return false
	}
	entry := n.children[0].children
	return len(entry) == 2 && entry[0].leaf >= 0 && entry[0].typ.Kind() == parquet.ByteArray
}

// appendEntry appends one entry of a map, without braces.
func (n *importNode) appendEntry(dst []byte, leafs [][]parquet.Value) ([]byte, error) {
	key := leafs[n.children[0].leaf]
	if len(key) == 0 || key[0].IsNull() {
		return dst, errors.New("a key of the map is null")
	}
	n.children[0].skip(leafs)
	dst, err := appendText(dst, key[0].ByteArray())
	if err != nil {
		return dst, err
	}
	return n.children[1].appendValue(append(dst, ':'), leafs)
}

type appendFunc func(dst []byte, leafs [][]parquet.Value) ([]byte, error)

// listElement is how to append one element if the node is a LIST, in the
// standard shape of three levels or the older one of two; else nil.
func (n *importNode) listElement() appendFunc {
	if _, ok := n.logical.(*format.ListType); !ok || len(n.children) != 1 || !n.children[0].repeated {
		return nil
	}
	list := n.children[0]
	if len(list.children) == 1 && list.name != "array" && list.name != n.name+"_tuple" {
		return list.children[0].appendValue
	}
	return list.appendItem
}

// appendRepeated appends an array of what one repeated node holds.
func (n *importNode) appendRepeated(dst []byte, leafs [][]parquet.Value, item appendFunc) ([]byte, error) {
	v, ok := n.first(leafs)
	if !ok || v.DefinitionLevel() < n.def {
		n.skip(leafs)
		return append(dst, "[]"...), nil
	}
	dst = append(dst, '[')
	for again := true; again; {
		before := len(leafs[n.leafs[0].leaf])
		var err error
		if dst, err = item(dst, leafs); err != nil {
			return dst, err
		}
		if len(leafs[n.leafs[0].leaf]) == before {
			return dst, errors.New("list does not advance: damaged levels")
		}
		v, ok := n.first(leafs)
		if again = ok && v.RepetitionLevel() == n.rep; again {
			dst = append(dst, ',')
		}
	}
	return append(dst, ']'), nil
}

// appendItem appends one value of the node, its own repetition aside.
func (n *importNode) appendItem(dst []byte, leafs [][]parquet.Value) ([]byte, error) {
	if n.leaf < 0 {
		return appendMembers(dst, n.children, leafs, false)
	}
	values := leafs[n.leaf]
	if len(values) == 0 {
		return dst, errors.New("a value is missing: damaged levels")
	}
	leafs[n.leaf] = values[1:]
	if values[0].IsNull() {
		return append(dst, "null"...), nil
	}
	return n.appendLeaf(dst, values[0])
}

// appendLeaf appends one value that is not null. Dates and times become RFC
// 3339, decimals numbers, bytes base64, and floats that JSON lacks null.
func (n *importNode) appendLeaf(dst []byte, v parquet.Value) ([]byte, error) {
	switch logical := n.logical.(type) {
	case *format.DateType:
		day := time.Unix(0, 0).UTC().AddDate(0, 0, int(v.Int32()))
		return jsontext.AppendQuote(dst, day.Format(time.DateOnly))
	case *format.TimestampType:
		return jsontext.AppendQuote(dst, timestamp(v.Int64(), logical.Unit).Format(time.RFC3339Nano))
	case *format.TimeType:
		count := v.Int64()
		if v.Kind() == parquet.Int32 {
			count = int64(v.Int32())
		}
		return jsontext.AppendQuote(dst, timestamp(count, logical.Unit).Format("15:04:05.999999999"))
	case *format.DecimalType:
		return append(dst, decimal(v, int(logical.Scale))...), nil
	case *format.IntType:
		if !logical.IsSigned {
			if v.Kind() == parquet.Int32 {
				return strconv.AppendUint(dst, uint64(v.Uint32()), 10), nil
			}
			return strconv.AppendUint(dst, v.Uint64(), 10), nil
		}
	case *format.StringType, *format.EnumType:
		return appendText(dst, v.ByteArray())
	case *format.JsonType:
		if err := checkJSON(v.ByteArray()); err != nil {
			return dst, err
		}
		return append(dst, rawDocument(v.ByteArray())...), nil
	case *format.UUIDType:
		if b := v.ByteArray(); len(b) == 16 {
			return fmt.Appendf(dst, `"%x-%x-%x-%x-%x"`, b[:4], b[4:6], b[6:8], b[8:10], b[10:]), nil
		}
	}
	switch v.Kind() {
	case parquet.Boolean:
		return strconv.AppendBool(dst, v.Boolean()), nil
	case parquet.Int32:
		return strconv.AppendInt(dst, int64(v.Int32()), 10), nil
	case parquet.Int64:
		return strconv.AppendInt(dst, v.Int64(), 10), nil
	case parquet.Int96: // nanoseconds of the day, Julian day; deprecated, still written
		i := v.Int96()
		nanos := int64(uint64(i[1])<<32 | uint64(i[0]))
		const julianEpoch = 2440588
		t := time.Unix((int64(i[2])-julianEpoch)*86400, nanos).UTC()
		return jsontext.AppendQuote(dst, t.Format(time.RFC3339Nano))
	case parquet.Float:
		return appendFloat(dst, float64(v.Float()), 32), nil
	case parquet.Double:
		return appendFloat(dst, v.Double(), 64), nil
	}
	return jsontext.AppendQuote(dst, base64.StdEncoding.EncodeToString(v.ByteArray()))
}

func appendFloat(dst []byte, f float64, bits int) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(dst, "null"...)
	}
	return strconv.AppendFloat(dst, f, 'g', -1, bits)
}

func timestamp(count int64, unit format.TimeUnit) time.Time {
	switch unit.Value.(type) {
	case *format.MilliSeconds:
		return time.UnixMilli(count).UTC()
	case *format.MicroSeconds:
		return time.UnixMicro(count).UTC()
	}
	return time.Unix(0, count).UTC()
}

// decimal writes an unscaled integer (big-endian two's complement when in
// bytes) with scale digits after the point.
func decimal(v parquet.Value, scale int) string {
	n := new(big.Int)
	switch v.Kind() {
	case parquet.Int32:
		n.SetInt64(int64(v.Int32()))
	case parquet.Int64:
		n.SetInt64(v.Int64())
	default:
		b := v.ByteArray()
		n.SetBytes(b)
		if len(b) > 0 && b[0] >= 0x80 {
			n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
		}
	}
	digits, sign := n.String(), ""
	if digits[0] == '-' {
		digits, sign = digits[1:], "-"
	}
	if scale <= 0 {
		return sign + digits
	}
	if missing := scale + 1 - len(digits); missing > 0 {
		digits = strings.Repeat("0", missing) + digits
	}
	return sign + digits[:len(digits)-scale] + "." + digits[len(digits)-scale:]
}
