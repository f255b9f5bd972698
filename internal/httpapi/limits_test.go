package httpapi

import (
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestLimitsDefaultsAreTheDocumentedOnes(t *testing.T) {
	got := Limits{}.WithDefaults()
	want := Limits{
		Dimension: 16384, IDBytes: 512, BatchRows: 10000, BatchBytes: 67108864, MetadataBytes: 65536,
		FilterClauses: 1000, FilterDepth: 16, K: 10000, Searches: 1000,
	}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if err := got.Validate(); err != nil {
		t.Error(err)
	}
}

func TestLimitsValidateReportsEveryProblem(t *testing.T) {
	l := Limits{}.WithDefaults()
	l.Dimension, l.K = -1, 1<<40
	err := l.Validate()
	if err == nil || !strings.Contains(err.Error(), "dimension is -1") || !strings.Contains(err.Error(), "k is ") {
		t.Errorf("got %v", err)
	}
}

func TestCheckNameAgreesWithTheContract(t *testing.T) {
	contract := regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)
	check := func(name string) bool {
		e := CheckName("name", name)
		if e != nil && (e.Status != 422 || e.Code != "invalid_name" || e.Field != "name") {
			t.Errorf("%q: got %+v", name, e)
		}
		return e == nil
	}
	for _, name := range []string{"", "a", "_a", "-a", "A", "ä", "a.b", "a/b", "a\n", strings.Repeat("a", 63), strings.Repeat("a", 64)} {
		if got, want := check(name), contract.MatchString(name) && !strings.HasSuffix(name, "\n"); got != want {
			t.Errorf("%q: allowed %v, want %v", name, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[a-zA-Z0-9_\-./ ]{0,70}`).Draw(t, "name")
		if got, want := check(name), contract.MatchString(name); got != want {
			t.Fatalf("%q: allowed %v, want %v", name, got, want)
		}
	})
}

func TestCheckID(t *testing.T) {
	l := Limits{}.WithDefaults()
	for id, message := range map[string]string{
		"a":                          "",
		"mövie/1 …":                  "",
		strings.Repeat("x", 512):     "",
		"":                           "ids[2] is empty",
		strings.Repeat("x", 513):     "ids[2] has 513 bytes; at most 512 are allowed",
		strings.Repeat("ä", 257):     "ids[2] has 514 bytes; at most 512 are allowed",
		"a\x00b":                     "ids[2] has a control character at byte 1",
		"ab\u0085":                   "ids[2] has a control character at byte 2",
		"a\x7f":                      "ids[2] has a control character at byte 1",
		string([]byte{'a', 0xc3, 1}): "ids[2] is not valid UTF-8",
	} {
		e := l.CheckID("ids[2]", id)
		switch {
		case message == "" && e != nil:
			t.Errorf("%q: %v", id, e)
		case message != "" && (e == nil || e.Message != message || e.Status != 422 || e.Field != "ids[2]"):
			t.Errorf("%q: got %v, want %q", id, e, message)
		}
	}
}

func TestOtherChecks(t *testing.T) {
	l := Limits{}.WithDefaults()
	for _, c := range []struct {
		name   string
		got    *Error
		status int // 0: allowed
		code   string
	}{
		{"dimension 0", l.CheckDimension("dimension", 0), 422, "invalid_dimension"},
		{"dimension 1", l.CheckDimension("dimension", 1), 0, ""},
		{"dimension most", l.CheckDimension("dimension", 16384), 0, ""},
		{"dimension more", l.CheckDimension("dimension", 16385), 422, "invalid_dimension"},
		{"k 0", l.CheckK("k", 0), 422, "invalid_k"},
		{"k most", l.CheckK("k", 10000), 0, ""},
		{"k more", l.CheckK("k", 10001), 422, "invalid_k"},
		{"no rows", l.CheckRows("vectors", 0), 422, "empty_batch"},
		{"rows most", l.CheckRows("vectors", 10000), 0, ""},
		{"rows more", l.CheckRows("vectors", 10001), 413, "batch_too_large"},
		{"metadata most", l.CheckMetadata("metadata", 65536), 0, ""},
		{"metadata more", l.CheckMetadata("metadata", 65537), 413, "metadata_too_large"},
		{"metric", CheckMetric("metric", "l2"), 0, ""},
		{"metric unknown", CheckMetric("metric", "cosin"), 422, "invalid_metric"},
		{"vector", CheckVector("vector", Vector{1}, 1, "c"), 0, ""},
		{"vector short", CheckVector("vector", Vector{}, 1, "c"), 422, "dimension_mismatch"},
	} {
		switch {
		case c.status == 0 && c.got != nil:
			t.Errorf("%s: %v", c.name, c.got)
		case c.status != 0 && (c.got == nil || c.got.Status != c.status || c.got.Code != c.code):
			t.Errorf("%s: got %v, want %d %s", c.name, c.got, c.status, c.code)
		}
	}
	// The contract's own example, to the letter.
	e := CheckVector("vectors[17].vector", make(Vector, 384), 768, "movies")
	if want := `vectors[17].vector has 384 values; collection "movies" needs 768`; e.Message != want {
		t.Errorf("got %q, want %q", e.Message, want)
	}
	if e := CheckMetric("metric", "cosin"); e.Hint != `did you mean "cosine"?` {
		t.Errorf("hint %q", e.Hint)
	}
}
