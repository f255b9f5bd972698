package writer

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/manifest"
)

// parsed is everything that a body comes to.
type parsed struct {
	batch batch // what counts of it
	err   httpapi.Error
}

func parseWith(dim int, metric string, parse func(*batch) error) (p parsed, err error) {
	b := newBatch(httpapi.Limits{BatchRows: 5, IDBytes: 12, MetadataBytes: 40}.WithDefaults(), manifest.Collection{Name: "c", Dimension: dim, Metric: metric})
	if err := parse(b); err != nil {
		e, ok := errors.AsType[*httpapi.Error](err)
		if !ok {
			return p, err
		}
		p.err = *e
		return p, nil
	}
	p.batch = batch{ops: b.ops, rows: b.rows, at: b.at, claims: b.claims, claimed: b.claimed}
	return p, nil
}

// differ compares what is parsed with and without the scanner. They must not
// differ in anything, bits of zeros included.
func differ(body []byte, dim int, metric string) error {
	for form, parse := range map[string][2]func(*batch) error{
		"json": {
			func(b *batch) error { return b.parse(httpapi.TypeJSON, body) },
			func(b *batch) error { return b.decodeJSON(body) },
		},
		"ndjson": {
			func(b *batch) error { return b.parse(httpapi.TypeNDJSON, body) },
			func(b *batch) error { return b.parseLines(body, b.decodeLine) },
		},
	} {
		got, err := parseWith(dim, metric, parse[0])
		want, err2 := parseWith(dim, metric, parse[1])
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		for i, op := range want.batch.ops {
			for j := range op.Vector {
				if i < len(got.batch.ops) && math.Float32bits(got.batch.ops[i].Vector[j]) != math.Float32bits(op.Vector[j]) {
					return fmt.Errorf("%s %q: number %d of row %d is %v, want %v", form, body, j, i, got.batch.ops[i].Vector[j], op.Vector[j])
				}
			}
		}
		if !reflect.DeepEqual(got, want) {
			return fmt.Errorf("%s %q:\n got %+v\nwant %+v", form, body, got, want)
		}
	}
	return nil
}

// scannable are bodies that the scanner reads by itself, with dimension 2.
var scannable = []string{
	`{"vectors":[{"id":"a","vector":[1,2]}]}`,
	`{"vectors":[{"id":"a","vector":[1,-0.5],"metadata":{"x":{"y":["}"]},"z":"\"}"}},{"id":"b","vector":[1e-3,2E+2]},{"id":"a","vector":[0.1,0]}]}`,
	" { \"vectors\" :\t[ { \"metadata\" : null ,\r\n \"vector\" : [ 1 , 2 ] , \"id\" : \"ü\" } ] } \n",
	`{"id":"a","vector":[1.5,2]}`, `{"vector":"AACAPwAAAEA","id":"a"}`, `{"id":"a","vector":"AACAPwAAAEA="}`, `{"id":"a","vector":"AACAPwAAAEA==","metadata":{}}`,
	`{"id":"a","vector":[-0,0.0000001]}`, `{"id":"a","vector":[123456789.87654321,1234567890123456789012345]}`,
	`{"id":"a","vector":[0.10000000149011612,-12.345678901234567]}`, `{"id":"a","vector":[1e-400,3.4028235e38]}`,
}

