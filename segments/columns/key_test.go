package columns

import (
	"fmt"
	"slices"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

func keyValues(t testing.TB, key, metadata string) (names []string) {
	t.Helper()
	k, err := ParseKey(key)
	if err != nil {
		t.Fatal(err)
	}
	k.Values([]byte(metadata), func(v KeyValue) bool {
		names = append(names, v.Name)
		return true
	})
	return names
}

func TestKeyValues(t *testing.T) {
	for _, c := range []struct {
		key, metadata string
		want          []string
	}{
		{"a", `{"a":"x"}`, []string{`"x`}},
		{"a", `{"a":"true"}`, []string{`"true`}},
		{"a", `{"a":true}`, []string{"true"}},
		{"a.b", `{"a":{"b":[1,1.0,1e0,"1",null,{"c":1},[2],-0.0]}}`, []string{"1", "1", "1", `"1`, "0"}},
		{"a[].b", `{"a":[{"b":"x"},{"b":["y","z"]},{}]}`, []string{`"x`, `"y`, `"z`}},
		{"a", `{"a":18446744073709551615}`, []string{"18446744073709551615"}},
		{"a", `{"a":-9223372036854775808}`, []string{"-9223372036854775808"}},
		{"a", `{"a":-9.223372036854775808e18}`, []string{"-9223372036854775808"}},
		{"a", `{"a":1e300}`, []string{"1e+300"}},
		{"a", `{"a":0.5}`, []string{"0.5"}},
		{"a", `{"a":null}`, nil},
		{"a", `{"b":1}`, nil},
		{"a", ``, nil},
	} {
		if got := keyValues(t, c.key, c.metadata); !slices.Equal(got, c.want) {
			t.Errorf("%s of %s is %q, want %q", c.key, c.metadata, got, c.want)
		}
	}
	for _, key := range []string{"", ".", "a.", "a[", `"a`} {
		if _, err := ParseKey(key); err == nil {
			t.Errorf("key %q is accepted", key)
		}
	}
}

// TestKeyNamesAgreeWithMatch: names are equal exactly where a filter says the
// values are.
func TestKeyNamesAgreeWithMatch(t *testing.T) {
	texts := []string{
		`"a"`, `"\u0061"`, `"1"`, `"true"`, `""`, "true", "false", "0", "-0", "0.0", "1", "1.0", "10e-1", "-1", "-1.0", "1.5", "0.1", "0.10",
		"18446744073709551615", "18446744073709551616", "1.8446744073709551615e19", "9007199254740993", "9007199254740992.0", "1e400", "1e401", "-1e400",
	}
	for _, a := range texts {
		for _, b := range texts {
			f, err := ParseFilter(jsontext.Value(fmt.Sprintf(`{"must":{"key":"k","match":{"value":%s}}}`, a)), FilterLimits{})
			if err != nil {
				t.Fatal(err)
			}
			equal := f.Match("", []byte(`{"k":`+b+`}`))
			names := append(keyValues(t, "k", `{"k":`+a+`}`), keyValues(t, "k", `{"k":`+b+`}`)...)
			if len(names) != 2 || (names[0] == names[1]) != equal {
				t.Errorf("%s and %s have names %q, and a match says %v", a, b, names, equal)
			}
		}
	}
}
