package ivfpq

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/akidb/akidb/kernels"
)

// formatTable returns the rows of the table in FORMAT.md with the given header.
func formatTable(t *testing.T, header string) [][]string {
	t.Helper()
	text, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), "\n"+header+"\n")
	if !found {
		t.Fatalf("FORMAT.md has no table %q", header)
	}
	table, _, _ := strings.Cut(after, "\n\n")
	var rows [][]string
	for _, line := range strings.Split(table, "\n")[1:] {
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows = append(rows, cells)
	}
	return rows
}

func TestFormatDocumentAgreesWithTheConstants(t *testing.T) {
	want := map[string]int{
		"metric l2": int(L2), "metric dot": int(Dot), "metric cosine": int(Cosine),
		"kind exact": int(Exact), "kind flat": int(Flat), "kind ivf": int(IVF),
		"largest dim": MaxDim, "largest exponent": maxExponent,
		"code dim is a multiple of": codeDimStep, "dimensions of a sub-quantizer": dimsPerCode,
		"bits of a code": 4, "rows of a block": kernels.BlockRows,
		"bytes of a sub-quantizer in a block":        kernels.BlockSize(2) - kernels.BlockSize(1),
		"bytes of factors in a block":                kernels.BlockFactorSize,
		"bytes of a refine code beside its elements": refineFactors,
		"codebook sign":                              int(Sign),
		"codebook learned":                           int(Learned),
		"bytes of a list's header":                   listHeader,
		"alignment of a list's parts":                listAlign,
		"version of a quantizer":                     QuantizerVersion,
		"bytes of a quantizer's header":              quantizerHeader,
		"largest entry of a table":                   kernels.LUTMax,
		"rounds of the rotation":                     rotationRounds,
	}
	rows := formatTable(t, "| number | value |")
	for _, row := range rows {
		if value, ok := want[row[0]]; !ok || strconv.Itoa(value) != row[1] {
			t.Errorf("FORMAT.md says %q is %s, the code %d", row[0], row[1], value)
		}
	}
	if len(rows) != len(want) {
		t.Errorf("FORMAT.md has %d numbers, want %d", len(rows), len(want))
	}
}

func TestFormatDocumentAgreesWithTheSizes(t *testing.T) {
	rows := formatTable(t, "| dim | code dim | block bytes | to scan | list of 33 rows, 2 spilled |")
	if len(rows) < 5 {
		t.Fatalf("FORMAT.md has %d sizes, want at least 5", len(rows))
	}
	for _, row := range rows {
		dim, err := strconv.Atoi(row[0])
		if err != nil {
			t.Fatal(err)
		}
		z := shapeOf(dim)
		l := List{Count: 33, Spilled: 2}
		want := fmt.Sprint(dim, CodeDim(dim), z.blockSize, z.ScanSize(l), z.ListSize(l))
		if got := strings.Join(row, " "); got != want {
			t.Errorf("FORMAT.md says %s, the code %s", got, want)
		}
	}
}

func TestFormatDocumentAgreesWithTheRotation(t *testing.T) {
	text, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, first := splitMix64(1234567)
	for _, want := range []string{
		fmt.Sprintf("for seed 1234567 is %d", first),
		fmt.Sprintf("%#x, %#x, %#x, %#x", goldenRotation16[0], goldenRotation16[1], goldenRotation16[2], goldenRotation16[3]),
	} {
		if !strings.Contains(strings.ReplaceAll(string(text), "\n", " "), want) {
			t.Errorf("FORMAT.md does not say %q", want)
		}
	}
}
