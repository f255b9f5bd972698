package query

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"

	"github.com/akidb/akidb/cache"
	"github.com/akidb/akidb/internal/httpapi"
)

// sameHits compares what two ways of searching found, contents included.
func sameHits(got, want []hit) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d results, want %d", len(got), len(want))
	}
	for i, g := range got {
		w := want[i]
		if g.id != w.id || g.distance != w.distance || string(g.metadata) != string(w.metadata) || g.version != w.version || !slices.Equal(g.vector, w.vector) {
			return fmt.Errorf("result %d is %q at %v (%s, %d), want %q at %v (%s, %d)", i, g.id, g.distance, g.metadata, g.version, w.id, w.distance, w.metadata, w.version)
		}
	}
	return nil
}

// compare searches one state with the pods' help and alone.
func (f *podsFixture) compare(s *Service, st *state, searches []search) error {
	var used cache.Usage
	got, runs, err := s.searchPods(f.t.Context(), st, searches, &used)
	if err != nil {
		return err
	}
	want, alone, err := s.searchAll(f.t.Context(), st, searches)
	if err != nil {
		return err
	}
	for i := range searches {
		if err := sameHits(shown(got[i], searches[i].want), shown(want[i], searches[i].want)); err != nil {
			return fmt.Errorf("search %d: %w", i, err)
		}
		if runs[i].usage != alone[i].usage && searches[i].exact {
			return fmt.Errorf("search %d: usage %+v, alone %+v", i, runs[i].usage, alone[i].usage)
		}
	}
	return nil
}

// shown is what a client sees of results.
func shown(hits []hit, want included) []hit {
	out := make([]hit, len(hits))
	for i, h := range hits {
		out[i] = hit{id: h.id, distance: h.distance}
		if want.metadata {
			out[i].metadata = h.metadata
		}
		if want.vector {
			out[i].vector = h.vector
		}
		if want.version {
			out[i].version = h.version
		}
	}
	return out
}

func (f *podsFixture) draw(t *rapid.T, rng *rand.Rand) search {
	q := search{
		vector: normal(rng, f.writer.dim, 1), k: rapid.SampledFrom([]int{1, 3, 10, 500}).Draw(t, "k"), exact: true, targetRecall: 0.95,
		want: included{metadata: rapid.Bool().Draw(t, "metadata"), vector: rapid.Bool().Draw(t, "vector"), version: rapid.Bool().Draw(t, "version")},
	}
	if rapid.Bool().Draw(t, "near") {
		threshold := float32(rng.NormFloat64())
		q.threshold = &threshold
	}
	if rapid.Bool().Draw(t, "filtered") {
		text := fmt.Sprintf(`{"must":[{"key":"n","match":{"value":%d}}]}`, rng.IntN(10))
		var err error
		if q.filter, err = f.services[0].parseFilter(jsontext.Value(text)); err != nil {
			t.Fatal(err)
		}
		q.exact = rapid.Bool().Draw(t, "exact") // few match: every one is scored
	}
	return q
}

// faults are what may happen to a question or its answer.
var faults = map[string]func(n *podNet){
	"none": func(*podNet) {},
	"away": func(n *podNet) { n.before = func(context.Context, string) error { return errNobody } },
	"refuses": func(n *podNet) {
		n.before = func(context.Context, string) error { return &RefusedError{Status: 503, Code: "overloaded"} }
	},
	"dies mid-answer": func(n *podNet) {
		n.spoil = func(_ string, _, answer []byte, err error) ([]byte, error) { return answer[:len(answer)/2], err }
	},
	"lies": func(n *podNet) {
		n.spoil = func(_ string, _, answer []byte, err error) ([]byte, error) {
			if len(answer) > 0 {
				answer[len(answer)/3] ^= 4
			}
			return answer, err
		}
	},
	"answers something else": func(n *podNet) {
		n.spoil = func(_ string, question, answer []byte, err error) ([]byte, error) {
			a, derr := decodeAnswer(answer)
			if derr != nil {
				return answer, err
			}
			a.question++
			return a.encode(), err
		}
	},
	"answers too little": func(n *podNet) {
		n.spoil = func(_ string, question, answer []byte, err error) ([]byte, error) {
			a, derr := decodeAnswer(answer)
			if derr != nil {
				return answer, err
			}
			a.found = a.found[1:]
			return a.encode(), err
		}
	},
	"hangs": func(n *podNet) {
		n.hedge = true
		n.before = func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }
	},
	"slow, and answers all the same": func(n *podNet) { n.hedge = true },
	"drains": func(n *podNet) {
		for addr := range n.routers {
			delete(n.routers, addr)
			break
		}
	},
}

