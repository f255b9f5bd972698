package segments

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"unsafe"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/ivfpq"
)

// Numbers of index.ivf, as FORMAT.md draws it. Version ledger:
//
//	1  first: one quantizer a segment, sign codes, no spill
//	2  quantizers shared by segments, spilled rows, factors as halves
//	3  places of the pages of data.parquet, attributes
const (
	Version        = 3
	ReadMinVersion = 1

	magic      = "AKIDBIVF" // first and last eight bytes of the file
	headerSize = 64
	tailSize   = 24
	align      = 64 // every list and section begins at a multiple

	tocEntrySize = 24
	maxSections  = 64

	// dataBlockSize is the unit in which data.parquet is read, checksummed and
	// cached. 32 KiB holds a few pages of any column, and its checksums cost
	// 0.01 % of the file.
	dataBlockSize = 32 << 10

	// idBlockEntries is how many ids one block of the id table covers: with
	// ids of 36 bytes a look-up reads 44 KiB.
	idBlockEntries   = 1024
	idFenceSize      = 24 // and the id
	listEntrySize    = 32
	listEntrySizeV1  = 24
	calibrationSize  = 12
	widerHeaderSize  = 8
	propertiesSize   = 64
	maxFooterBytes   = 1 << 30
	maxRows          = math.MaxUint32 - 1
	maxCalibrations  = 64
	maxCurves        = 16
	maxListsPossible = 1 << 24
)

// Section tags. Numbers are never reused.
const (
	tagProperties  = 1 // what the segment is: dimension, metric, counts, seeds
	tagCentroids   = 2 // version 1 only: float32, lists × CodeDim, rotated space
	tagLists       = 3 // directory of posting lists
	tagCalibration = 4 // recall → probes and refine depth
	tagIDFences    = 5 // first id, place and checksum of every id-table block
	tagDataSums    = 6 // CRC32C of every block of data.parquet
	tagQuantizer   = 7 // of a flat index, which shares none
	tagPages       = 8 // from version 3, may be missing: where the pages of data.parquet lie

	// From version 3, one of them or none: the directory of the attributes, or
	// where it lies.
	tagAttributes     = 9
	tagAttributePlace = 10
	tagWider          = 11 // from version 3, may be missing: the calibration for other numbers of neighbours
)

// ErrUnsupported: the file was written by a version this one does not know.
var ErrUnsupported = errors.New("unsupported format version")

// properties is the fixed part of the footer.
type properties struct {
	version   uint32
	rows      uint32
	dim       uint32
	metric    ivfpq.Metric
	kind      ivfpq.Kind
	exponent  int     // version 1 only: of the index's scale, see ivfpq.Params
	seed      uint64  // version 1 only: of the rotation
	listsEnd  int64   // where the posting lists end and the id table begins
	dataSize  int64   // bytes of data.parquet
	quantizer uint32  // CRC32C of the stored quantizer; 0 for an exact index
	residual  float64 // mean squared distance of the rows coded for this segment to their centroids
	listCount uint32
}

// listEntry is one line of the list directory.
type listEntry struct {
	ivfpq.List
	offset int64
	length uint32
	crc32c uint32
	scan   uint32 // CRC32C of the part that a scan reads
}

// footer is everything a reader needs before it can search: one contiguous
// run of bytes at the end of index.ivf, read once and used in place.
type footer struct {
	properties
	centroids   []float32 // version 1 only
	quantizer   []byte    // stored form, of a flat index
	lists       []listEntry
	calibration []ivfpq.Calibration
	wider       []ivfpq.Curve
	fences      []fence
	dataSums    []uint32
	pages       []byte // layout of data.parquet; nil in a file without
	attributes  []byte // directory; nil in a file without, or if it lies apart
	// attributesAt is where it lies if it lies apart, without the object's key.
	attributesAt blob.Range
}

type section struct {
	tag  uint32
	data []byte
}

// encodeFooter lays the sections out after offset base of the file and
// appends the table of contents and the tail.
func encodeFooter(base int64, sections []section) []byte {
	var out []byte
	pad := func() {
		for (base+int64(len(out)))%align != 0 {
			out = append(out, 0)
		}
	}
	toc := make([]byte, 0, len(sections)*tocEntrySize)
	for _, s := range sections {
		pad()
		toc = binary.LittleEndian.AppendUint32(toc, s.tag)
		toc = binary.LittleEndian.AppendUint32(toc, crc32.Checksum(s.data, blob.Castagnoli))
		toc = binary.LittleEndian.AppendUint64(toc, uint64(len(out)))
		toc = binary.LittleEndian.AppendUint64(toc, uint64(len(s.data)))
		out = append(out, s.data...)
	}
	pad()
	out = append(out, toc...)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(sections)))
	out = binary.LittleEndian.AppendUint32(out, crc32.Checksum(toc, blob.Castagnoli))
	out = binary.LittleEndian.AppendUint64(out, uint64(len(out)+16)) // footer length, this field and the magic included
	return append(out, magic...)
}

