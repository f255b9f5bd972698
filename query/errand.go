package query

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/valyala/fasthttp"

	"github.com/akidb/akidb/cache"
	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/manifest"
)

// RegisterPods adds what other query processes ask of this one. Nothing that is
// asked here is ever passed on.
func (s *Service) RegisterPods(r *httpapi.Router) {
	r.HandleRoot(fasthttp.MethodGet, "/internal/v1/pod", s.getPod)
	r.HandleRoot(fasthttp.MethodPost, "/internal/v1/collections/{c}/search", s.postQuestion)
	r.HandleRoot(fasthttp.MethodDelete, "/internal/v1/questions/{number}", s.deleteQuestion)
	r.HandleRoot(fasthttp.MethodGet, "/internal/v1/hot", s.getHot)
	r.HandleRoot(fasthttp.MethodPost, "/internal/v1/hot", s.postHot)
}

// getPod says who this is.
func (s *Service) getPod(ctx *fasthttp.RequestCtx) error {
	if s.fleet == nil {
		return notAmongPods
	}
	return httpapi.WriteJSON(ctx, fasthttp.StatusOK, s.fleet.members.Self())
}

// notAmongPods refuses what a process on its own is not asked.
var notAmongPods = httpapi.NotFound("no_such_route", "this process was not told of others").
	WithHint("start it with --peers or --peers-dns")

// questionOf puts a part of some searches in words. A search that may read the
// store so many times only asks for what is in memory elsewhere, and counts what
// it reads itself. The rows of its segments
// that the tail replaces are named: the tail itself is not part of it.
func questionOf(ctx context.Context, st *state, segments []int, searches []search) (*question, error) {
	snap := st.snapshot()
	q := &question{number: rand.Uint64(), version: snap.Version, commit: snap.CommitID, remaining: maxTimeout, memory: cache.Budgeted(ctx), dim: snap.Collection.Dimension}
	if deadline, ok := ctx.Deadline(); ok {
		q.remaining = min(maxTimeout, max(0, time.Until(deadline)))
	}
	for _, i := range segments {
		asked := askedSegment{id: st.view.Segments[i].Segment().ID}
		if masked := st.live[i].masked; masked != nil {
			var err error
			if asked.masked, err = masked.ToBytes(); err != nil {
				return nil, fmt.Errorf("encode masked rows of segment %q: %w", asked.id, err)
			}
		}
		q.segments = append(q.segments, asked)
	}
	for i := range searches {
		q.searches = append(q.searches, searches[i].asked())
	}
	return q, nil
}

// asked puts a search in words: every field of it.
func (q *search) asked() askedSearch {
	out := askedSearch{vector: q.vector, k: uint32(q.k), spare: uint32(q.spare), targetRecall: q.targetRecall, nprobe: uint32(q.nprobe)}
	if q.filter != nil {
		out.filter = q.filter.text
	}
	if q.threshold != nil {
		out.flags, out.threshold = flagThreshold, *q.threshold
	}
	for flag, set := range map[byte]bool{
		flagExact: q.exact, flagMetadata: q.want.metadata, flagVector: q.want.vector, flagVersion: q.want.version, flagCold: q.cold,
	} {
		if set {
			out.flags |= flag
		}
	}
	return out
}

// search is the inverse of asked, checked like one from a client.
func (s *Service) search(a *askedSearch) (search, error) {
	q := search{
		vector: a.vector, k: int(a.k), spare: int(min(a.spare, a.k)), exact: a.flags&flagExact != 0, targetRecall: a.targetRecall, nprobe: int(a.nprobe),
		want: included{metadata: a.flags&flagMetadata != 0, vector: a.flags&flagVector != 0, version: a.flags&flagVersion != 0},
		cold: a.flags&flagCold != 0,
	}
	if err := s.cfg.Limits.CheckK("k", q.k); err != nil {
		return q, err
	}
	if q.nprobe > maxNProbe || !(q.targetRecall > 0 && q.targetRecall <= 1) {
		return q, httpapi.Unprocessable("out_of_range", "nprobe", "nprobe is %d, target recall %v", q.nprobe, q.targetRecall)
	}
	if a.flags&flagThreshold != 0 {
		q.threshold = &a.threshold
	}
	if len(a.filter) == 0 {
		return q, nil
	}
	limits := s.filterLimits()
	limits.Clauses, limits.Depth = limits.Clauses+2, limits.Depth+1 // as of a search for groups
	var err error
	q.filter, err = newFilter(a.filter, limits)
	return q, err
}

