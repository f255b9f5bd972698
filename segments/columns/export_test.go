package columns

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/parquet-go/parquet-go"
)

// Rows with a sequence number keep it, the others have none; both are imported
// again as they were.
func TestExportWriter(t *testing.T) {
	rows := []Row{
		{ID: "a", Vector: []float32{1, -0.5}, Metadata: []byte(`{"x":"ü"}`), Seq: 7},
		{ID: "b", Vector: []float32{3, 4}},
		{ID: "c", Vector: []float32{5, 6}, Metadata: []byte(`{}`)},
	}
	var file bytes.Buffer
	w := NewExportWriter(&file, 2)
	if err := w.Append(rows); err != nil {
		t.Fatal(err)
	}
	if err := w.Append([]Row{{ID: "d", Vector: []float32{1}}}); err == nil {
		t.Error("a vector of another dimension was taken")
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	read, err := parquet.Read[exported](bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil {
		t.Fatal(err)
	}
	if len(read) != 3 || read[0].Seq == nil || *read[0].Seq != 7 || read[1].Seq != nil || read[2].Seq != nil {
		t.Errorf("got %+v", read)
	}
	im, err := OpenImport(bytes.NewReader(file.Bytes()), int64(file.Len()), ImportConfig{})
	if err != nil {
		t.Fatal(err)
	}
	err = im.Scan(0, func(batch []ImportRow) error {
		for i, r := range batch {
			want := rows[i]
			if r.Err != nil || r.ID != want.ID || fmt.Sprint(r.Vector) != fmt.Sprint(want.Vector) || !bytes.Equal(r.Metadata, want.Metadata) {
				t.Errorf("got %+v, want %+v", r, want)
			}
		}
		return nil
	})
	if err != nil || im.Rows() != 3 {
		t.Errorf("%d rows, %v", im.Rows(), err)
	}
}