// decodeFooter parses a footer. Slices of the result alias b where the
// machine's byte order and b's alignment allow it.
func decodeFooter(b []byte) (*footer, error) {
	sections, err := splitFooter(b)
	if err != nil {
		return nil, err
	}
	f := &footer{}
	type step struct {
		tag   uint32
		parse func([]byte) error
	}
	properties, ok := sections[tagProperties]
	if !ok {
		return nil, fmt.Errorf("footer has no section %d: %w", tagProperties, blob.ErrCorrupt)
	}
	if err := f.parseProperties(properties); err != nil {
		return nil, fmt.Errorf("footer section %d: %w", tagProperties, err)
	}
	steps := []step{
		{tagLists, f.parseLists},
		{tagCalibration, f.parseCalibration},
		{tagIDFences, f.parseFences},
		{tagDataSums, f.parseDataSums},
	}
	switch {
	case f.version == 1:
		steps = append(steps, step{tagCentroids, f.parseCentroids})
	case f.kind == ivfpq.Flat:
		steps = append(steps, step{tagQuantizer, f.parseQuantizer})
	}
	for _, s := range steps {
		data, ok := sections[s.tag]
		if !ok {
			return nil, fmt.Errorf("footer has no section %d: %w", s.tag, blob.ErrCorrupt)
		}
		if err := s.parse(data); err != nil {
			return nil, fmt.Errorf("footer section %d: %w", s.tag, err)
		}
	}
	if f.version >= 3 {
		f.pages, f.attributes = sections[tagPages], sections[tagAttributes]
		if place, apart := sections[tagAttributePlace]; apart {
			if err := f.parseAttributePlace(place); err != nil {
				return nil, fmt.Errorf("footer section %d: %w", tagAttributePlace, err)
			}
		}
	}
	return f, nil
}

func splitFooter(b []byte) (map[uint32][]byte, error) {
	n := len(b)
	if n < tailSize || string(b[n-8:]) != magic {
		return nil, fmt.Errorf("footer of %d bytes does not end in %q: %w", n, magic, blob.ErrCorrupt)
	}
	if got := binary.LittleEndian.Uint64(b[n-16:]); got != uint64(n) {
		return nil, fmt.Errorf("footer says %d bytes, got %d: %w", got, n, blob.ErrCorrupt)
	}
	count := binary.LittleEndian.Uint32(b[n-24:])
	tocSum := binary.LittleEndian.Uint32(b[n-20:])
	if count > maxSections || int(count)*tocEntrySize > n-tailSize {
		return nil, fmt.Errorf("footer of %d bytes claims %d sections: %w", n, count, blob.ErrCorrupt)
	}
	tocStart := n - tailSize - int(count)*tocEntrySize
	toc := b[tocStart : n-tailSize]
	if got := crc32.Checksum(toc, blob.Castagnoli); got != tocSum {
		return nil, fmt.Errorf("footer directory crc32c %08x, want %08x: %w", got, tocSum, blob.ErrCorrupt)
	}
	out := make(map[uint32][]byte, count)
	for ; len(toc) > 0; toc = toc[tocEntrySize:] {
		tag := binary.LittleEndian.Uint32(toc)
		sum := binary.LittleEndian.Uint32(toc[4:])
		off := binary.LittleEndian.Uint64(toc[8:])
		size := binary.LittleEndian.Uint64(toc[16:])
		if off > uint64(tocStart) || size > uint64(tocStart)-off {
			return nil, fmt.Errorf("footer section %d lies at [%d,+%d) of %d bytes: %w", tag, off, size, tocStart, blob.ErrCorrupt)
		}
		data := b[off : off+size : off+size]
		if got := crc32.Checksum(data, blob.Castagnoli); got != sum {
			return nil, fmt.Errorf("footer section %d crc32c %08x, want %08x: %w", tag, got, sum, blob.ErrCorrupt)
		}
		if _, twice := out[tag]; twice {
			return nil, fmt.Errorf("footer has section %d twice: %w", tag, blob.ErrCorrupt)
		}
		out[tag] = data
	}
	return out, nil
}

