package columns

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
)

func BenchmarkWriter(b *testing.B) {
	for _, dimension := range []int{128, 768, 1536} {
		b.Run(fmt.Sprint(dimension), func(b *testing.B) {
			rows := makeRows(rand.New(rand.NewPCG(1, 2)), (16<<20)/(4*dimension), dimension)
			b.SetBytes(int64(len(rows) * dimension * 4))
			for b.Loop() {
				w, _ := NewWriter(io.Discard, dimension)
				if err := w.Append(rows); err != nil {
					b.Fatal(err)
				}
				if err := w.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkScanVectors(b *testing.B) {
	rows := makeRows(rand.New(rand.NewPCG(1, 2)), 1<<15, 128)
	f := openBytes(b, writeFile(b, 128, rows))
	b.SetBytes(int64(len(rows) * 128 * 4))
	for b.Loop() {
		if err := f.Scan(0, uint32(len(rows)), ProjectVector, func([]Row) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPointReads(b *testing.B) {
	rows := makeRows(rand.New(rand.NewPCG(1, 2)), 1<<16, 8)
	file := writeFile(b, 8, rows)
	f := openBytes(b, file)
	ordinals := make([]uint32, 10)
	rng := rand.New(rand.NewPCG(3, 4))
	for _, read := range []struct {
		name string
		do   func() error
	}{
		{"IDs", func() error { _, err := readPoints(f, ordinals, ProjectID); return err }},
		{"Metadata", func() error { _, err := readPoints(f, ordinals, ProjectMetadata); return err }},
		{"VectorRange", func() error { _, _, err := f.VectorRange(ordinals[0]); return err }},
	} {
		b.Run(read.name, func(b *testing.B) {
			for b.Loop() {
				for i := range ordinals {
					ordinals[i] = rng.Uint32N(uint32(len(rows)))
				}
				if err := read.do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("Open", func(b *testing.B) {
		for b.Loop() {
			if _, err := Open(bytes.NewReader(file), int64(len(file))); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkFilter(b *testing.B) {
	metadata := []byte(`{"title":"The quick brown fox","year":1999,"tags":["a","b","c"],"rating":4.5,"author":{"name":"Jane Doe","country":"NZ"},"published":"1999-05-04T10:00:00Z","price":12.99,"in_stock":true}`)
	for name, json := range map[string]string{
		"keyword":  `{"must":{"key":"author.country","match":{"value":"NZ"}}}`,
		"integer":  `{"must":{"key":"year","match":{"value":1999}}}`,
		"any":      `{"must":{"key":"tags","match":{"any":["x","c"]}}}`,
		"range":    `{"must":{"key":"price","range":{"gte":10,"lt":20}}}`,
		"datetime": `{"must":{"key":"published","range":{"gte":"1999-01-01T00:00:00Z"}}}`,
		"text":     `{"must":{"key":"title","match":{"text":"BROWN quick"}}}`,
		"missing":  `{"must":{"is_empty":{"key":"nothing"}}}`,
	} {
		b.Run(name, func(b *testing.B) {
			f, err := ParseFilter([]byte(json), FilterLimits{})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if !f.Match("id", metadata) {
					b.Fatal("no match")
				}
			}
		})
	}
}
