package tidy

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	promiseRow = regexp.MustCompile("(?m)^\\| [^|]+ \\| `([^`]+)` \\| (.+) \\|$")
	quotedName = regexp.MustCompile("`([^`:]+): ([^`]+)`")
)

// Every promise in docs/reliability.md names a function that keeps it and tests
// that would miss it, and they are where it says.
func TestPromisesAreKept(t *testing.T) {
	root := "../.."
	b, err := os.ReadFile(filepath.Join(root, "docs/reliability.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := promiseRow.FindAllStringSubmatch(string(b), -1)
	if len(rows) < 15 {
		t.Fatalf("%d promises: the table has moved", len(rows))
	}
	for _, row := range rows {
		file, function, _ := strings.Cut(row[1], ": ")
		if !declares(t, filepath.Join(root, file), function) {
			t.Errorf("%s has no function %s", file, function)
		}
		tests := quotedName.FindAllStringSubmatch(row[2], -1)
		if len(tests) == 0 {
			t.Errorf("%s: no test", row[1])
		}
		for _, test := range tests {
			files, err := filepath.Glob(filepath.Join(root, test[1], "*_test.go"))
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, f := range files {
				found = found || declares(t, f, test[2])
			}
			if !found {
				t.Errorf("%s has no test %s", test[1], test[2])
			}
		}
	}
}

func declares(t *testing.T, file, function string) bool {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`(?m)^func (\([^)]*\) )?` + regexp.QuoteMeta(function) + `[\[(]`).Match(b)
}
