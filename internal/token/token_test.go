package token

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Token{Epoch: rapid.Uint64().Draw(t, "epoch"), Seq: rapid.Uint64().Draw(t, "seq")}
		if got, err := Parse(want.String()); err != nil || got != want {
			t.Fatalf("Parse(%q) = %v, %v", want, got, err)
		}
	})
}

func TestParseRefuses(t *testing.T) {
	for _, s := range []string{"", ".", "1", "1.", ".1", "1.2.3", "01.2", "1.02", "+1.2", "1.-2", " 1.2", "1.2\n", "18446744073709551616.1", "a.b"} {
		if got, err := Parse(s); err == nil {
			t.Errorf("Parse(%q) = %v, want an error", s, got)
		}
	}
	if got, err := Parse("18446744073709551615.0"); err != nil || got.Epoch != math.MaxUint64 {
		t.Errorf("largest epoch: %v, %v", got, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("3.1234")
	f.Add("0.0")
	f.Fuzz(func(t *testing.T, s string) {
		if got, err := Parse(s); err == nil && got.String() != s {
			t.Fatalf("Parse(%q) = %v, which is another text", s, got)
		}
	})
}