func (p properties) encode() []byte {
	b := make([]byte, propertiesSize)
	le := binary.LittleEndian
	le.PutUint32(b[0:], Version)
	le.PutUint32(b[4:], p.rows)
	le.PutUint32(b[8:], p.dim)
	b[12], b[13] = byte(p.metric), byte(p.kind)
	le.PutUint32(b[16:], p.listCount)
	le.PutUint32(b[20:], dataBlockSize)
	le.PutUint64(b[32:], uint64(p.listsEnd))
	le.PutUint64(b[40:], uint64(p.dataSize))
	le.PutUint32(b[52:], p.quantizer)
	le.PutUint64(b[56:], math.Float64bits(p.residual))
	return b
}

func (f *footer) parseProperties(b []byte) error {
	le := binary.LittleEndian
	if len(b) < 4 {
		return fmt.Errorf("%d bytes: %w", len(b), blob.ErrCorrupt)
	}
	if v := le.Uint32(b); v < ReadMinVersion || v > Version {
		return fmt.Errorf("version %d, this build reads %d to %d: %w", v, ReadMinVersion, Version, ErrUnsupported)
	}
	if len(b) != propertiesSize {
		return fmt.Errorf("%d bytes, want %d: %w", len(b), propertiesSize, blob.ErrCorrupt)
	}
	f.properties = properties{
		version: le.Uint32(b),
		rows:    le.Uint32(b[4:]), dim: le.Uint32(b[8:]),
		metric: ivfpq.Metric(b[12]), kind: ivfpq.Kind(b[13]),
		listCount: le.Uint32(b[16:]),
		seed:      le.Uint64(b[24:]),
		listsEnd:  int64(le.Uint64(b[32:])), dataSize: int64(le.Uint64(b[40:])),
		exponent:  int(int32(le.Uint32(b[48:]))),
		quantizer: le.Uint32(b[52:]),
		residual:  math.Float64frombits(le.Uint64(b[56:])),
	}
	if bs := le.Uint32(b[20:]); bs != dataBlockSize {
		return fmt.Errorf("data block size %d, want %d: %w", bs, dataBlockSize, blob.ErrCorrupt)
	}
	if f.rows == 0 || f.rows > maxRows || f.dim == 0 || f.dim > 16384 || f.listCount > maxListsPossible ||
		f.listsEnd < headerSize || f.dataSize < 0 || !(f.residual >= 0 && f.residual <= math.MaxFloat64) {
		return fmt.Errorf("%+v is out of range: %w", f.properties, blob.ErrCorrupt)
	}
	return nil
}

func (f *footer) parseCentroids(b []byte) error {
	want := int(f.listCount) * ivfpq.CodeDim(int(f.dim))
	if len(b) != want*4 {
		return fmt.Errorf("%d bytes, want %d: %w", len(b), want*4, blob.ErrCorrupt)
	}
	f.centroids = float32s(b)
	return nil
}

func (f *footer) parseQuantizer(b []byte) error {
	if got := crc32.Checksum(b, blob.Castagnoli); got != f.properties.quantizer {
		return fmt.Errorf("crc32c %08x, want %08x: %w", got, f.properties.quantizer, blob.ErrCorrupt)
	}
	f.quantizer = b
	return nil
}

func (e listEntry) append(dst []byte) []byte {
	le := binary.LittleEndian
	dst = le.AppendUint64(dst, uint64(e.offset))
	for _, x := range []uint32{e.length, e.First, e.Count, e.Spilled, e.crc32c, e.scan} {
		dst = le.AppendUint32(dst, x)
	}
	return dst
}

func (f *footer) parseLists(b []byte) error {
	size := listEntrySize
	if f.version == 1 {
		size = listEntrySizeV1
	}
	if len(b) != int(f.listCount)*size {
		return fmt.Errorf("%d bytes for %d lists: %w", len(b), f.listCount, blob.ErrCorrupt)
	}
	le := binary.LittleEndian
	f.lists = make([]listEntry, f.listCount)
	next := uint64(0)
	for i := range f.lists {
		e := b[i*size:]
		l := listEntry{offset: int64(le.Uint64(e)), length: le.Uint32(e[8:])}
		l.First, l.Count = le.Uint32(e[12:]), le.Uint32(e[16:])
		if f.version == 1 {
			l.crc32c = le.Uint32(e[20:])
		} else {
			l.Spilled, l.crc32c, l.scan = le.Uint32(e[20:]), le.Uint32(e[24:]), le.Uint32(e[28:])
		}
		if uint64(l.First) != next || l.offset < headerSize {
			return fmt.Errorf("list %d begins at row %d, want %d: %w", i, l.First, next, blob.ErrCorrupt)
		}
		next += uint64(l.Count)
		f.lists[i] = l
	}
	if len(f.lists) > 0 && next != uint64(f.rows) {
		return fmt.Errorf("lists cover %d rows of %d: %w", next, f.rows, blob.ErrCorrupt)
	}
	return nil
}

