package nearest

import (
	"strings"
	"testing"
)

func TestName(t *testing.T) {
	known := []string{"vector", "id", "metadata", "k"}
	for got, want := range map[string]string{
		"vectr":                  "vector",
		"Vector":                 "vector",
		"meta_data":              "metadata",
		"idd":                    "id",
		"meta":                   "metadata",
		"me":                     "",
		"zzzzzz":                 "",
		"":                       "",
		"q":                      "",
		strings.Repeat("v", 129): "",
	} {
		if n := Name(got, known); n != want {
			t.Errorf("Name(%q) = %q, want %q", got, n, want)
		}
	}
	if n := Name("ab", []string{"aa", "bb"}); n != "aa" {
		t.Errorf("of equally near names got %q, want the first", n)
	}
}
