package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/akidb/akidb/segments/columns"
)

// TestBodies: every form says the same rows, and new ids go where the old ones
// were.
func TestBodies(t *testing.T) {
	for _, encoding := range []string{"json", "ndjson", "parquet"} {
		s := setting{batch: 3, dim: 2, encoding: encoding, compression: "none", metadata: true, digits: 17}
		b, err := newBody(s, rand.New(rand.NewPCG(1, 2)), 5)
		if err != nil {
			t.Fatal(err)
		}
		first := uint64(5)
		if encoding != "parquet" {
			first = 0xabc << 40
			b.renumber(first)
		}
		for i, id := range ids(t, b) {
			if want := fmt.Sprintf("%016x", first+uint64(i)); id != want {
				t.Errorf("%s: row %d is %q, want %q", encoding, i, id, want)
			}
		}
		for _, compression := range []string{"gzip", "zstd"} {
			s.compression = compression
			if c, err := newBody(s, rand.New(rand.NewPCG(1, 2)), 5); err != nil || bytes.Equal(c.bytes, b.bytes) || c.ids != nil {
				t.Errorf("%s, %s: %v", encoding, compression, err)
			}
		}
	}
	for _, wrong := range []setting{{encoding: "csv", compression: "none"}, {encoding: "json", compression: "br"}} {
		if _, err := newBody(wrong, rand.New(rand.NewPCG(1, 2)), 0); err == nil {
			t.Errorf("%+v is taken", wrong)
		}
	}
}

func ids(t *testing.T, b body) (out []string) {
	t.Helper()
	type row struct {
		ID     string
		Vector []float32
	}
	var rows []row
	switch b.contentType {
	case "application/json":
		var all struct{ Vectors []row }
		if err := json.Unmarshal(b.bytes, &all); err != nil {
			t.Fatal(err)
		}
		rows = all.Vectors
	case "application/x-ndjson":
		for line := range bytes.Lines(b.bytes) {
			var r row
			if err := json.Unmarshal(line, &r); err != nil {
				t.Fatal(err)
			}
			rows = append(rows, r)
		}
	default:
		im, err := columns.OpenImport(bytes.NewReader(b.bytes), int64(len(b.bytes)), columns.ImportConfig{})
		if err != nil {
			t.Fatal(err)
		}
		if err := im.Scan(0, func(part []columns.ImportRow) error {
			for _, r := range part {
				rows = append(rows, row{r.ID, slices.Clone(r.Vector)})
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range rows {
		if len(r.Vector) != 2 || r.Vector[0] == 0 {
			t.Errorf("row %+v", r)
		}
		out = append(out, r.ID)
	}
	if len(out) != 3 {
		t.Errorf("%d rows, want 3", len(out))
	}
	return out
}
