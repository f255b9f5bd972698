package query

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/internal/memtable"
	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/ivfpq"
)

type groupsAnswer struct {
	Groups []struct {
		Group   jsontext.Value
		Results []struct {
			ID    string
			Score float32
		}
	}
	Usage usage
}

// groupsOf is the oracle: groups by brute force, as text.
func groupsOf(w *testWriter, q []float32, key string, k, size int, keep func(memtable.Op) bool) []string {
	path, err := columns.ParseKey(key)
	if err != nil {
		w.t.Fatal(err)
	}
	byName := map[string][]hit{}
	for _, h := range w.nearest(q, len(w.rows), keep) {
		names := map[string]bool{}
		path.Values(w.rows[h.id].Metadata, func(v columns.KeyValue) bool { names[v.Name] = true; return true })
		for name := range names {
			byName[name] = append(byName[name], h)
		}
	}
	rank := func(h hit) float32 {
		if w.metric == ivfpq.L2 {
			return h.distance
		}
		return -h.distance
	}
	var order []string
	for name := range byName {
		order = append(order, name)
	}
	slices.SortFunc(order, func(a, b string) int {
		x, y := byName[a][0], byName[b][0]
		return cmp.Or(cmp.Compare(rank(x), rank(y)), cmp.Compare(x.id, y.id), cmp.Compare(a, b))
	})
	var out []string
	for _, name := range order[:min(k, len(order))] {
		text := name
		for _, h := range byName[name][:min(size, len(byName[name]))] {
			text += fmt.Sprintf(" %s:%v", h.id, h.distance)
		}
		out = append(out, text)
	}
	return out
}

func (a *groupsAnswer) texts() []string {
	path, _ := columns.ParseKey("g")
	var out []string
	for _, g := range a.Groups {
		text := ""
		path.Values([]byte(`{"g":`+string(g.Group)+`}`), func(v columns.KeyValue) bool { text = v.Name; return true })
		for _, r := range g.Results {
			text += fmt.Sprintf(" %s:%v", r.ID, r.Score)
		}
		out = append(out, text)
	}
	return out
}

// drawGroup is metadata with a group, several, one of another kind, or none. Most
// rows are of the first, so that the nearest are of few groups.
func drawGroup(rng *rand.Rand) string {
	switch rng.IntN(12) {
	case 0:
		return ""
	case 1:
		return `{"g":null,"n":1}`
	case 2:
		return `{"g":{"x":1}}`
	case 3:
		return fmt.Sprintf(`{"g":[%d,"%d",%d.0],"n":%d}`, rng.IntN(9), rng.IntN(9), rng.IntN(9), rng.IntN(3))
	case 4, 5, 6:
		return fmt.Sprintf(`{"g":"%d","n":%d}`, rng.IntN(60), rng.IntN(3))
	}
	return fmt.Sprintf(`{"g":"many","n":%d}`, rng.IntN(3))
}

