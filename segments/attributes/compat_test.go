package attributes

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

var addFixture = flag.Bool("add-fixture", false, "write the fixture of the current version of segments, if there is none yet")

// fixtureVersion is the version of segments that the encoding is of.
const fixtureVersion = 3

// fixtureRows has values of every kind, arrays, long strings, and values of so many
// rows that they are bitmaps, in several blocks.
func fixtureRows() [][]byte {
	rng := rand.New(rand.NewPCG(3, 9))
	rows := [][]byte{nil, []byte(`{}`), []byte(`{"a":[],"n":null,"o":[[1]]}`), fmt.Appendf(nil, `{"long":%q,"n":1e400}`, long)}
	for i := range 900 {
		rows = append(rows, fmt.Appendf(nil, `{"n":%d,"f":%v,"b":%t,"c":"c%d","u":"user-%06d-%06d","a":["x",%d,null],"o":[{"p":{"q":"2024-01-%02d"}}]}`,
			i-400, rng.NormFloat64(), i%2 == 0, i%3, rng.IntN(1e6), rng.IntN(1e6), i%40, 1+i%28))
	}
	return rows
}

// TestReadsEveryVersion answers filters from what was once written. Fixtures are
// added to and never made again.
func TestReadsEveryVersion(t *testing.T) {
	rows := fixtureRows()
	dir := fmt.Sprintf("testdata/compat/v%d", fixtureVersion)
	if *addFixture {
		require.NoDirExists(t, dir, "a fixture is never made again")
		require.NoError(t, os.MkdirAll(dir, 0o755))
		x := build(t, Limits{}, rows)
		for name, b := range map[string][]byte{"values": x.data, "directory": x.dir.encode(), "rows.jsonl": bytes.Join(rows, []byte("\n"))} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o644))
		}
	}
	dirs, err := filepath.Glob("testdata/compat/v*")
	require.NoError(t, err)
	require.NotEmpty(t, dirs)
	for _, dir := range dirs {
		read := func(name string) []byte {
			b, err := os.ReadFile(filepath.Join(dir, name))
			require.NoError(t, err)
			return b
		}
		x := &index{base: 4096, data: read("values"), rows: bytes.Split(read("rows.jsonl"), []byte("\n"))}
		x.rows[0] = nil
		var err error
		x.dir, err = DecodeDirectory(read("directory"), uint32(len(x.rows)), x.base+int64(len(x.data)))
		require.NoError(t, err)
		require.Len(t, x.rows, len(rows))
		for _, filter := range []string{
			`{"must":{"key":"n","range":{"gte":-3,"lt":250}}}`, `{"must":{"key":"n","match":{"value":1e999}}}`, `{"must":{"key":"f","range":{"lt":0.25}}}`,
			`{"must":{"key":"b","match":{"value":true}}}`, `{"must":{"key":"c","match":{"except":["c1"]}}}`, `{"must":{"key":"u","range":{"gt":"2024-01-01"}}}`,
			`{"must":{"key":"u","match":{"text":"USER"}}}`, `{"must":{"key":"a","match":{"any":[7,"y"]}}}`, `{"must":{"is_null":{"key":"a"}}}`, `{"must":{"is_empty":{"key":"a"}}}`,
			`{"must":{"key":"o[].p.q","range":{"gte":"2024-01-20"}}}`, `{"must":{"key":"o[][]","match":{"value":1}}}`, `{"must":{"key":"long","match":{"text":"long"}}}`,
			`{"must_not":{"key":"nobody","match":{"value":1}}}`,
		} {
			f := parse(t, []byte(filter))
			got, _, err := x.evaluate(f)
			require.NoError(t, err)
			require.True(t, got.Equals(x.oracle(f)), filter)
		}
	}
}