// unscannable are bodies that it leaves to the decoder: faults, and what is rare.
var unscannable = []string{
	``, ` `, `{`, `[]`, `{}`, `null`, `{"vectors":null}`, `{"vectors":[]}`, `{"vectors":{}}`, `{"vectors":[{}]}`, `{"vectors":[{"id":"a","vector":[1,2]}`, `{"vectors":[{"id":"a","vector":[1,2]}]} x`,
	`{"vectors":[{"id":"a","vector":[1,2]}],"vectors":[]}`, `{"vectors":[{"id":"a","vector":[1,2]}],"id":"a"}`, `{"vectors":[{"id":"a","vector":[1,2]},]}`,
	`{"vectors":[{"id":"a","vector":[1,2]},{"id":"a","vector":[1,2]},{"id":"a","vector":[1,2]},{"id":"a","vector":[1,2]},{"id":"a","vector":[1,2]},{"id":"a","vector":[1,2]}]}`,
	`{"id":"a","vector":[1,2],}`, `{"id":"a","vector":[1,2]}}`, `{"id":"a","id":"b","vector":[1,2]}`, `{"id":"a","vector":[1,2],"vector":[1,2]}`,
	`{"id":"a","vector":[1,2],"metadata":null,"metadata":{}}`, `{"id":"a","vector":[1,2],"other":1}`, `{"ID":"a","vector":[1,2]}`, `{"i\u0064":"a","vector":[1,2]}`,
	`{"id":"\u0061","vector":[1,2]}`, `{"id":"a\"b","vector":[1,2]}`, "{\"id\":\"a\x01\",\"vector\":[1,2]}", "{\"id\":\"\xff\",\"vector\":[1,2]}", "{\"id\":\"\x7f\",\"vector\":[1,2]}",
	`{"id":"","vector":[1,2]}`, `{"id":"0123456789abc","vector":[1,2]}`, `{"id":7,"vector":[1,2]}`, `{"id":null,"vector":[1,2]}`, `{"vector":[1,2]}`, `{"id":"a"}`,
	`{"id":"a","vector":[]}`, `{"id":"a","vector":[1]}`, `{"id":"a","vector":[1,2,3]}`, `{"id":"a","vector":null}`, `{"id":"a","vector":[1,"2"]}`, `{"id":"a","vector":[1,null]}`, `{"id":"a","vector":[1 2]}`, `{"id":"a","vector":[1,2}`,
	`{"id":"a","vector":[01,2]}`, `{"id":"a","vector":[1.,2]}`, `{"id":"a","vector":[.5,2]}`, `{"id":"a","vector":[1e,2]}`, `{"id":"a","vector":[+1,2]}`, `{"id":"a","vector":[-,2]}`, `{"id":"a","vector":[1,2e+]}`, `{"id":"a","vector":[0x1,2]}`,
	`{"id":"a","vector":[1,1e39]}`, `{"id":"a","vector":[3.4028236e38,1]}`, `{"id":"a","vector":[NaN,1]}`, `{"id":"a","vector":[1_0,1]}`,
	`{"id":"a","vector":"AACAPw"}`, `{"id":"a","vector":"AACAPwAAAEAA"}`, `{"id":"a","vector":"AACAfwAAAEA"}`, `{"id":"a","vector":"AAC!PwAAAEA"}`, "{\"id\":\"a\",\"vector\":\"AACAPwAAAE\n\"}", `{"id":"a","vector":"AACAPwAAAE\n"}`, `{"id":"a","vector":"AACAPwAAAE\/"}`, `{"id":"a","vector":"=AACAPwAAAEA"}`,
	`{"id":"a","vector":[1,2],"metadata":[1]}`, `{"id":"a","vector":[1,2],"metadata":1}`, `{"id":"a","vector":[1,2],"metadata":{"a":1,"a":2}}`, `{"id":"a","vector":[1,2],"metadata":{"a":[}}`, `{"id":"a","vector":[1,2],"metadata":nullx}`, `{"id":"a","vector":[1,2],"metadata":{"a":"0123456789012345678901234567890123456789"}}`, `{"id":"a","vector":[1,2],"metadata":{"a":"`,
	"{\"id\":\"a\",\"vector\":[1,2],\"metadata\":{\"a\":\"\xff\"}}", `{"id":"a","vector":[1,2],"metadata":{"a":{}}`,
	`{"id":"a","vector":[1,2],"if_absent":true}`, `{"id":"a","vector":[1,2],"if_version":7}`, `{"id":"a","vector":[1,2],"if_version":-1}`, `{"id":"a","vector":[1,2],"if_absent":true,"if_version":1}`, `{"if_absent":true,"vectors":[{"id":"a","vector":[1,2]}]}`,
	"{\"id\":\"a\",\"vector\":[1,2],\"if_version\":1}\n{\"id\":\"a\",\"vector\":[1,2]}", "{\"id\":\"a\",\"vector\":[1,2]}\n{\"id\":\"a\",\"vector\":[1,2],\"if_absent\":true}",
}

func TestScannerReadsWhatIsUsual(t *testing.T) {
	for _, body := range scannable {
		b := newBatch(httpapi.Limits{}.WithDefaults(), manifest.Collection{Dimension: 2})
		if _, ok := (&scanner{batch: b, b: []byte(body)}).body(); !ok {
			t.Errorf("left to the decoder: %s", body)
		}
	}
	for _, body := range unscannable {
		b := newBatch(httpapi.Limits{BatchRows: 5, IDBytes: 12, MetadataBytes: 40}.WithDefaults(), manifest.Collection{Dimension: 2})
		if ops, ok := (&scanner{batch: b, b: []byte(body)}).body(); ok {
			t.Errorf("read as %+v: %s", ops, body)
		}
	}
}

