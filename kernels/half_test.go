package kernels

import (
	"math"
	"math/rand/v2"
	"testing"
)

// halfValue follows the definition of binary16: a sign, 5 bits of exponent, 10 of fraction.
func halfValue(h uint16) float64 {
	exponent, fraction := int(h>>10&31), float64(h&0x3ff)/1024
	value := math.Ldexp(1+fraction, exponent-15)
	switch {
	case exponent == 31 && fraction != 0:
		return math.NaN()
	case exponent == 31:
		value = math.Inf(1)
	case exponent == 0:
		value = math.Ldexp(fraction, -14)
	}
	return math.Copysign(value, 1-2*float64(h>>15))
}

func TestHalfOfEveryValueBothWays(t *testing.T) {
	for h := range 1 << 16 {
		half := uint16(h)
		want, got := halfValue(half), Float32(half)
		back := Float16(got)
		if math.IsNaN(want) {
			if got == got || back&0x7e00 != 0x7e00 || back>>15 != half>>15 {
				t.Fatalf("%#04x: got %v and back %#04x, want a quiet NaN", half, got, back)
			}
			continue
		}
		if math.Float64bits(float64(got)) != math.Float64bits(want) || back != half {
			t.Fatalf("%#04x: got %v and back %#04x, want %v", half, got, back, want)
		}
	}
}

// Between any two neighbours: the middle goes to the even one, anything beside it to the nearer.
func TestHalfRoundsToNearestEven(t *testing.T) {
	for h := range uint16(0x7c00) {
		low, high := Float32(h), Float32(h+1)
		if h == 0x7bff {
			high = 1 << 16 // infinity begins where the next binade would
		}
		middle := (low + high) / 2 // exact: 12 bits of fraction
		even := h + h&1
		for _, c := range []struct {
			x    float32
			want uint16
		}{
			{math.Nextafter32(low, high), h},
			{math.Nextafter32(middle, low), h},
			{middle, even},
			{math.Nextafter32(middle, high), h + 1},
			{math.Nextafter32(high, low), h + 1},
		} {
			if got := Float16(c.x); got != c.want {
				t.Fatalf("%v: got %#04x, want %#04x", c.x, got, c.want)
			}
			if got := Float16(-c.x); got != c.want|0x8000 {
				t.Fatalf("%v: got %#04x, want %#04x", -c.x, got, c.want|0x8000)
			}
		}
	}
}

func TestHalfOfSpecialValues(t *testing.T) {
	for x, want := range map[float32]uint16{
		math.MaxFloat32: 0x7c00, -math.MaxFloat32: 0xfc00, 65520: 0x7c00, 65519.996: 0x7bff,
		float32(math.Inf(1)): 0x7c00, float32(math.Inf(-1)): 0xfc00, 1e-45: 0, -1e-45: 0x8000, 1e-30: 0,
	} {
		if got := Float16(x); got != want {
			t.Errorf("%v: got %#04x, want %#04x", x, got, want)
		}
	}
	if got := Float16(math.Float32frombits(0xff800001)); got != 0xfe00 {
		t.Errorf("a signalling NaN: got %#04x", got)
	}
}

func BenchmarkFloat16(b *testing.B) {
	values := normals(rand.New(rand.NewPCG(1, 2)), 4096)
	b.SetBytes(int64(4 * len(values)))
	for b.Loop() {
		for _, x := range values {
			halfSink += Float16(x)
		}
	}
}

var halfSink uint16