// postQuestion searches the segments it is asked about, and no others.
func (s *Service) postQuestion(ctx *fasthttp.RequestCtx) error {
	id, err := httpapi.Param(ctx, "c")
	if err != nil {
		return err
	}
	if s.fleet == nil {
		return notAmongPods
	}
	message := ctx.Request.Body()
	q, err := decodeQuestion(message)
	if err != nil {
		return httpapi.BadRequest("malformed_query", "", "the question cannot be read: %v", err)
	}
	c, cancel := context.WithTimeout(httpapi.Context(ctx), q.remaining)
	defer cancel()
	defer s.fleet.begin(q.number, cancel)()
	a, err := s.answerPod(c, id, q)
	if err != nil {
		return asHTTP(err)
	}
	a.question = sumOf(message)
	ctx.Response.Header.SetContentType("application/octet-stream")
	ctx.Response.SetBodyRaw(a.encode())
	return nil
}

// deleteQuestion ends work on a question that nobody waits for any more. A
// connection that is closed would not be noticed.
func (s *Service) deleteQuestion(ctx *fasthttp.RequestCtx) error {
	text, err := httpapi.Param(ctx, "number")
	if err != nil {
		return err
	}
	number, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return httpapi.BadRequest("malformed_query", "number", "number is %.40q, want one", text)
	}
	if s.fleet == nil {
		return notAmongPods
	}
	s.fleet.giveUp(number)
	return httpapi.WriteJSON(ctx, fasthttp.StatusOK, struct{}{})
}

// begin notes how a question is given up until what it returns is called.
func (f *fleet) begin(number uint64, cancel context.CancelFunc) (end func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.working[number] = cancel
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.working, number)
	}
}

func (f *fleet) giveUp(number uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if cancel := f.working[number]; cancel != nil {
		cancel()
	}
}

// cannot refuses a question that this process has not what it takes to answer;
// whoever asks has to find out for itself.
func cannot(format string, args ...any) *httpapi.Error {
	return &httpapi.Error{Status: fasthttp.StatusConflict, Code: "version_not_found", Message: fmt.Sprintf(format, args...)}
}

// answerPod answers a question on exactly the version it names.
func (s *Service) answerPod(ctx context.Context, id string, q *question) (*answered, error) {
	r, err := s.catalog.find(ctx, id)
	if err != nil {
		return nil, err
	}
	if r.id != id {
		return nil, noSuchCollection(id)
	}
	st, err := r.exactly(ctx, q.version, q.commit)
	if err != nil {
		return nil, err
	}
	if got := st.collection().Dimension; got != q.dim {
		return nil, cannot("vectors have %d dimensions, those of collection %q have %d", q.dim, id, got)
	}
	part, err := st.asked(q.segments)
	if err != nil {
		return nil, err
	}
	searches := make([]search, len(q.searches))
	for i := range q.searches {
		if searches[i], err = s.search(&q.searches[i]); err != nil {
			return nil, err
		}
	}
	slot, err := s.admission.enter(ctx, id)
	if err != nil {
		return nil, err
	}
	defer slot.leave()
	s.searching.Add(1)
	defer s.searching.Add(-1)
	var used cache.Usage
	ctx = cache.WithUsage(cache.WithWaiting(ctx, slot.wait), &used)
	if q.memory {
		ctx = cache.WithBudget(ctx, &cache.Budget{})
	}
	hits, runs, err := s.searchAll(ctx, part, searches)
	if over, ok := errors.AsType[*cache.OverBudgetError](err); ok {
		return nil, cannot("it is not in memory: %v", over)
	}
	if errors.Is(err, blob.ErrNotFound) {
		return nil, cannot("version %d has lost an object: %v", q.version, err)
	}
	if err != nil {
		return nil, err
	}
	a := &answered{dim: q.dim, took: used.Taken()}
	for i, run := range runs {
		if !searches[i].want.vector {
			for j := range hits[i] {
				hits[i][j].vector = nil
			}
		}
		a.found = append(a.found, foundOne{run.usage, run.stages, hits[i]})
	}
	return a, nil
}

