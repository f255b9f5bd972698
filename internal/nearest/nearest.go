// Package nearest finds what a mistyped name most likely meant, for the hints of
// error messages.
package nearest

import (
	"strings"

	"github.com/agnivade/levenshtein"
)

// longest is more than any name we know; the distance is quadratic in length.
const longest = 128

// Name returns the one of known that is nearest to got by edit distance, the
// first of equals, and "" when none is near: at most a third of got's length or
// two edits, and never all of the name.
func Name(got string, known []string) string {
	if len(got) > longest {
		return ""
	}
	best, bestDistance := "", max(2, len(got)/3)+1
	for _, k := range known {
		if d := levenshtein.ComputeDistance(got, k); d < bestDistance && d < max(len(k), len(got)) {
			best, bestDistance = k, d
		}
	}
	if best != "" || len(got) < 3 {
		return best
	}
	for _, k := range known {
		if strings.HasPrefix(k, got) {
			return k
		}
	}
	return ""
}