func TestScannerAgreesWithTheDecoder(t *testing.T) {
	all := append(append([]string{}, scannable...), unscannable...)
	all = append(all, strings.Join(scannable[:2], "\n"), "\n\r\n"+scannable[3]+"\r\n"+scannable[4], strings.Repeat(scannable[3]+"\n", 6))
	for _, body := range all {
		for _, metric := range []string{"l2", "cosine"} {
			if err := differ([]byte(body), 2, metric); err != nil {
				t.Error(err)
			}
		}
		for cut := range body { // ends anywhere
			if err := differ([]byte(body[:cut]), 2, "l2"); err != nil {
				t.Error(err)
			}
		}
	}
	if err := differ([]byte(`{"id":"a","vector":[0,-0]}`), 2, "cosine"); err != nil {
		t.Error(err)
	}
}

func FuzzScannerAgreesWithTheDecoder(f *testing.F) {
	for _, body := range append(append([]string{}, scannable...), unscannable...) {
		f.Add([]byte(body), false)
	}
	f.Fuzz(func(t *testing.T, body []byte, cosine bool) {
		metric := "l2"
		if cosine {
			metric = "cosine"
		}
		if err := differ(body, 2, metric); err != nil {
			t.Fatal(err)
		}
	})
}

var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

// sameNumber holds scanNumber against strconv, which it must equal where the
// text is a JSON number.
func sameNumber(text string) error {
	value, size, ok := scanNumber([]byte(text))
	want, err := strconv.ParseFloat(text, 32)
	all := ok && size == len(text)
	if fits := err == nil && jsonNumber.MatchString(text); all != fits {
		return fmt.Errorf("%q: read %d bytes, %v, want %v", text, size, ok, fits)
	}
	if all && math.Float32bits(value) != math.Float32bits(float32(want)) {
		return fmt.Errorf("%q is %v (%08x), want %v (%08x), %v", text, value, math.Float32bits(value), want, math.Float32bits(float32(want)), err)
	}
	return nil
}

func TestScanNumber(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	check := func(text string) {
		t.Helper()
		for _, form := range []string{text, "-" + text} {
			if _, size, ok := scanNumber([]byte(form)); !ok || size != len(form) {
				t.Fatalf("%q is not read", form)
			}
			if err := sameNumber(form); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 20_000 {
		bits := r.Uint32N(0x7f800000)
		x := math.Float32frombits(bits)
		check(strconv.FormatFloat(float64(x), 'g', -1, 32))
		check(strconv.FormatFloat(float64(x), 'f', -1, 32))
		check(strconv.FormatFloat(float64(x), 'e', r.IntN(30), 64))
		// The middle between two neighbours, and next to it.
		if next := math.Float32frombits(bits + 1); next-next == 0 {
			middle := (float64(x) + float64(next)) / 2
			for _, digits := range []int{15, 16, 17, 18, 19, 25, -1} {
				check(strconv.FormatFloat(middle, 'e', digits, 64))
			}
			check(strconv.FormatFloat(math.Nextafter(middle, 0), 'e', -1, 64))
			check(strconv.FormatFloat(math.Nextafter(middle, math.Inf(1)), 'g', 17, 64))
		}
	}
	// Middles of few digits: between integers beyond 2^24, to the digit.
	for range 20_000 {
		n := uint64(1)<<24 + r.Uint64N(1<<38)
		shift := uint(64-24) - uint(leadingZeros(n))
		middle := n>>shift<<shift + 1<<(shift-1)
		for d := range uint64(3) {
			check(strconv.FormatUint(middle+d-1, 10))
			check(fmt.Sprintf("%d.000000000001", middle+d-1))
			check(fmt.Sprintf("%de-3", (middle+d-1)*1000))
		}
	}
	for _, text := range []string{"0", "0.0", "0e5", "0e999999999999", "1e-999999999999", "12345678901234567890", "0.00000000000000000000000000000000000000000000001", "99999999999999999999e-20", "1.17549435e-38", "1.4e-45", "7e-46", "3.4028235e38", "16777217", "9007199791611905"} {
		check(text)
	}
}

func leadingZeros(n uint64) (zeros int) {
	for ; n < 1<<63; n <<= 1 {
		zeros++
	}
	return zeros
}

func FuzzScanNumber(f *testing.F) {
	for _, seed := range []string{"1", "-0.5", "1e39", "0.1234567890123456789", "16777217", "1e-46", "00", "1.e1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if err := sameNumber(text); err != nil {
			t.Fatal(err)
		}
	})
}

