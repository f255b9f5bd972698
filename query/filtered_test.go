package query

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/akidb/akidb/internal/memtable"
	"github.com/akidb/akidb/segments/ivfpq"
)

// filteredSet is rows with attributes of known selectivity, and queries:
//
//	p   random, 0 to 999
//	c   the number of the cluster the row lies in
type filteredSet struct {
	f       *fixture
	queries [][]float32
	cluster func(q []float32) int // that a vector lies in
	count   int                   // of clusters
	p, c    map[string]int        // by id
}

func (s *filteredSet) upsert(id string, v []float32, p int) {
	s.p[id], s.c[id] = p, s.cluster(v)
	s.f.writer.upsert(id, v, fmt.Sprintf(`{"p":%d,"c":%d}`, p, s.c[id]))
}

func newFilteredSet(t testing.TB, metric string, n, clusterCount, segmentCount int) *filteredSet {
	const dim = 32
	f := newFixture(t, dim, metric)
	f.writer.kind = ivfpq.IVF
	rng := rand.New(rand.NewPCG(8, 15))
	c := newClusters(rng, clusterCount, dim)
	s := &filteredSet{f: f, cluster: nearestOf(c.centres), count: clusterCount, p: map[string]int{}, c: map[string]int{}}
	for i := range n {
		s.upsert(fmt.Sprintf("id%d", i), c.draw(), rng.IntN(1000))
		if (i+1)%(n/segmentCount) == 0 {
			f.writer.flush()
		}
	}
	for range 30 {
		s.queries = append(s.queries, c.draw())
	}
	return s
}

// newSIFTSet is SIFT descriptors around as many of them as there are to be
// clusters. It lies in AKIDB_TEST_SIFT_DIR, or beside the repository.
func newSIFTSet(t *testing.T, clusterCount int) *filteredSet {
	dir := os.Getenv("AKIDB_TEST_SIFT_DIR")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data", "sift10k")
	}
	base, err := os.ReadFile(filepath.Join(dir, "base.fvecs"))
	if err != nil {
		t.Skipf("AKIDB_TEST_SIFT_DIR is not set and SIFT10k is not beside the repository: %v", err)
	}
	const dim = 128
	vectors := func(b []byte) (out [][]float32) {
		for ; len(b) > 0; b = b[4+4*dim:] {
			if n := binary.LittleEndian.Uint32(b); n != dim {
				t.Fatalf("a vector of %d dimensions, want %d", n, dim)
			}
			v := make([]float32, dim)
			for i := range v {
				v[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4+4*i:]))
			}
			out = append(out, v)
		}
		return out
	}
	queries, err := os.ReadFile(filepath.Join(dir, "query.fvecs"))
	if err != nil {
		t.Fatal(err)
	}
	rows := vectors(base)
	f := newFixture(t, dim, "l2")
	f.writer.kind = ivfpq.IVF
	rng := rand.New(rand.NewPCG(8, 15))
	s := &filteredSet{f: f, cluster: nearestOf(rows[:clusterCount]), count: clusterCount, queries: vectors(queries)[:40], p: map[string]int{}, c: map[string]int{}}
	for i, v := range rows {
		s.upsert(fmt.Sprintf("id%d", i), v, rng.IntN(1000))
	}
	f.writer.flush()
	return s
}

// nearestOf tells which of some centres a vector is nearest to.
func nearestOf(centres [][]float32) func(v []float32) int {
	return func(v []float32) int {
		best, least := 0, math.Inf(1)
		for i, centre := range centres {
			d := 0.0
			for j := range v {
				d += float64(v[j]-centre[j]) * float64(v[j]-centre[j])
			}
			if d < least {
				best, least = i, d
			}
		}
		return best
	}
}

// filterFor is a filter for one query, as text and as a test.
type filterFor func(q []float32) (text string, keep func(memtable.Op) bool)

// measured is the mean of some searches.
type measured struct {
	recall  float64
	work    float64 // codes scanned, and rows scored as so many codes
	matches float64
}

