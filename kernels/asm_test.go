package kernels

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// assembly returns the statements of a file and its macros, one a line, without comments.
func assembly(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var statements []string
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "//")
		for statement := range strings.SplitSeq(line, ";") {
			if statement = strings.Trim(statement, " \t\r\n\\"); statement != "" {
				statements = append(statements, statement)
			}
		}
	}
	return statements
}

var (
	legacySSE   = regexp.MustCompile(`^[A-UW-Z][A-Z0-9]*\s.*\bX([0-9]|[12][0-9]|3[01])\b`)
	macroOrText = regexp.MustCompile(`^(TEXT|#define)\b`)
	scalar      = regexp.MustCompile(`^(\w+:|RET|(MOV|ADD|SUB|AND|PREFETCH|J)[A-Z0-9]*\s.*)$`) // a label or an instruction that may be without vectors
	vector      = regexp.MustCompile(`\b[XYZ][0-9]+\b`)
)

// leavesVectors reports whether the return at i belongs to a function that is scalar all through.
func leavesVectors(statements []string, i int) bool {
	for i--; i >= 0 && scalar.MatchString(statements[i]) && !vector.MatchString(statements[i]); i-- {
	}
	return i >= 0 && strings.HasPrefix(statements[i], "TEXT")
}

// faults returns what is wrong with assembly for amd64: a return that leaves the upper halves of
// the vectors dirty, and an instruction that then waits for them. Either makes code without
// vectors slower, and no result shows it.
func faults(statements []string) []string {
	var found []string
	for i, s := range statements {
		if s == "RET" && (i == 0 || statements[i-1] != "VZEROUPPER") && !leavesVectors(statements, i) {
			found = append(found, s)
		}
		if !macroOrText.MatchString(s) && legacySSE.MatchString(s) {
			found = append(found, s)
		}
	}
	return found
}

func TestAssemblyLeavesNoDirtyVectors(t *testing.T) {
	var files []string
	for _, pattern := range []string{"*_amd64.s", "*_amd64.h", "internal/*/*_amd64.s"} {
		matched, err := filepath.Glob(pattern)
		if err != nil || len(matched) == 0 {
			t.Fatalf("%s matches %v, error %v", pattern, matched, err)
		}
		files = append(files, matched...)
	}
	returns := 0
	for _, file := range files {
		statements := assembly(t, file)
		for _, fault := range faults(statements) {
			t.Errorf("%s: %s", file, fault)
		}
		for _, s := range statements {
			if s == "RET" {
				returns++
			}
		}
	}
	if returns == 0 {
		t.Error("no assembly returns")
	}
}

func TestFaultsAreFound(t *testing.T) {
	planted := []string{
		"TEXT a", "VMOVD AX, X1", "MOVQ AX, X1", "MOVQ AX, BX", "RET", "VZEROUPPER", "RET",
		"TEXT b", "loop:", "PREFETCHT0 (SI)", "ADDQ $64, SI", "JGT loop", "RET",
		"TEXT c", "SOME_MACRO", "MOVQ AX, BX", "RET",
	}
	if got, want := faults(planted), []string{"MOVQ AX, X1", "RET", "RET"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
