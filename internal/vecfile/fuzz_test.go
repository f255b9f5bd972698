package vecfile

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// fuzzFormat reads arbitrary bytes as one format. Whatever they are, the reader ends, keeps count, hands out only rows that hold
// their limits, and explains itself with an *Error; and skipping a prefix gives the same rows as reading over it.
func fuzzFormat(f *testing.F, name string, seeds ...[]byte) {
	for _, seed := range seeds {
		f.Add(seed, uint8(1))
	}
	f.Fuzz(func(t *testing.T, data []byte, skip uint8) {
		path := write(t, t.TempDir(), name, data)
		r, err := Open(path, Options{})
		if err != nil {
			requireExplained(t, err)
			return
		}
		defer r.Close()
		rows, skipped, err := readAll(r)
		requireExplained(t, err)
		for _, err := range skipped {
			requireExplained(t, err)
		}
		if err == nil {
			require.EqualValues(t, len(rows)+len(skipped), r.Position())
		}
		for _, row := range rows {
			require.LessOrEqual(t, len(row.Vector), MaxDimension)
			require.NotEmpty(t, row.ID)
			if row.Metadata != nil {
				require.True(t, json.Valid(row.Metadata), "%s", row.Metadata)
			}
		}
		if err != nil || len(skipped) > 0 {
			return
		}
		again, err := Open(path, Options{})
		require.NoError(t, err)
		defer again.Close()
		require.NoError(t, again.Skip(int64(skip)))
		rest, _, err := readAll(again)
		require.NoError(t, err)
		require.Len(t, rest, max(len(rows)-int(skip), 0))
		for i, row := range rest {
			require.Equal(t, rows[int(skip)+i].ID, row.ID)
		}
	})
}

func requireExplained(t *testing.T, err error) {
	var failure *Error
	if err != nil && !errors.As(err, &failure) {
		require.ErrorContains(t, err, "open ")
	}
}

var fuzzRows = [][]float32{{1, 2}, {3, 4}, {5, 6}}

func FuzzFvecs(f *testing.F) { fuzzFormat(f, "x.fvecs", writers[".fvecs"](fuzzRows)) }
func FuzzBvecs(f *testing.F) { fuzzFormat(f, "x.bvecs", writers[".bvecs"](fuzzRows)) }
func FuzzFbin(f *testing.F)  { fuzzFormat(f, "x.fbin", writers[".fbin"](fuzzRows)) }
func FuzzNpy(f *testing.F)   { fuzzFormat(f, "x.npy", writers[".npy"](fuzzRows)) }

func FuzzFvecsGzip(f *testing.F) {
	fuzzFormat(f, "x.fvecs.gz", pack(f, ".gz", writers[".fvecs"](fuzzRows)))
}
func FuzzFbinZstd(f *testing.F) {
	fuzzFormat(f, "x.fbin.zst", pack(f, ".zst", writers[".fbin"](fuzzRows)))
}

func FuzzCSV(f *testing.F) {
	fuzzFormat(f, "x.csv", writers[".csv"](fuzzRows), []byte("id,v0,v1,n\na,1,2,3\nb,4,5,\n"), []byte("id,vector,metadata\na,[1],\"{\"\"a\"\":1}\"\n"))
}

func FuzzJSONL(f *testing.F) {
	fuzzFormat(f, "x.jsonl", writers[".jsonl"](fuzzRows), []byte(`{"id":"a","vector":"AACAPw==","x":{"y":[1]},"metadata":{"z":null}}`))
}

func FuzzIvecs(f *testing.F) {
	f.Add(ivecs([]int32{1, 2}, []int32{3, 4}))
	f.Fuzz(func(t *testing.T, data []byte) {
		rows, err := readNeighbours(t, write(t, t.TempDir(), "x.ivecs", data))
		requireExplained(t, err)
		size := 0
		for _, row := range rows {
			size += 4 + 4*len(row)
		}
		require.LessOrEqual(t, size, len(data))
		if err == nil {
			require.Equal(t, len(data), size)
		}
	})
}