// TestPodsAnswerAsOneDoes: whatever is in the collection, however old the
// state, and whatever becomes of the questions, an answer with the help of
// others is the answer without.
func TestPodsAnswerAsOneDoes(t *testing.T) {
	helped := 0
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		rng := rand.New(rand.NewPCG(seed, 1))
		f := newPods(t, rapid.IntRange(3, 6).Draw(rt, "pods"), 3, rapid.SampledFrom([]string{"l2", "cosine", "dot"}).Draw(rt, "metric"))
		f.fill(rng, rapid.IntRange(1, 6).Draw(rt, "segments"), 40)
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			s := f.services[rng.IntN(len(f.services))]
			switch rng.IntN(6) {
			case 0:
				f.write(rng, 1+rng.IntN(30), rng.IntN(200))
			case 1:
				f.writer.delete(fmt.Sprintf("r%05d", rng.IntN(240)))
			case 2:
				f.writer.flush()
			case 3: // some pods come to know it before the others do
				f.stateOf(s, Strong)
			default:
				fault := rapid.SampledFrom(slicesOfKeys(faults)).Draw(rt, "fault")
				f.net.mu.Lock()
				routers := f.net.routers
				f.net.routers = map[string]*httpapi.Router{}
				for addr, r := range routers {
					f.net.routers[addr] = r
				}
				faults[fault](f.net)
				asked := f.net.asked
				f.net.mu.Unlock()
				level := rapid.SampledFrom([]Consistency{Eventual, Latest, Strong}).Draw(rt, "level")
				_, st := f.stateOf(s, level)
				var batch []search
				for range rapid.IntRange(1, 4).Draw(rt, "batch") {
					batch = append(batch, f.draw(rt, rng))
				}
				if err := f.compare(s, st, batch); err != nil {
					rt.Fatalf("%s: %v", fault, err)
				}
				f.net.mu.Lock()
				if fault == "none" {
					helped += f.net.asked - asked
				}
				f.net.before, f.net.spoil, f.net.hedge, f.net.routers = nil, nil, false, routers
				f.net.mu.Unlock()
				f.look()
			}
		}
	})
	if helped == 0 {
		t.Error("no pod was ever asked")
	}
}

func slicesOfKeys[V any](m map[string]V) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// TestForgottenMasksAreNoticed plants the bug the comparison is there for: rows
// that the tail replaces are not said to the others.
func TestForgottenMasksAreNoticed(t *testing.T) {
	f := newPods(t, 4, 3, "l2")
	rng := rand.New(rand.NewPCG(1, 2))
	f.fill(rng, 6, 40)
	f.write(rng, 240, 0) // all of them, anew
	s := f.services[0]
	_, st := f.stateOf(s, Latest)
	q := []search{{vector: normal(rng, 3, 1), k: 20, exact: true, targetRecall: 1}}
	if err := f.compare(s, st, q); err != nil {
		t.Fatal(err)
	}
	here, away := s.fleet.divide(st)
	if len(away) == 0 {
		t.Fatalf("all of %d segments are searched here", len(here))
	}
	forgetful := *st
	forgetful.live = slices.Clone(st.live)
	for _, e := range away {
		for _, i := range e.segments {
			forgetful.live[i] = &liveRows{rows: st.live[i].rows, deleted: st.live[i].deleted, masked: roaring.New()}
		}
	}
	var used cache.Usage
	got, _, err := s.searchPods(t.Context(), &forgetful, q, &used)
	if err != nil {
		t.Fatal(err)
	}
	want, _, err := s.searchAll(t.Context(), st, q)
	if err != nil {
		t.Fatal(err)
	}
	if sameHits(shown(got[0], q[0].want), shown(want[0], q[0].want)) == nil {
		t.Error("masks were forgotten and nobody noticed")
	}
}