func encodeCalibration(cs []ivfpq.Calibration) []byte {
	var b []byte
	for _, c := range cs {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(c.Recall))
		b = binary.LittleEndian.AppendUint32(b, c.NProbe)
		b = binary.LittleEndian.AppendUint32(b, c.Depth)
	}
	return b
}

func (f *footer) parseCalibration(b []byte) (err error) {
	f.calibration, err = decodeCalibration(b)
	return err
}

func decodeCalibration(b []byte) (out []ivfpq.Calibration, err error) {
	if len(b)%calibrationSize != 0 || len(b) > maxCalibrations*calibrationSize {
		return nil, fmt.Errorf("%d bytes: %w", len(b), blob.ErrCorrupt)
	}
	for ; len(b) > 0; b = b[calibrationSize:] {
		out = append(out, ivfpq.Calibration{
			Recall: math.Float32frombits(binary.LittleEndian.Uint32(b)),
			NProbe: binary.LittleEndian.Uint32(b[4:]),
			Depth:  binary.LittleEndian.Uint32(b[8:]),
		})
	}
	return out, nil
}

// encodeWider writes, for every k, itself, how many entries there are, and those.
func encodeWider(curves []ivfpq.Curve) []byte {
	var b []byte
	for _, c := range curves {
		b = binary.LittleEndian.AppendUint32(b, c.K)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(c.Points)))
		b = append(b, encodeCalibration(c.Points)...)
	}
	return b
}

func (f *footer) parseWider(b []byte) error {
	for len(b) > 0 {
		if len(b) < widerHeaderSize || len(f.wider) == maxCurves {
			return fmt.Errorf("%d bytes after %d numbers of neighbours: %w", len(b), len(f.wider), blob.ErrCorrupt)
		}
		c := ivfpq.Curve{K: binary.LittleEndian.Uint32(b)}
		size := uint64(binary.LittleEndian.Uint32(b[4:])) * calibrationSize
		if b = b[widerHeaderSize:]; size > uint64(len(b)) {
			return fmt.Errorf("%d bytes of calibration for k %d, want %d: %w", len(b), c.K, size, blob.ErrCorrupt)
		}
		var err error
		if c.Points, err = decodeCalibration(b[:size]); err != nil {
			return err
		}
		b, f.wider = b[size:], append(f.wider, c)
	}
	return nil
}

func (f *footer) parseFences(b []byte) (err error) {
	f.fences, err = decodeFences(b, f.rows)
	return err
}

func (f *footer) parseDataSums(b []byte) error {
	want := int((f.dataSize + dataBlockSize - 1) / dataBlockSize)
	if len(b) != want*4 {
		return fmt.Errorf("%d bytes for %d blocks of data: %w", len(b), want, blob.ErrCorrupt)
	}
	f.dataSums = uint32s(b)
	return nil
}

var hostIsLittleEndian = func() bool {
	x := uint16(1)
	return *(*byte)(unsafe.Pointer(&x)) == 1
}()

// float32s views b, little-endian, as float32s: in place where the host allows
// it, else as a copy. len(b) is a multiple of 4.
func float32s(b []byte) []float32 {
	if len(b) == 0 {
		return nil
	}
	if hostIsLittleEndian && uintptr(unsafe.Pointer(&b[0]))%4 == 0 {
		return unsafe.Slice((*float32)(unsafe.Pointer(&b[0])), len(b)/4)
	}
	out := make([]float32, len(b)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return out
}

// uint32s is float32s for unsigned integers.
func uint32s(b []byte) []uint32 {
	if len(b) == 0 {
		return nil
	}
	if hostIsLittleEndian && uintptr(unsafe.Pointer(&b[0]))%4 == 0 {
		return unsafe.Slice((*uint32)(unsafe.Pointer(&b[0])), len(b)/4)
	}
	out := make([]uint32, len(b)/4)
	for i := range out {
		out[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	return out
}

// appendFloat32s appends the little-endian bytes of v.
func appendFloat32s(dst []byte, v []float32) []byte {
	for _, x := range v {
		dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(x))
	}
	return dst
}

// appendUint32s appends the little-endian bytes of v.
func appendUint32s(dst []byte, v []uint32) []byte {
	for _, x := range v {
		dst = binary.LittleEndian.AppendUint32(dst, x)
	}
	return dst
}