// exactly returns the state of one version, without a tail that matters: what
// of it is replaced, whoever asks says. Versions that were asked for are kept
// some time, because not all pods come to the next at once.
func (r *replica) exactly(ctx context.Context, version uint64, commit string) (*state, error) {
	is := func(st *state) bool { return st.snapshot().Version == version && st.snapshot().CommitID == commit }
	if st, ok := r.past.Get(version); ok && is(st) {
		return st, nil
	}
	st := r.state.Load()
	if st == nil || st.snapshot().Version < version {
		if err := r.refreshManifest(ctx); err != nil {
			return nil, err
		}
		st = r.state.Load()
	}
	if !is(st) {
		var err error
		st, _, err = r.at(ctx, moment{version: version}, r.service.cfg.Now())
		if err != nil {
			return nil, cannot("version %d cannot be opened: %v", version, err)
		}
		if !is(st) {
			return nil, cannot("version %d is of another commit than %q", version, commit)
		}
		return st, nil
	}
	st = newState(st.view, manifest.Current{}, st.verifiedAt)
	r.past.Add(version, st)
	return st, nil
}

// asked returns the segments of a question as a state.
func (s *state) asked(segments []askedSegment) (*state, error) {
	index := map[string]int{}
	for i, seg := range s.view.Segments {
		index[seg.Segment().ID] = i
	}
	of := make([]int, len(segments))
	for i, asked := range segments {
		at, known := index[asked.id]
		if !known {
			return nil, cannot("version %d has no segment %q, or it was asked for twice", s.snapshot().Version, asked.id)
		}
		delete(index, asked.id)
		of[i] = at
	}
	part := s.part(of, false)
	for i, asked := range segments {
		if len(asked.masked) == 0 {
			continue
		}
		rows, err := decodeRows(asked.masked, part.view.Segments[i].Rows())
		if err != nil {
			return nil, httpapi.BadRequest("malformed_query", "", "masked rows of segment %q: %v", asked.id, err)
		}
		part.live[i] = part.live[i].without(rows)
	}
	return part, nil
}

// decodeRows reads a set of rows of a segment.
func decodeRows(b []byte, rows uint32) (*roaring.Bitmap, error) {
	set := roaring.New()
	n, err := set.ReadFrom(bytes.NewReader(b))
	if err == nil && n != int64(len(b)) {
		err = fmt.Errorf("%d bytes, %d read", len(b), n)
	}
	if err == nil {
		err = set.Validate()
	}
	if err == nil && !set.IsEmpty() && set.Maximum() >= rows {
		err = fmt.Errorf("row %d of %d", set.Maximum(), rows)
	}
	if err != nil {
		return nil, errors.Join(errMalformed, err)
	}
	return set, nil
}

// check holds an answer against what was asked for.
func (a *answered) check(searches []search) error {
	for i, f := range a.found {
		if len(f.hits) > searches[i].k {
			return fmt.Errorf("%d results, want at most %d: %w", len(f.hits), searches[i].k, errMalformed)
		}
		for j, h := range f.hits {
			switch {
			case h.id == "":
				return fmt.Errorf("result %d has no id: %w", j, errMalformed)
			case j > 0 && f.hits[j-1].distance > h.distance:
				return fmt.Errorf("result %d is nearer than the one before: %w", j, errMalformed)
			case searches[i].want.vector != (h.vector != nil):
				return fmt.Errorf("result %d has a vector: %v: %w", j, h.vector != nil, errMalformed)
			}
		}
	}
	return nil
}
