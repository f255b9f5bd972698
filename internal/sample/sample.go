// Package sample is the collection that `akidb dev --demo` loads: four thousand English nouns a person can picture, each with
// its definition and the embedding of both.
//
// The words and definitions are from WordNet 3.0, whose licence is in LICENSE.wordnet and in [LicenceText]. The vectors were made
// with all-MiniLM-L6-v2 (Apache-2.0). gen/make_sample.py makes the data files and says how to run it.
//
// Vectors are kept as int8 without their scale and are brought back to unit length here. That turns a vector by less than 0.7
// degrees (cosine above 0.9999), which changes no neighbour a person would notice, and takes a third of the room.
package sample

import (
	"bytes"
	_ "embed"
	"fmt"
	"io"
	"math"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/klauspost/compress/zstd"
)

//go:embed nouns.jsonl.zst
var packedRows []byte

//go:embed nouns.i8.zst
var packedVectors []byte

// LicenceText is the licence of the words and definitions, which must accompany every copy of them.
//
//go:embed LICENSE.wordnet
var LicenceText string

// Meta says what the sample is and how to create a collection for it.
type Meta struct {
	Name      string // of the collection
	Dimension int
	Metric    string
	Licence   string
	Source    string
	// ExampleID is a row whose neighbours make sense at a glance.
	ExampleID string
}

// Row is one row. Metadata is a JSON object: word, definition, category and a list of
// synonyms, often empty. Vector has unit length.
type Row struct {
	ID       string         `json:"id"`
	Vector   []float32      `json:"-"`
	Metadata jsontext.Value `json:"metadata"`
}

const dimension = 384

// Load unpacks the sample: about 8 MB, rows in the order of their ids. The caller owns the result.
func Load() (Meta, []Row, error) {
	meta := Meta{
		Name:      "demo",
		Dimension: dimension,
		Metric:    "cosine",
		Licence:   "WordNet 3.0 licence, copyright 2006 Princeton University (words and definitions); Apache-2.0 (the model that made the vectors)",
		Source:    "WordNet 3.0, embedded with all-MiniLM-L6-v2",
		ExampleID: "violin",
	}
	rows, err := load(packedRows, packedVectors)
	if err != nil {
		return meta, nil, fmt.Errorf("load sample: %w", err)
	}
	return meta, rows, nil
}

func load(packedRows, packedVectors []byte) ([]Row, error) {
	unpacker, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(64<<20))
	if err != nil {
		return nil, err
	}
	defer unpacker.Close()
	lines, err := unpacker.DecodeAll(packedRows, nil)
	if err != nil {
		return nil, fmt.Errorf("rows: %w", err)
	}
	codes, err := unpacker.DecodeAll(packedVectors, nil)
	if err != nil {
		return nil, fmt.Errorf("vectors: %w", err)
	}
	var rows []Row
	for dec := jsontext.NewDecoder(bytes.NewReader(lines)); ; {
		var row Row
		if err := json.UnmarshalDecode(dec, &row); err == io.EOF {
			break
		} else if err != nil {
			return nil, fmt.Errorf("row %d: %w", len(rows), err)
		}
		rows = append(rows, row)
	}
	if len(codes) != len(rows)*dimension {
		return nil, fmt.Errorf("%d bytes of vectors, want %d for %d rows", len(codes), len(rows)*dimension, len(rows))
	}
	vectors := make([]float32, len(codes))
	for i := range rows {
		row := vectors[i*dimension : (i+1)*dimension : (i+1)*dimension]
		unit(row, codes[i*dimension:])
		rows[i].Vector = row
	}
	return rows, nil
}

// unit sets dst to the int8 codes scaled to unit length. A row of nothing but zeros stays zero.
func unit(dst []float32, codes []byte) {
	var squares float64
	for i := range dst {
		x := float64(int8(codes[i]))
		squares += x * x
	}
	scale := 1 / math.Max(math.Sqrt(squares), 1)
	for i := range dst {
		dst[i] = float32(float64(int8(codes[i])) * scale)
	}
}