// TestApproximateSearchesThroughPods: as good as alone, and never a row that is
// not there.
func TestApproximateSearchesThroughPods(t *testing.T) {
	f := newPods(t, 4, 8, "l2")
	rng := rand.New(rand.NewPCG(3, 4))
	f.fill(rng, 6, 300)
	for i := range 100 {
		f.writer.delete(fmt.Sprintf("r%05d", i*7))
	}
	s := f.services[0]
	_, st := f.stateOf(s, Latest)
	if here, away := s.fleet.divide(st); len(away) < 2 {
		t.Fatalf("segments %v are searched here, which leaves too little", here)
	}
	found, wanted := 0, 0
	for range 50 {
		q := search{vector: normal(rng, 8, 1), k: 10, targetRecall: 0.95}
		var used cache.Usage
		got, runs, err := s.searchPods(t.Context(), st, []search{q}, &used)
		if err != nil {
			t.Fatal(err)
		}
		want := f.writer.nearest(q.vector, q.k, nil)
		near := map[string]bool{}
		for _, h := range want {
			near[h.id] = true
		}
		for _, h := range got[0] {
			op, live := f.writer.rows[h.id]
			if !live || scoreOf(f.writer.metric, q.vector, op.Vector) != runs[0].metric.ScoreOf(h.distance) {
				t.Fatalf("%q is at %v; live: %v", h.id, h.distance, live)
			}
			if near[h.id] {
				found++
			}
		}
		wanted += len(want)
	}
	if recall := float64(found) / float64(wanted); recall < 0.95 {
		t.Errorf("recall is %.3f, want 0.95", recall)
	}
	if f.net.asked == 0 {
		t.Error("no pod was asked")
	}
}

// TestEverySegmentIsSearchedOnce, by an owner.
func TestEverySegmentIsSearchedOnce(t *testing.T) {
	f := newPods(t, 5, 3, "l2")
	f.fill(rand.New(rand.NewPCG(5, 6)), 8, 20)
	for _, s := range f.services {
		_, st := f.stateOf(s, Latest)
		here, away := s.fleet.divide(st)
		got := slices.Clone(here)
		for _, e := range away {
			for _, i := range e.segments {
				owners, own := s.fleet.members.Ring().Owners("ID1", st.view.Segments[i].Segment().ID)
				if own || !slices.Contains(owners[:], e.peer) {
					t.Errorf("%s is asked for segment %d, which is not its own", e.peer.Addr, i)
				}
			}
			got = append(got, e.segments...)
		}
		slices.Sort(got)
		if want := []int{0, 1, 2, 3, 4, 5, 6, 7}; !slices.Equal(got, want) {
			t.Errorf("segments %v are searched, want %v", got, want)
		}
	}
	// The busier of two owners is left alone.
	s := f.services[0]
	_, st := f.stateOf(s, Latest)
	_, away := s.fleet.divide(st)
	busy := away[0].peer
	busy.Outstanding.Add(5)
	_, away = s.fleet.divide(st)
	for _, e := range away {
		if e.peer == busy {
			t.Errorf("%s is busy and asked for %v", busy.Addr, e.segments)
		}
	}
}

func TestTwoPodsAskNobody(t *testing.T) {
	f := newPods(t, 2, 3, "l2")
	rng := rand.New(rand.NewPCG(5, 6))
	f.fill(rng, 4, 20)
	_, st := f.stateOf(f.services[0], Latest)
	if err := f.compare(f.services[0], st, []search{{vector: normal(rng, 3, 1), k: 5, exact: true, targetRecall: 1}}); err != nil {
		t.Fatal(err)
	}
	if f.net.asked != 0 {
		t.Errorf("%d questions", f.net.asked)
	}
}

// TestAPeerThatGoesIsNotWaitedFor: neither its deadline nor a hedge ends the
// wait, but that it does not answer when it is asked whether it is there.
func TestAPeerThatGoesIsNotWaitedFor(t *testing.T) {
	f := newPods(t, 4, 3, "l2")
	rng := rand.New(rand.NewPCG(7, 8))
	f.fill(rng, 8, 20)
	s := f.services[0]
	_, st := f.stateOf(s, Latest)
	_, away := s.fleet.divide(st)
	asked := make(chan string, 16)
	f.net.before = func(ctx context.Context, to string) error {
		asked <- to
		<-ctx.Done()
		return ctx.Err()
	}
	done := make(chan error)
	go func() {
		done <- f.compare(s, st, []search{{vector: normal(rng, 3, 1), k: 5, exact: true, targetRecall: 1}})
	}()
	for range away {
		to := <-asked
		f.net.mu.Lock()
		delete(f.net.routers, to)
		f.net.mu.Unlock()
	}
	s.fleet.members.Look(t.Context())
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n := counted(t, s.fanout.FellBack("away")); int(n) != len(away) {
		t.Errorf("%v parts were done here, want %d", n, len(away))
	}
}

