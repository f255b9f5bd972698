// Package attributes is the index over the metadata of a segment's rows: for every
// key path that occurs, its distinct values in order, each with the rows that have
// it, and statistics.
//
//	build   Builder.Add, a row at a time ─► Encode: blocks, unions, fences; the directory
//	read    DecodeDirectory ─► Evaluation: fences ─► blocks ─► rows that match a filter
//	                        ─► DecodeFences, OpenBlock: all values of a path, in order
//
// It is pure compute: bytes in and bytes out. FORMAT.md one folder up draws them.
//
// A filter's answer is two sets: rows that match for certain, and rows that may.
// Where the index has all that the filter asks for they are the same. Where it has
// not (a path with an element's number in it, a string too long to be kept, a path
// that was left out) the difference is what somebody has to look at row by row.
// The answer is never wrong.
//
// Values are sort keys of package columns, whose kinds also carry what filters ask
// for besides values: which rows have anything at a path, null, an object.
package attributes

import "github.com/akidb/akidb/segments/columns"

// Limits bound an index. What exceeds them is left out, and known to be.
type Limits struct {
	// Paths is how many key paths are indexed, those of the most rows. 0 means 256.
	Paths int
	// Bytes is what the values of all paths together may take while they are
	// collected; beyond it the path that takes most is left out. 0 means 64 MiB.
	Bytes int64
}

func (l Limits) withDefaults() Limits {
	if l.Paths == 0 {
		l.Paths = 256
	}
	if l.Bytes == 0 {
		l.Bytes = 64 << 20
	}
	return l
}

const (
	// TextBytes is how long a string may be to be kept: nobody asks for the
	// whole of a longer one, and words in prose belong into another index.
	TextBytes = 128

	// blockBytes is when a block ends. The largest value of a path may make one
	// longer.
	blockBytes = 16 << 10

	// deltaRows is up to how many rows are listed one by one: a bitmap takes 10
	// bytes for the first row in every 65 536.
	deltaRows = 256

	// inlineFences are kept in the directory, and save whoever reads the path a
	// round trip.
	inlineFences = 256

	commonValues  = 8  // of a path, in its statistics
	statKeyBytes  = 32 // of a key in statistics; the rest is cut off
	placesPerPath = 4  // places in documents to keep apart while building
	pathBytes     = 512
	maxPaths      = 1 << 12
	maxKeyBytes   = 1 + TextBytes
)

// Place is where bytes lie in the file of the index, and what they are.
type Place struct {
	Offset int64
	Length int
	CRC32C uint32
}

// Path is what the directory says of a key path.
type Path struct {
	Name  string        // as columns.Key has it
	Shape columns.Shape // of all that stands there
	// Dropped: it took too much memory to be indexed. Nothing else is known then.
	Dropped bool

	Rows   uint32 // that have something there that is neither null nor []
	Nulls  uint32 // rows that have null there
	Long   uint32 // rows with a string of more than TextBytes
	Values uint32 // distinct booleans, numbers and strings
	// Pairs is how many pairs of such a value and a row there are: more than rows
	// where there are arrays.
	Pairs uint64
	// Least and Most are keys of the first and the last such value, cut off after
	// 32 bytes; empty if there is none.
	Least, Most []byte
	Common      []Common // the values with the most rows, and their number

	base   int64 // of the blocks
	fences Place // if inline is nil
	inline []byte
}

// Common is a value and how many rows have it.
type Common struct {
	Key  []byte
	Rows uint32
}

// Directory is the entry to an index.
type Directory struct {
	Rows uint32 // of the segment
	// Complete: a path that is not here is in no row.
	Complete bool
	Paths    []Path // by name
}
