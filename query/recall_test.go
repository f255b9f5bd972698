package query

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/internal/memtable"
	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/ivfpq"
)

// recallFixture has rows in two segments and in the tail, some of them deleted.
func recallFixture(t *testing.T) *fixture {
	const dim = 160
	f := newFixture(t, dim, "l2")
	f.writer.kind = ivfpq.IVF
	rng := rand.New(rand.NewPCG(2, 9))
	for i := range 900 {
		f.writer.upsert(fmt.Sprintf("id%d", i), normal(rng, dim, 1), fmt.Sprintf(`{"n":%d}`, i%4))
		if i == 400 || i == 800 {
			f.writer.flush()
		}
	}
	for i := range 60 {
		f.writer.delete(fmt.Sprintf("id%d", i*13))
		f.writer.upsert(fmt.Sprintf("id%d", i*13+1), normal(rng, dim, 1), fmt.Sprintf(`{"n":%d}`, i%4))
	}
	return f
}

// reconfigure puts another service behind the routes.
func (f *fixture) reconfigure(change func(*Config)) *Service {
	f.t.Helper()
	cfg := f.newService(f.writer).cfg
	cfg.Registerer = nil
	change(&cfg)
	s, err := New(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(s.Close)
	f.service, f.router = s, httpapi.NewRouter()
	s.Register(f.router)
	return s
}

// recallsOf is the oracle: the recall of every row as a query, through the same
// route as clients' searches, against brute force.
func recallsOf(f *fixture, k int, options string, keep func(memtable.Op) bool) (out []float64) {
	for _, id := range sortedIDs(f.writer.nearest(make([]float32, f.writer.dim), len(f.writer.rows), keep)) {
		row := f.writer.rows[id]
		truth := f.writer.nearest(row.Vector, k, func(op memtable.Op) bool { return op.ID != row.ID && (keep == nil || keep(op)) })
		var got searchAnswer
		f.call("POST", "/collections/movies/search", fmt.Sprintf(`{"vector":%s,"k":%d%s}`, vectorJSONOf(row.Vector), k+1, options), &got)
		found := 0
		for _, r := range got.Results {
			if r.ID != row.ID && slices.ContainsFunc(truth, func(h hit) bool { return h.id == r.ID }) {
				found++
			}
		}
		out = append(out, float64(found)/float64(len(truth)))
	}
	slices.Sort(out)
	return out
}

// TestRecallIsWhatSearchesFind: over all rows as the sample, the measured
// recall is that of a client who does the same by hand. With one list probed
// rows are missed, and the measure notices.
func TestRecallIsWhatSearchesFind(t *testing.T) {
	f := recallFixture(t)
	f.reconfigure(func(cfg *Config) { cfg.ResidentBytes = 0 }) // what is in memory finds a little more
	only := func(op memtable.Op) bool { return string(op.Metadata) == `{"n":1}` }
	for _, c := range []struct {
		name, options string
		keep          func(memtable.Op) bool
		whole         bool
	}{
		{"one list", `,"nprobe":1`, nil, false},
		{"planned", `,"target_recall":0.99`, nil, false},
		{"all", `,"target_recall":1`, nil, true},
		{"filtered", `,"nprobe":1,"filter":{"must":{"key":"n","match":{"value":1}}}`, only, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			const k = 9 // for 9 as many candidates are planned as for 10
			want := recallsOf(f, k, c.options, c.keep)
			var got RecallResponse
			f.call("POST", "/collections/movies/recall", fmt.Sprintf(`{"sample":1000,"k":%d%s}`, k, c.options), &got)
			mean := 0.0
			for _, r := range want {
				mean += r / float64(len(want))
			}
			if got.Sampled != len(want) || math.Abs(got.Recall-mean) > 1e-9 || got.Min != want[0] || got.P50 != want[len(want)/2] || got.P5 != want[len(want)/20] {
				t.Errorf("got %+v, want recall %v of %d, at least %v, half %v", got, mean, len(want), want[0], want[len(want)/2])
			}
			if got.Confidence[0] > mean+1e-9 || got.Confidence[1] < mean-1e-9 || got.Confidence[0] == got.Confidence[1] && got.Min != 1 {
				t.Errorf("confidence %v around %v", got.Confidence, mean)
			}
			if c.whole != (got.Recall == 1) {
				t.Errorf("recall is %v", got.Recall)
			}
			if c.keep == nil && got.Usage.CodesScanned == 0 {
				t.Errorf("usage %+v", got.Usage)
			}
		})
	}
}