// TestAPeerThatWasOutrunIsTold, and stops.
func TestAPeerThatWasOutrunIsTold(t *testing.T) {
	f := newPods(t, 4, 3, "l2")
	rng := rand.New(rand.NewPCG(7, 8))
	f.fill(rng, 8, 20)
	s := f.services[0]
	_, st := f.stateOf(s, Latest)
	_, away := s.fleet.divide(st)
	f.net.gaveUp, f.net.hedge = make(chan uint64, 16), true
	f.net.before = func(ctx context.Context, _ string) error { <-ctx.Done(); return ctx.Err() }
	if err := f.compare(s, st, []search{{vector: normal(rng, 3, 1), k: 5, exact: true, targetRecall: 1}}); err != nil {
		t.Fatal(err)
	}
	told := map[uint64]bool{}
	for range away {
		told[<-f.net.gaveUp] = true
	}
	if len(told) != len(away) {
		t.Errorf("%d questions were given up, want %d", len(told), len(away))
	}
	// What that does to one who works on it.
	peer := f.services[1].fleet
	working, cancel := context.WithCancel(t.Context())
	end := peer.begin(7, cancel)
	if err := f.net.GiveUp(t.Context(), "pod-1:80", 8); err != nil || working.Err() != nil {
		t.Errorf("%v, %v after another question was given up", err, working.Err())
	}
	if err := f.net.GiveUp(t.Context(), "pod-1:80", 7); err != nil || working.Err() == nil {
		t.Errorf("%v, and the work goes on", err)
	}
	end()
	if len(peer.working) != 0 {
		t.Errorf("%d questions are worked on", len(peer.working))
	}
}

// TestUsageAndExplanationOfPods: what others did is in the answer.
func TestUsageAndExplanationOfPods(t *testing.T) {
	f := newPods(t, 4, 3, "l2")
	rng := rand.New(rand.NewPCG(9, 10))
	f.fill(rng, 8, 20)
	f.router = f.net.routers["pod-2:80"]
	var got searchAnswer
	if status, _ := f.call("POST", "/collections/movies/search", `{"vector":[1,2,3],"k":3,"exact":true,"explain":true}`, &got); status != 200 {
		t.Fatal(status)
	}
	wantHits(t, got, f.writer.nearest([]float32{1, 2, 3}, 3, nil))
	if got.Usage.Segments != 8 || got.Usage.Reranked != 160 {
		t.Errorf("usage %+v, want 8 segments and 160 rows", got.Usage)
	}
	named := 0
	for _, line := range got.Explain {
		if line.Name == "pod" && strings.HasPrefix(line.Detail, "pod-") {
			named++
		}
	}
	if named == 0 || named != f.net.asked {
		t.Errorf("%d pods are named of %d asked: %+v", named, f.net.asked, got.Explain)
	}
	if got.Usage.StoreGets == 0 {
		t.Error("nothing was read from the store, by nobody")
	}
}

