package writer

import (
	"encoding/binary"
	"math"
	"strconv"
	"unsafe"
)

// powersOfTen[i] is the float64 nearest to 10^i.
var powersOfTen = func() (p [64]float64) {
	for i := range p {
		p[i], _ = strconv.ParseFloat("1e"+strconv.Itoa(i), 64)
	}
	return p
}()

// scanNumber reads the JSON number that b begins with: its length, and its
// value, rounded to float32 as strconv.ParseFloat(…, 32) rounds it. It is false
// when there is none or its value does not fit.
//
// Digits are gathered into an integer w and scaled in float64. Rounding w, the
// power and the quotient each costs at most half a unit in the last place of a
// quotient that is twice the least with its exponent: together 3 units of a
// float64. That is below the float32 that is wanted, except within as much of
// the middle between two of them; there, and beyond the reach of the tables,
// strconv decides.
func scanNumber(b []byte) (value float32, size int, ok bool) {
	i := 0
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		i = 1
	}
	first := i
	w := uint64(0)
	for i < len(b) && isDigit(b[i]) {
		w = 10*w + uint64(b[i]-'0')
		i++
	}
	if i == first || b[first] == '0' && i > first+1 {
		return 0, 0, false
	}
	digits, exponent := i-first, 0
	if i < len(b) && b[i] == '.' {
		i++
		point := i
		for ; len(b)-i >= 8; i += 8 {
			eight := binary.LittleEndian.Uint64(b[i:])
			if !allDigits(eight) {
				break
			}
			w = 100_000_000*w + eightDigits(eight)
		}
		for i < len(b) && isDigit(b[i]) {
			w = 10*w + uint64(b[i]-'0')
			i++
		}
		if i == point {
			return 0, 0, false
		}
		digits, exponent = digits+i-point, point-i
	}
	exact := digits <= 19 || significant(b[first:i]) <= 19
	if i < len(b) && b[i]|0x20 == 'e' {
		i++
		minus := i < len(b) && b[i] == '-'
		if i < len(b) && (b[i] == '-' || b[i] == '+') {
			i++
		}
		from, e := i, 0
		for i < len(b) && isDigit(b[i]) {
			e = min(10*e+int(b[i]-'0'), 1<<20)
			i++
		}
		if i == from {
			return 0, 0, false
		}
		if minus {
			e = -e
		}
		exponent += e
	}
	if exact {
		if f, ok := scale(w, exponent); ok {
			if negative {
				f = -f
			}
			return f, i, true
		}
	}
	// The string shares b's bytes; ParseFloat keeps it only in its error.
	f, err := strconv.ParseFloat(unsafe.String(&b[0], i), 32)
	return float32(f), i, err == nil
}

// scale is w × 10^exponent, if it can tell what that rounds to.
func scale(w uint64, exponent int) (float32, bool) {
	if w == 0 {
		return 0, true
	}
	f := float64(w)
	switch {
	case exponent <= -len(powersOfTen) || exponent >= len(powersOfTen):
		return 0, false
	case exponent < 0:
		f /= powersOfTen[-exponent]
	default:
		f *= powersOfTen[exponent]
	}
	if f < 0x1p-126 || f >= 0x1p127 { // not normal, or nearly too large
		return 0, false
	}
	const dropped, slack = 1<<29 - 1, 4 // bits that float32 has not
	if rest := math.Float64bits(f) & dropped; rest-(1<<28-slack) <= 2*slack {
		return 0, false
	}
	return float32(f), true
}

// significant counts the digits of a number from the first on that is not 0.
func significant(number []byte) (n int) {
	for _, c := range number {
		if isDigit(c) && (n > 0 || c != '0') {
			n++
		}
	}
	return n
}

func isDigit(c byte) bool { return c-'0' <= 9 }

// allDigits says whether the eight bytes of x are digits.
func allDigits(x uint64) bool {
	const high, zeros, sixes = 0xf0f0f0f0f0f0f0f0, 0x3030303030303030, 0x0606060606060606
	return x&high == zeros && (x+sixes)&high == zeros
}

// eightDigits is the value of eight digits, the first in the lowest byte: pairs,
// then fours, then all are added up side by side.
func eightDigits(x uint64) uint64 {
	x -= 0x3030303030303030
	x = x*10 + x>>8
	const pairs = 0x000000ff000000ff
	return ((x&pairs)*(100+1_000_000<<32) + (x>>16&pairs)*(1+10_000<<32)) >> 32
}
