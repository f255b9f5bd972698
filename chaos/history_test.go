package chaos

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// event is short for tables.
func event(kind Kind, rows ...string) Event {
	e := Event{kind, map[string]string{}}
	for i := 0; i < len(rows); i += 2 {
		e.Rows[rows[i]] = rows[i+1]
	}
	return e
}

func TestCheck(t *testing.T) {
	for name, c := range map[string]struct {
		problem string // a part of it; "" if there is none
		events  []Event
	}{
		"nothing":                 {"", nil},
		"not written, not there":  {"", []Event{event(Read, "a", "")}},
		"as written":              {"", []Event{event(Acked, "a", "1"), event(Read, "a", "1"), event(Acked, "a", ""), event(Read, "a", "")}},
		"unknown, applied":        {"", []Event{event(Acked, "a", "1"), event(Unknown, "a", "2"), event(Read, "a", "2")}},
		"unknown, not applied":    {"", []Event{event(Acked, "a", "1"), event(Unknown, "a", "2"), event(Read, "a", "1")}},
		"unknown, the first of 2": {"", []Event{event(Unknown, "a", "1"), event(Unknown, "a", "2"), event(Read, "a", "1"), event(Read, "a", "1")}},
		"unknown, replaced":       {"", []Event{event(Unknown, "a", "1"), event(Acked, "a", "2"), event(Read, "a", "2")}},
		"unknown batch, applied":  {"", []Event{event(Unknown, "a", "1", "b", "2"), event(Read, "a", "1"), event(Read, "b", "2")}},
		"unknown batch, replaced in part": {"", []Event{event(Unknown, "a", "1", "b", "2"), event(Acked, "a", "3"),
			event(Read, "a", "3"), event(Read, "b", "2")}},
		"unknown delete of nothing": {"", []Event{event(Unknown, "a", ""), event(Unknown, "a", "1"), event(Read, "a", "")}},

		"as it once was": {"", []Event{event(Acked, "a", "1"), event(Unknown, "a", "2"), event(Stale, "a", "1"), event(Stale, "a", "2"), event(Stale, "a", "")}},

		"stale and refused":      {"and never was", []Event{event(Acked, "a", "1"), event(Refused, "a", "2"), event(Stale, "a", "2")}},
		"stale and nobody's":     {"what nobody wrote", []Event{event(Acked, "a", "1"), event(Stale, "a", "2"), event(Read, "a", "1")}},
		"lost":                   {`"a" is not there; want that of write 0`, []Event{event(Acked, "a", "1"), event(Read, "a", "")}},
		"an older one":           {`"a" is what write 0 (acked) made it`, []Event{event(Acked, "a", "1"), event(Acked, "a", "2"), event(Read, "a", "1")}},
		"back from the dead":     {`want no row, by write 1`, []Event{event(Acked, "a", "1"), event(Acked, "a", ""), event(Read, "a", "1")}},
		"refused and there":      {`what write 0 (refused) made it`, []Event{event(Refused, "a", "1"), event(Read, "a", "1")}},
		"never written":          {"what nobody wrote", []Event{event(Read, "a", "1")}},
		"changed":                {"what nobody wrote", []Event{event(Acked, "a", "1"), event(Read, "a", "1.0")}},
		"unknown, gone again":    {"want that of write 0", []Event{event(Unknown, "a", "1"), event(Read, "a", "1"), event(Read, "a", "")}},
		"unknown, come later":    {"want no row, as in the beginning", []Event{event(Unknown, "a", "1"), event(Read, "a", ""), event(Read, "a", "1")}},
		"unknown batch, in part": {"the opposite", []Event{event(Unknown, "a", "1", "b", "2"), event(Read, "a", "1", "b", "")}},
		"unknown batch, in part, read apart": {"the opposite", []Event{event(Acked, "b", "0"), event(Unknown, "a", "1", "b", "2"),
			event(Read, "b", "0"), event(Acked, "c", "3"), event(Read, "a", "1")}},
		"unknown batch of deletes, in part": {"the opposite", []Event{event(Acked, "a", "1", "b", "2"), event(Unknown, "a", "", "b", ""),
			event(Read, "a", "", "b", "2")}},
	} {
		t.Run(name, func(t *testing.T) {
			problems := Check(c.events)
			if c.problem == "" {
				require.Empty(t, problems)
				return
			}
			require.Len(t, problems, 1)
			require.Contains(t, problems[0].Error(), c.problem)
		})
	}
}

func TestAudit(t *testing.T) {
	var h History
	one, two := small("a", 1), small("b", 2)
	h.Add(Acked, map[string]Row{"a": one, "b": two})
	require.NoError(t, h.Audit([]Row{two, one}))
	require.Empty(t, Check(h.Events()))
	require.ErrorContains(t, h.Audit([]Row{one, two, one}), `"a" is there twice`)
	require.NoError(t, h.Audit([]Row{one, two, small("c", 3)}))
	require.Len(t, Check(h.Events()), 1)
	require.NoError(t, h.Audit([]Row{one}))
	require.Len(t, Check(h.Events()), 2)
}

// plantFaults tampers with a history without fault, in every way in which a
// database could have been wrong, and demands that each is noticed.
func plantFaults(t *testing.T, events []Event) {
	t.Helper()
	final := map[string]string{}
	for _, e := range events {
		if e.Kind == Read {
			maps.Copy(final, e.Rows)
		}
	}
	ids := slices.Sorted(maps.Keys(final))
	pick := func(what string, is func(now, acked, refused string) bool) string {
		at := slices.IndexFunc(ids, func(id string) bool { return is(final[id], written(events, Acked, id), written(events, Refused, id)) })
		require.GreaterOrEqual(t, at, 0, "no row is %s", what)
		return ids[at]
	}
	there := pick("there, changed and refused once", func(now, acked, refused string) bool {
		return now != "" && acked != "" && acked != now && refused != ""
	})
	gone := pick("deleted", func(now, acked, _ string) bool { return now == "" && acked != "" })

	for name, more := range map[string][]Event{
		"an acknowledged write is lost":          {event(Read, there, "")},
		"a deleted row is back":                  {event(Read, gone, written(events, Acked, gone))},
		"an older state is back":                 {event(Read, there, written(events, Acked, there))},
		"a refused write is there":               {event(Read, there, written(events, Refused, there))},
		"a bit is flipped":                       {event(Read, there, strings.Replace(final[there], "p", "q", 1))},
		"a row nobody wrote is there":            {event(Read, "nobody", "x")},
		"a write of unknown fate is half there":  {event(Unknown, there, "x", gone, "y"), event(Read, there, "x", gone, "")},
		"a write of unknown fate comes and goes": {event(Unknown, there, "x"), event(Read, there, "x"), event(Read, there, final[there])},
	} {
		require.NotEmpty(t, Check(append(slices.Clone(events), more...)), name)
	}
	// And without the write that explains it, what was read cannot be explained.
	last := -1
	for i, e := range events {
		if e.Kind != Read && e.Kind != Stale && e.Rows[there] == final[there] {
			last = i
		}
	}
	require.GreaterOrEqual(t, last, 0)
	require.NotEmpty(t, Check(slices.Delete(slices.Clone(events), last, last+1)), "a write is forgotten")
}

// written is the first content that a write of a kind gave a row, "" if none did.
func written(events []Event, kind Kind, id string) string {
	for _, e := range events {
		if e.Kind == kind && e.Rows[id] != "" {
			return e.Rows[id]
		}
	}
	return ""
}