// TestEveryFieldOfASearchTravels: a field that is added to search has to reach
// the other pods too, or they answer another question.
func TestEveryFieldOfASearchTravels(t *testing.T) {
	f := newPods(t, 3, 2, "l2")
	s := f.services[0]
	filter, err := s.parseFilter(jsontext.Value(`{"must":[{"key":"n","match":{"value":1}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	threshold := float32(3)
	want := search{vector: []float32{1, 2}, k: 7, spare: 1, filter: filter, exact: true, targetRecall: 0.5, nprobe: 9, threshold: &threshold, want: included{true, true, true}, cold: true}
	for i := range reflect.TypeOf(want).NumField() {
		if reflect.ValueOf(want).Field(i).IsZero() {
			t.Errorf("field %s of a search is not tried", reflect.TypeOf(want).Field(i).Name)
		}
	}
	for i := range reflect.TypeOf(want.want).NumField() {
		if reflect.ValueOf(want.want).Field(i).IsZero() {
			t.Errorf("field %s of what is included is not tried", reflect.TypeOf(want.want).Field(i).Name)
		}
	}
	q := &question{version: 1, commit: "c", remaining: time.Second, dim: 2, searches: []askedSearch{want.asked()}}
	back, err := decodeQuestion(q.encode())
	if err != nil {
		t.Fatal(err)
	}
	got, err := s.search(&back.searches[0])
	if err != nil {
		t.Fatal(err)
	}
	if got.filter.digest != filter.digest {
		t.Error("another filter arrived")
	}
	got.filter = filter
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v arrived, %+v was sent", got, want)
	}
}

// TestWhatAPodIsNotAsked: questions that no pod asks are refused, and answered
// in no other way.
func TestWhatAPodIsNotAsked(t *testing.T) {
	f := newPods(t, 3, 2, "l2")
	rng := rand.New(rand.NewPCG(1, 1))
	f.fill(rng, 2, 20)
	_, st := f.stateOf(f.services[0], Latest)
	good := func() *question {
		q, err := questionOf(t.Context(), st, []int{0}, []search{{vector: []float32{1, 2}, k: 3, targetRecall: 1}})
		if err != nil {
			t.Fatal(err)
		}
		return q
	}
	rows := roaring.BitmapOf(20)
	past, err := rows.ToBytes()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		status int
		spoil  func(q *question)
	}{
		"as it is":           {0, func(*question) {}},
		"no such version":    {409, func(q *question) { q.version += 100 }},
		"another commit":     {409, func(q *question) { q.commit = "other" }},
		"no such segment":    {409, func(q *question) { q.segments[0].id = "other" }},
		"a segment twice":    {409, func(q *question) { q.segments = append(q.segments, q.segments[0]) }},
		"other dimensions":   {409, func(q *question) { q.dim, q.searches = 3, nil }},
		"masks past the end": {400, func(q *question) { q.segments[0].masked = past }},
		"masks of noise":     {400, func(q *question) { q.segments[0].masked = []byte("noise") }},
		"k of nothing":       {422, func(q *question) { q.searches[0].k = 0 }},
		"recall of nothing":  {422, func(q *question) { q.searches[0].targetRecall = 0 }},
		"a broken filter":    {400, func(q *question) { q.searches[0].filter = []byte(`{"must":7}`) }},
		"no time":            {503, func(q *question) { q.remaining = 0 }},
	} {
		q := good()
		c.spoil(q)
		_, err := f.net.Search(t.Context(), "pod-1:80", "ID1", q.encode())
		refused, _ := errors.AsType[*RefusedError](err)
		if c.status == 0 && err != nil || c.status != 0 && (refused == nil || refused.Status != c.status) {
			t.Errorf("%s: %v, want status %d", name, err, c.status)
		}
	}
	if _, err := f.net.Search(t.Context(), "pod-1:80", "movies", good().encode()); err == nil {
		t.Error("a collection was found by its name, which may be another's by now")
	}
}

// TestOlderAndNewerVersions: a pod answers on the version it is asked about,
// whichever it has.
func TestOlderAndNewerVersions(t *testing.T) {
	f := newPods(t, 4, 3, "l2")
	rng := rand.New(rand.NewPCG(2, 2))
	f.fill(rng, 6, 20)
	old, fresh := f.services[0], f.services[1]
	_, before := f.stateOf(old, Latest)
	for _, s := range f.services {
		f.stateOf(s, Latest)
	}
	f.writer.delete("r00001")
	f.write(rng, 20, 10)
	f.writer.flush()
	_, after := f.stateOf(fresh, Strong)
	if before.snapshot().Version == after.snapshot().Version {
		t.Fatal("one version")
	}
	q := []search{{vector: normal(rng, 3, 1), k: 30, exact: true, targetRecall: 1}}
	for name, c := range map[string]struct {
		s  *Service
		st *state
	}{"of those behind": {fresh, after}, "of those ahead": {old, before}} {
		if err := f.compare(c.s, c.st, q); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if n := counted(t, c.s.fanout.Asked("refused")); n > 0 {
			t.Errorf("%s: %v questions were refused", name, n)
		}
	}
}