func (s *filteredSet) measure(t testing.TB, filter filterFor) (m measured) {
	t.Helper()
	hits, total := 0, 0
	for _, q := range s.queries {
		body, keep := "", func(memtable.Op) bool { return true }
		if filter != nil {
			var text string
			text, keep = filter(q)
			body = `,"filter":` + text
		}
		want := s.f.writer.nearest(q, math.MaxInt, keep)
		m.matches += float64(len(want)) / float64(len(s.queries))
		want = want[:min(len(want), 10)]
		var got searchAnswer
		s.f.call("POST", "/collections/movies/search", fmt.Sprintf(`{"vector":%s,"include":[]%s}`, vectorJSONOf(q), body), &got)
		if len(got.Results) != len(want) {
			t.Fatalf("%d results, want %d", len(got.Results), len(want))
		}
		for _, g := range got.Results {
			if op := s.f.writer.rows[g.ID]; !keep(op) || g.Score != scoreOf(s.f.writer.metric, q, op.Vector) {
				t.Fatalf("result %q with %v is not a matching row", g.ID, g.Score)
			}
			if slices.ContainsFunc(want, func(w hit) bool { return w.id == g.ID }) {
				hits++
			}
		}
		total += len(want)
		m.work += float64(got.Usage.CodesScanned+rowWork*got.Usage.Reranked) / float64(len(s.queries))
	}
	m.recall = float64(hits) / float64(total)
	return m
}

func (s *filteredSet) random(permille int) filterFor {
	return func([]float32) (string, func(memtable.Op) bool) {
		return fmt.Sprintf(`{"must":{"key":"p","range":{"lt":%d}}}`, permille), func(op memtable.Op) bool { return s.p[op.ID] < permille }
	}
}

// clusters matches the rows of so many clusters: those around the query's own in
// number, which is a correlated filter, or others only.
func (s *filteredSet) clusters(count int, own bool) filterFor {
	return func(q []float32) (string, func(memtable.Op) bool) {
		first := s.cluster(q)
		if !own {
			first += s.count/2 - count/2
		}
		in := map[int]bool{}
		text := ""
		for i := range count {
			c := (first + i) % s.count
			in[c] = true
			text += fmt.Sprintf(",%d", c)
		}
		return fmt.Sprintf(`{"must":{"key":"c","match":{"any":[%s]}}}`, text[1:]), func(op memtable.Op) bool { return in[s.c[op.ID]] }
	}
}

// rowWork is how many codes can be scanned in the time that one row takes to be read
// from memory and scored: 0.8 µs and 5 ns.
const rowWork = 160

// TestFilteredSearch holds recall, numbers of results and work to their floors for
// filters of every selectivity that have nothing to do with where rows lie, that
// match near rows, and that match far ones only.
func TestFilteredSearch(t *testing.T) {
	t.Run("sift10k", func(t *testing.T) { newSIFTSet(t, 100).check(t) })
	t.Run("l2", func(t *testing.T) { newFilteredSet(t, "l2", 24000, 100, 3).check(t) })
}

func (s *filteredSet) check(t *testing.T) {
	all := s.measure(t, nil)
	t.Logf("unfiltered: recall %.3f, work %.0f", all.recall, all.work)
	for name, filter := range map[string]filterFor{
		"random 500": s.random(500), "random 100": s.random(100), "random 20": s.random(20), "random 10": s.random(10), "random 1": s.random(1),
		"near 500": s.clusters(50, true), "near 100": s.clusters(10, true), "near 20": s.clusters(2, true), "near 10": s.clusters(1, true),
		"far 500": s.clusters(50, false), "far 100": s.clusters(10, false), "far 20": s.clusters(2, false), "far 10": s.clusters(1, false),
	} {
		m := s.measure(t, filter)
		t.Logf("%-11s of 1000: recall %.3f, work %6.0f, %.2f times unfiltered", name, m.recall, m.work, m.work/all.work)
		floor := 0.95
		if strings.HasPrefix(name, "far") {
			floor = 0.90 // of 31 lists one is read without a filter: four times as many are not enough for all
		}
		if m.recall < floor {
			t.Errorf("%s of 1000: recall@10 is %.3f, want %v", name, m.recall, floor)
		}
		// Nobody has to do more than to score what matches.
		if most := max(4*all.work, rowWork*m.matches); m.work > most+1 { // both are sums of floats
			t.Errorf("%s of 1000: work is %.0f codes, want at most %.0f: a search without a filter takes %.0f, and %.0f rows match", name, m.work, most, all.work, m.matches)
		}
	}
}