// TestGroupsEqualTheOracle: with exact the groups and their rows are what brute
// force finds, with filters, tail, deletes, several segments and in a batch.
func TestGroupsEqualTheOracle(t *testing.T) {
	for _, metric := range []string{"l2", "cosine", "dot"} {
		t.Run(metric, func(t *testing.T) {
			const dim = 6
			f := newFixture(t, dim, metric)
			rng := rand.New(rand.NewPCG(8, 15))
			for round := range 20 {
				for range 60 {
					id := fmt.Sprintf("id%d", rng.IntN(900))
					if rng.IntN(10) == 0 {
						f.writer.delete(id)
						continue
					}
					v := make([]float32, dim)
					for i := range v {
						v[i] = float32(1 + rng.IntN(4)) // ties
					}
					f.writer.upsert(id, v, drawGroup(rng))
				}
				if round%4 == 3 {
					f.writer.flush()
				}
				k, size := 1+rng.IntN(90), 1+rng.IntN(6)
				q := normal(rng, dim, 2)
				filter, keep := "", (func(memtable.Op) bool)(nil)
				if rng.IntN(2) == 0 {
					filter = `,"filter":{"must":[{"key":"n","match":{"value":1}}]}`
					only, err := columns.ParseFilter([]byte(`{"must":[{"key":"n","match":{"value":1}}]}`), columns.FilterLimits{})
					if err != nil {
						t.Fatal(err)
					}
					keep = func(op memtable.Op) bool { return only.Match(op.ID, op.Metadata) }
				}
				body := fmt.Sprintf(`{"vector":%s,"k":%d,"group_by":"g","group_size":%d,"exact":true%s}`, vectorJSONOf(q), k, size, filter)
				var got groupsAnswer
				f.call("POST", "/collections/movies/search", body, &got)
				want := groupsOf(f.writer, q, "g", k, size, keep)
				if !slices.Equal(got.texts(), want) {
					t.Fatalf("round %d, k %d, group_size %d%s:\n got %q\nwant %q", round, k, size, filter, got.texts(), want)
				}
				var batch struct{ Responses []groupsAnswer }
				f.call("POST", "/collections/movies/search/batch", fmt.Sprintf(`{"searches":[%s,{"vector":%s,"k":3},%s]}`, body, vectorJSONOf(q), body), &batch)
				if !slices.Equal(batch.Responses[0].texts(), want) || !slices.Equal(batch.Responses[2].texts(), want) || batch.Responses[1].Groups != nil {
					t.Fatalf("round %d: a batch answers otherwise", round)
				}
			}
		})
	}
}

// TestGroupsThroughTheIndex: approximate groups have their number, and nearly
// the right rows, also where the nearest rows are all of one group.
func TestGroupsThroughTheIndex(t *testing.T) {
	const dim, rows, k, size = 16, 12_000, 20, 3
	f := newFixture(t, dim, "l2")
	f.writer.kind = ivfpq.IVF
	rng := rand.New(rand.NewPCG(3, 5))
	c := newClusters(rng, 40, dim)
	for i := range rows {
		v := slices.Clone(c.centres[i%40])
		for j := range v {
			v[j] += float32(rng.NormFloat64())
		}
		f.writer.upsert(fmt.Sprint(i), v, fmt.Sprintf(`{"g":%d}`, i%40*3+rng.IntN(3)))
	}
	f.writer.flush()
	found, wanted := 0, 0
	for range 30 {
		q := c.draw()
		var got groupsAnswer
		f.call("POST", "/collections/movies/search", fmt.Sprintf(`{"vector":%s,"k":%d,"group_by":"g","group_size":%d}`, vectorJSONOf(q), k, size), &got)
		want := groupsOf(f.writer, q, "g", k, size, nil)
		if len(got.Groups) != k {
			t.Fatalf("%d groups, want %d", len(got.Groups), k)
		}
		for _, text := range got.texts() {
			if slices.Contains(want, text) {
				found++
			}
		}
		for _, g := range got.Groups {
			if len(g.Results) != size {
				t.Fatalf("group %s has %d rows, want %d", g.Group, len(g.Results), size)
			}
		}
		wanted += k
	}
	if recall := float64(found) / float64(wanted); recall < 0.9 {
		t.Errorf("%.3f of the groups are whole and right, want 0.9", recall)
	}
}

func TestGroupingIsChecked(t *testing.T) {
	f := newFixture(t, 2, "l2")
	for body, code := range map[string]string{
		`{"vector":[1,2],"group_size":2}`:                            "group_size_alone",
		`{"vector":[1,2],"group_by":""}`:                             "invalid_group_by",
		`{"vector":[1,2],"group_by":"a["}`:                           "invalid_group_by",
		`{"vector":[1,2],"group_by":"a","group_size":0}`:             "out_of_range",
		`{"vector":[1,2],"group_by":"a","group_size":101}`:           "out_of_range",
		`{"vector":[1,2],"k":101,"group_by":"a","group_size":100}`:   "out_of_range",
		`{"vector":[1,2],"score_threshold":1e300}`:                   "not_finite",
		`{"vector":[1,2],"max_store_gets":-1}`:                       "out_of_range",
		`{"vector":[1,2],"group_by":"a","include":["metadata","x"]}`: "unknown_include",
	} {
		var got httpapi.Error
		if status, _ := f.call("POST", "/collections/movies/search", body, &got); status != http.StatusUnprocessableEntity || got.Code != code {
			t.Errorf("%s: %d %s, want 422 %s", body, status, got.Code, code)
		}
	}
	var got groupsAnswer
	f.call("POST", "/collections/movies/search", `{"vector":[1,2],"group_by":"a"}`, &got)
	if got.Groups == nil || len(got.Groups) != 0 {
		t.Errorf("groups of nothing are %v, want an empty array", got.Groups)
	}
}

