package columns

import (
	"cmp"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
	"unsafe"
)

// number is a JSON number. Integers of up to 64 bits, signed or not, are exact;
// anything else (a fraction, an exponent, more digits) is the nearest float64.
type number struct {
	isFloat  bool
	negative bool   // of an integer; false for zero
	abs      uint64 // of an integer
	float    float64
}

func parseNumber(v rawValue) (number, bool) {
	if !v.isNumber() {
		return number{}, false
	}
	digits := v
	negative := v[0] == '-'
	if negative {
		digits = v[1:]
	}
	if n, ok := parseDigits(digits); ok && (!negative || n <= 1<<63) {
		return number{negative: negative && n != 0, abs: n}, true
	}
	// ParseFloat keeps nothing of its argument. Too large becomes infinite.
	f, err := strconv.ParseFloat(unsafe.String(&v[0], len(v)), 64)
	if err != nil && !math.IsInf(f, 0) {
		return number{}, false
	}
	return number{isFloat: true, float: f}, true
}

// parseDigits is false for anything but digits that fit.
func parseDigits(b []byte) (n uint64, ok bool) {
	if len(b) == 0 || len(b) > 20 {
		return 0, false
	}
	for _, c := range b {
		d := uint64(c - '0')
		if d > 9 || n > (math.MaxUint64-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}

// compare orders numbers by value, exactly: no integer passes through float64.
func (a number) compare(b number) int {
	switch {
	case a.isFloat && b.isFloat:
		return cmp.Compare(a.float, b.float)
	case a.isFloat:
		return -b.compareFloat(a.float)
	case b.isFloat:
		return a.compareFloat(b.float)
	case a.negative != b.negative:
		if a.negative {
			return -1
		}
		return 1
	case a.negative:
		return cmp.Compare(b.abs, a.abs)
	}
	return cmp.Compare(a.abs, b.abs)
}

// compareFloat compares an integer with a float that is not NaN.
func (a number) compareFloat(f float64) int {
	if f >= 1<<64 {
		return -1
	}
	if f <= -1<<64 {
		return 1
	}
	whole, fraction := math.Modf(f)
	w := number{negative: whole < 0, abs: uint64(math.Abs(whole))}
	if c := a.compare(w); c != 0 {
		return c
	}
	return cmp.Compare(0, fraction)
}

// parseTime reads a date and time as RFC 3339 has it, and the shorter forms that
// Qdrant takes: a space instead of the T, no zone (UTC), no seconds, no time.
func parseTime(s []byte) (time.Time, bool) {
	const shortest = len("2006-01-02")
	if len(s) < shortest || s[4] != '-' || s[7] != '-' {
		return time.Time{}, false // most strings are no dates
	}
	layout := "2006-01-02"
	if len(s) > shortest {
		if s[shortest] != 'T' && s[shortest] != ' ' {
			return time.Time{}, false
		}
		clock := string(s[shortest+1:])
		layout += string(s[shortest]) + "15:04"
		if len(clock) > 5 && clock[5] == ':' {
			layout += ":05" // a fraction may follow
		}
		if strings.ContainsAny(clock, "Z+-") {
			layout += "Z07:00"
		}
	}
	t, err := time.Parse(layout, string(s))
	return t, err == nil
}

// textTokens splits text into words: longest runs of letters, marks and digits.
func textTokens(text []byte) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		start := -1
		for i := 0; i < len(text); {
			r, size := rune(text[i]), 1
			if r >= utf8.RuneSelf {
				r, size = utf8.DecodeRune(text[i:])
			}
			if isWordRune(r) {
				if start < 0 {
					start = i
				}
			} else if start >= 0 {
				if !yield(text[start:i]) {
					return
				}
				start = -1
			}
			i += size
		}
		if start >= 0 {
			yield(text[start:])
		}
	}
}

func isWordRune(r rune) bool {
	if r < utf8.RuneSelf {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
	}
	return unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r)
}

// hasTokens says whether every wanted token is a word of text, whatever the
// case.
func hasTokens(text []byte, wanted []string) bool {
	for _, want := range wanted {
		found := false
		for token := range textTokens(text) {
			// EqualFold keeps nothing of its arguments.
			if strings.EqualFold(unsafe.String(&token[0], len(token)), want) {
				found = true
				break
			}
		}
		if !found {
			return false
		}
	}
	return true
}