// TestRecallSamplesEveryRow: each live row is as likely as any other, whichever
// segment it is in, and no other is drawn.
func TestRecallSamplesEveryRow(t *testing.T) {
	f := recallFixture(t)
	f.call("GET", "/collections/movies", "", nil)
	rng := rand.New(rand.NewPCG(1, 2))
	f.service.random = rng.Uint64N
	st := f.service.catalog.known("movies").state.Load()
	drawn := map[string]int{}
	const draws, sample = 100, 100
	for range draws {
		queries, err := f.service.draw(t.Context(), st, nil, sample)
		if err != nil || len(queries) != sample {
			t.Fatalf("%d rows, %v", len(queries), err)
		}
		seen := map[string]bool{}
		for _, q := range queries {
			id := q.id
			if id == "" {
				row, err := st.view.Row(t.Context(), q.at)
				if err != nil {
					t.Fatal(err)
				}
				id = row.ID
			}
			if op, live := f.writer.rows[id]; !live || !slices.Equal(op.Vector, q.vector) || seen[id] {
				t.Fatalf("%q is drawn with %v; live %v, seen %v", id, q.vector, live, seen[id])
			}
			seen[id] = true
			drawn[id]++
		}
	}
	expected := float64(draws*sample) / float64(len(f.writer.rows))
	for id := range f.writer.rows {
		if off := math.Abs(float64(drawn[id]) - expected); off > 6*math.Sqrt(expected) {
			t.Errorf("%q is drawn %d times, want about %.0f", id, drawn[id], expected)
		}
	}
}

func TestRecallOfLittle(t *testing.T) {
	f := newFixture(t, 2, "l2")
	for _, want := range []int{0, 1} {
		var got RecallResponse
		f.call("POST", "/collections/movies/recall", "", &got)
		if got.Recall != 1 || got.Sampled != want || got.K != 10 || got.TargetRecall != 0.95 {
			t.Errorf("of %d rows: %+v, want recall 1: nothing can be missed", want, got)
		}
		f.writer.upsert("a", []float32{1, 2}, "")
	}
	for body, code := range map[string]string{
		`{"sample":0}`:               "out_of_range",
		`{"sample":1001}`:            "out_of_range",
		`{"sample":1000,"k":101}`:    "out_of_range",
		`{"k":0}`:                    "invalid_k",
		`{"target_recall":2}`:        "out_of_range",
		`{"consistency":"whatever"}`: "unknown_consistency",
	} {
		var got httpapi.Error
		if status, _ := f.call("POST", "/collections/movies/recall", body, &got); status != http.StatusUnprocessableEntity || got.Code != code {
			t.Errorf("%s: %d %s, want 422 %s", body, status, got.Code, code)
		}
	}
}

// TestLiveRecall: a search that is chosen is repeated exactly, in the
// background, if that costs no read of the store.
func TestLiveRecall(t *testing.T) {
	f := recallFixture(t)
	registry := prometheus.NewRegistry()
	s := f.reconfigure(func(cfg *Config) { cfg.Registerer = registry })
	chosen := uint64(0)
	s.random = func(uint64) uint64 { return chosen }
	search := func(options string) {
		f.call("POST", "/collections/movies/search", fmt.Sprintf(`{"vector":%s,"nprobe":1%s}`, vectorJSONOf(normal(rand.New(rand.NewPCG(5, 5)), f.writer.dim, 1)), options), nil)
		s.catalog.running.Wait()
	}
	samples := func() map[string]float64 {
		t.Helper()
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]float64{}
		for _, family := range families {
			for _, m := range family.Metric {
				switch family.GetName() {
				case "akidb_search_recall_samples_total":
					out[m.Label[0].GetValue()] = m.Counter.GetValue()
				case "akidb_search_recall":
					out["mean"] = m.Histogram.GetSampleSum() / float64(m.Histogram.GetSampleCount())
				}
			}
		}
		return out
	}
	search("")
	if got := samples(); got["cold"] != 1 || got["measured"] != 0 {
		t.Fatalf("%v, want one that was not measured: its vectors were not in memory", got)
	}
	search("")
	if got := samples(); got["cold"]+got["measured"] != 1 {
		t.Fatalf("%v, want no more for a while", got)
	}
	for range 3 { // an exact search has all vectors read
		f.call("POST", "/collections/movies/search", fmt.Sprintf(`{"vector":%s,"exact":true}`, vectorJSONOf(make([]float32, f.writer.dim))), nil)
	}
	for range 20 { // what is read becomes what is kept in time
		f.advance(recallApart)
		if search(""); samples()["measured"] > 0 {
			break
		}
	}
	if got := samples(); got["measured"] != 1 || got["mean"] < 0.5 {
		t.Fatalf("%v, want one that found most of the ten", got)
	}
	missed := samples()["mean"]
	st := s.catalog.known("movies").state.Load()
	s.live.measure(t.Context(), st, subject{at: segments.Location{Segment: -1}, vector: make([]float32, f.writer.dim)}, nil, 10, "approximate", nil)
	if got := samples(); got["measured"] != 2 || got["mean"] != missed/2 {
		t.Fatalf("%v, want a second that found nothing", got)
	}
	f.advance(recallApart)
	chosen = 1
	search("")
	chosen = 0
	search(`,"exact":true`)
	search(`,"group_by":"n"`)
	search(`,"score_threshold":1`)
	if got := samples(); got["measured"] != 2 {
		t.Fatalf("%v, want two: the others were not chosen, or not the index's", got)
	}
}