// TestScoreThreshold: what is not as good as the threshold is not in the
// answer; a score read from an answer is met by its own row.
func TestScoreThreshold(t *testing.T) {
	for _, metric := range []string{"l2", "cosine", "dot"} {
		t.Run(metric, func(t *testing.T) {
			const dim = 5
			f := newFixture(t, dim, metric)
			rng := rand.New(rand.NewPCG(4, 4))
			for i := range 400 {
				f.writer.upsert(fmt.Sprint(i), normal(rng, dim, 1), "")
				if i == 300 {
					f.writer.flush()
				}
			}
			for range 40 {
				q := normal(rng, dim, 1)
				all := f.writer.nearest(q, 400, nil)
				at := rng.IntN(400)
				threshold := all[at].distance // which is a score here
				var got searchAnswer
				f.call("POST", "/collections/movies/search", fmt.Sprintf(`{"vector":%s,"k":1000,"score_threshold":%v}`, vectorJSONOf(q), threshold), &got)
				wantHits(t, got, all[:at+1])
				got = searchAnswer{}
				f.call("POST", "/collections/movies/search", fmt.Sprintf(`{"vector":%s,"k":7,"score_threshold":%v}`, vectorJSONOf(q), threshold), &got)
				wantHits(t, got, all[:min(7, at+1)])
			}
		})
	}
}

// TestMaxStoreGets: a search that needs more reads than it is allowed is
// refused, and one that needs as many is answered as ever.
func TestMaxStoreGets(t *testing.T) {
	const dim = 16
	f := newFixture(t, dim, "l2")
	f.writer.kind = ivfpq.IVF
	rng := rand.New(rand.NewPCG(6, 1))
	c := newClusters(rng, 20, dim)
	for i := range 6000 {
		f.writer.upsert(fmt.Sprint(i), c.draw(), "")
	}
	f.writer.flush()
	q := vectorJSONOf(c.draw())
	ask := func(s *Service, most int) (searchAnswer, int, httpapi.Error) {
		f.router = httpapi.NewRouter()
		s.Register(f.router)
		var got searchAnswer
		var refused httpapi.Error
		body := fmt.Sprintf(`{"vector":%s,"k":5,"max_store_gets":%d}`, q, most)
		status, _ := f.call("POST", "/collections/movies/search", body, &refused)
		if status == http.StatusOK {
			f.call("POST", "/collections/movies/search", body, &got)
		}
		return got, status, refused
	}
	var free searchAnswer
	f.call("POST", "/collections/movies/search", fmt.Sprintf(`{"vector":%s,"k":5}`, q), &free)
	need := int(free.Usage.StoreGets)
	if need < 2 {
		t.Fatalf("a cold search costs %d reads", need)
	}
	if _, status, refused := ask(f.newService(f.writer), need-1); status != http.StatusUnprocessableEntity || refused.Code != "budget_exceeded" || refused.Field != "max_store_gets" {
		t.Errorf("with %d of %d reads: %d %+v, want 422 budget_exceeded", need-1, need, status, refused)
	}
	if got, status, refused := ask(f.newService(f.writer), need); status != http.StatusOK || len(got.Results) != 5 || got.Results[4].ID != free.Results[4].ID {
		t.Errorf("with %d reads: %d %+v, %+v", need, status, refused, got.Results)
	}
}