// TestScanningTakesLittleMemory: a body of the most numbers a byte may take twice
// its size, however it ends.
func TestScanningTakesLittleMemory(t *testing.T) {
	const dim = 256
	row := `{"id":"%d","vector":[` + strings.Repeat("0,", dim-1) + `1]}`
	var body bytes.Buffer
	body.WriteString(`{"vectors":[`)
	for i := range 2000 {
		if i > 0 {
			body.WriteByte(',')
		}
		fmt.Fprintf(&body, row, i)
	}
	body.WriteString(`]}`)
	b := newBatch(httpapi.Limits{}.WithDefaults(), manifest.Collection{Dimension: dim})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := b.parse(httpapi.TypeJSON, body.Bytes())
	runtime.ReadMemStats(&after)
	if err != nil || b.rows != 2000 {
		t.Fatalf("%d rows, %v", b.rows, err)
	}
	if got, limit := after.TotalAlloc-before.TotalAlloc, uint64(body.Len())*5/2; got > limit {
		t.Errorf("%d bytes allocated for a body of %d, want at most %d", got, body.Len(), limit)
	}
	// A handful of allocations a row: its id, and its share of what rows share.
	if got := after.Mallocs - before.Mallocs; got > 2*2000 {
		t.Errorf("%d allocations for 2000 rows", got)
	}
}

// TestParquetBodiesAreBounded: what a small file holds is bounded as a body is.
// The rows of testdata/dictionary.parquet, 200 of two dimensions, share one text
// of 60,000 bytes by a dictionary; ours are compressed.
func TestParquetBodiesAreBounded(t *testing.T) {
	const limit = 2 << 20
	dictionary, err := os.ReadFile("testdata/dictionary.parquet")
	if err != nil {
		t.Fatal(err)
	}
	var compressed bytes.Buffer
	w, err := columns.NewWriter(&compressed, 2)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		row := columns.Row{ID: strconv.Itoa(i), Vector: []float32{1, 2}, Metadata: fmt.Appendf(nil, `{"x":%q}`, strings.Repeat("x", 60000))}
		if err := w.Append([]columns.Row{row}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string][]byte{"compressed": compressed.Bytes(), "dictionary": dictionary} {
		if len(file) > limit/8 {
			t.Fatalf("%s: %d bytes are not few", name, len(file))
		}
		for _, fits := range []bool{true, false} {
			limits := httpapi.Limits{}.WithDefaults()
			if !fits {
				limits.BatchBytes = limit
			}
			b := newBatch(limits, manifest.Collection{Dimension: 2})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := b.parse(httpapi.TypeParquet, file)
			runtime.ReadMemStats(&after)
			if fits {
				if err != nil || b.rows != 200 {
					t.Errorf("%s: %d rows, %v", name, b.rows, err)
				}
				continue
			}
			if e, ok := errors.AsType[*httpapi.Error](err); !ok || e.Status != 413 || e.Code != "body_too_large" {
				t.Errorf("%s: %v", name, err)
			}
			// What reads a file takes about this much for itself.
			if got, most := after.TotalAlloc-before.TotalAlloc, uint64(2*limit+6<<20); got > most {
				t.Errorf("%s: %d bytes allocated, want at most %d", name, got, most)
			}
		}
	}
}

func BenchmarkParse(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	for _, digits := range []int{-1, 17} {
		var body bytes.Buffer
		for i := range 1000 {
			fmt.Fprintf(&body, `{"id":"%016d","vector":[`, i)
			for j := range 128 {
				if j > 0 {
					body.WriteByte(',')
				}
				bits := 32
				if digits > 0 {
					bits = 64
				}
				body.WriteString(strconv.FormatFloat(float64(float32(r.NormFloat64())), 'g', digits, bits))
			}
			body.WriteString("]}\n")
		}
		for name, parse := range map[string]func(*batch) func([]byte) error{
			"scanner": func(b *batch) func([]byte) error { return b.parseLine },
			"decoder": func(b *batch) func([]byte) error { return b.decodeLine },
		} {
			b.Run(fmt.Sprintf("%s/digits=%d", name, digits), func(b *testing.B) {
				b.SetBytes(int64(body.Len()))
				for b.Loop() {
					batch := newBatch(httpapi.Limits{}.WithDefaults(), manifest.Collection{Dimension: 128})
					if err := batch.parseLines(body.Bytes(), parse(batch)); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
