package query

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/akidb/akidb/cache"
	"github.com/akidb/akidb/internal/telemetry"
	"github.com/akidb/akidb/query/pods"
	"github.com/akidb/akidb/segments/ivfpq"
)

// Peers is how a query process reaches the others. All methods are safe for
// concurrent use.
type Peers interface {
	// Pod asks the process at an address about itself.
	Pod(ctx context.Context, addr string) (pods.Info, error)
	// Search sends a question about a collection and returns the answer. A pod
	// that will not answer is a *RefusedError.
	Search(ctx context.Context, addr, collection string, question []byte) ([]byte, error)
	// GiveUp says that nobody waits for the answer to a question any more.
	GiveUp(ctx context.Context, addr string, question uint64) error
	// Hot asks what is in memory there, hottest first.
	Hot(ctx context.Context, addr string) ([]HotSegment, error)
	// HandOver says that this process drains, and what the other is to load.
	HandOver(ctx context.Context, addr string, what *HandOver) error
}

// RefusedError: a pod was reached and does not do what it was asked.
type RefusedError struct {
	Status int // of HTTP
	Code   string
}

func (e *RefusedError) Error() string { return fmt.Sprintf("refused with %d %s", e.Status, e.Code) }

// PodsConfig configures a Service that works with others.
type PodsConfig struct {
	Self      pods.Info // its state is the service's to say
	Peers     Peers
	Addresses func(context.Context) ([]string, error) // see [pods.Config]
	// Every is how often peers are asked whether they are there. 0 means 1 s.
	Every time.Duration
	// After is the clock of hedges: a channel that receives once so much time
	// has passed, and what ends the wait early. Nil means timers.
	After func(time.Duration) (<-chan time.Time, func())
}

// fleet is the pods that a service works with. Nil is a service on its own.
type fleet struct {
	service *Service
	cfg     PodsConfig
	members *pods.Members
	counts  *telemetry.Fanout
	hedges  hedges

	mu      sync.Mutex
	working map[uint64]context.CancelFunc // on questions of others, by number
}

func newFleet(s *Service, cfg PodsConfig) *fleet {
	if cfg.After == nil {
		cfg.After = func(d time.Duration) (<-chan time.Time, func()) {
			t := time.NewTimer(d)
			return t.C, func() { t.Stop() }
		}
	}
	f := &fleet{service: s, cfg: cfg, counts: s.fanout, hedges: hedges{tokens: hedgeBurst}, working: map[uint64]context.CancelFunc{}}
	cfg.Self.State = pods.Starting
	f.members = pods.New(pods.Config{
		Self: cfg.Self, Addresses: cfg.Addresses, Ask: cfg.Peers.Pod, Every: cfg.Every,
		Changed: s.fanout.Ready, Logger: s.cfg.Logger,
	})
	return f
}

// owns reports whether a segment is to be kept in memory here.
func (f *fleet) owns(collection, segment string) bool {
	return f == nil || f.members.Ring().Own(collection, segment)
}

// errand is a part of some searches that a peer is asked for.
type errand struct {
	peer     *pods.Peer
	segments []int
	rows     uint64
}

// divide says which segments of a state are searched here, and which by whom.
// Those without an index are small and cheap to have everywhere.
func (f *fleet) divide(st *state) (here []int, away []*errand) {
	ring := f.members.Ring()
	collection := st.collection().ID
	type shared struct {
		segment int
		owners  [pods.Owners]*pods.Peer
	}
	var others []shared
	for i, seg := range st.view.Segments {
		owners, own := ring.Owners(collection, seg.Segment().ID)
		if own || seg.Kind() == ivfpq.Exact {
			here = append(here, i)
			continue
		}
		others = append(others, shared{i, owners})
	}
	rows := func(i int) uint64 { return uint64(st.view.Segments[i].Rows()) }
	slices.SortStableFunc(others, func(a, b shared) int { return cmp.Compare(rows(b.segment), rows(a.segment)) })
	errands := map[*pods.Peer]*errand{}
	load := func(p *pods.Peer) (int64, uint64) {
		if e := errands[p]; e != nil {
			return p.Outstanding.Load(), e.rows
		}
		return p.Outstanding.Load(), 0
	}
	for _, s := range others {
		// The owner that has less to do; of two that have the same, the one that
		// gets less of this search; else the first.
		to := s.owners[0]
		n0, rows0 := load(s.owners[0])
		n1, rows1 := load(s.owners[1])
		if n1 < n0 || n1 == n0 && rows1 < rows0 {
			to = s.owners[1]
		}
		e := errands[to]
		if e == nil {
			e = &errand{peer: to}
			errands[to], away = e, append(away, e)
		}
		e.segments, e.rows = append(e.segments, s.segment), e.rows+rows(s.segment)
	}
	for _, e := range away {
		slices.Sort(e.segments)
	}
	return here, away
}

// foundPart is what the searches of a batch found in a part of a state.
type foundPart struct {
	hits   [][]hit
	usages []usage
	stages [][]stage
}

// searchPods is searchAll with the help of other pods: every segment is searched
// once, here or by one that keeps it in memory, or the search fails. What others
// took from the store is added to used.
func (s *Service) searchPods(ctx context.Context, st *state, searches []search, used *cache.Usage) ([][]hit, []*run, error) {
	if s.fleet == nil {
		return s.searchAll(ctx, st, searches)
	}
	here, away := s.fleet.divide(st)
	if len(away) == 0 {
		return s.searchAll(ctx, st, searches)
	}
	began := s.cfg.Now()
	parts := make([]*foundPart, len(away))
	var hits [][]hit
	var runs []*run
	g, gctx := errgroup.WithContext(ctx)
	for i, e := range away {
		g.Go(func() (err error) {
			parts[i], err = s.fleet.run(gctx, st, e, searches, used)
			return err
		})
	}
	others := func() {} // are not waited for any more
	g.Go(func() (err error) {
		if hits, runs, err = s.searchAll(gctx, st.part(here, true), searches); err == nil {
			others, err = cache.BeginWaiting(ctx)
		}
		return err
	})
	err := g.Wait()
	others()
	if err != nil {
		return nil, nil, err
	}
	s.fanout.Took(s.cfg.Now().Sub(began))
	for i := range searches {
		for _, p := range parts {
			hits[i] = append(hits[i], p.hits[i]...)
			runs[i].usage.add(p.usages[i])
			runs[i].stages = append(runs[i].stages, p.stages[i]...)
		}
		sortHits(hits[i])
		hits[i] = hits[i][:min(len(hits[i]), searches[i].k)]
	}
	return hits, runs, nil
}

// add adds what another part of a search cost.
func (u *usage) add(other usage) {
	u.Segments += other.Segments
	u.ListsProbed += other.ListsProbed
	u.CodesScanned += other.CodesScanned
	u.Reranked += other.Reranked
}

// reply is how the two ways to have an errand done end.
type reply struct {
	part *foundPart
	err  error
}

// run has an errand done: by the peer, or here if that fails, or by whoever is
// first if it takes longer than usual. What is begun here has ended when run
// returns, and a peer that was outrun is told.
func (f *fleet) run(ctx context.Context, st *state, e *errand, searches []search, used *cache.Usage) (*foundPart, error) {
	var running sync.WaitGroup
	defer running.Wait()
	own, giveUp := context.WithCancel(ctx)
	defer giveUp() // what is under way when the first one is there
	kind := kindOf(searches)
	hedge, stop := f.cfg.After(f.hedges.delay(kind))
	defer stop()
	f.hedges.asked()

	there, gone := f.ask(own, st, e, searches), e.peer.Gone()
	var here chan reply
	begun, ownErr := false, error(nil)
	begin := func(why string) {
		if begun {
			return
		}
		begun, here = true, make(chan reply, 1)
		f.counts.FellBack(why).Inc()
		running.Go(func() { here <- f.here(own, st, e, searches, why) })
	}
	for there != nil || here != nil {
		select {
		case r := <-there:
			there = nil
			result := f.judge(ctx, e, r.err)
			f.counts.Asked(result).Inc()
			if r.err == nil {
				f.hedges.took(kind, r.took)
				return r.answer.part(e, r.took, used), nil
			}
			if ctx.Err() == nil {
				begin(result)
			}
		case r := <-here:
			if r.err == nil {
				if there != nil {
					f.counts.Asked("outrun").Inc()
				}
				return r.part, nil
			}
			here, ownErr = nil, r.err // a peer that is still at it may do better
		case <-gone:
			gone = nil
			begin("away")
		case <-hedge:
			hedge = nil
			if !begun && f.hedges.afford() {
				begin("slow")
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nil, ownErr
}

// giveUpTimeout is how long it is tried to tell a peer that it was outrun.
const giveUpTimeout = time.Second

// asked is what came of a question.
type asked struct {
	answer *answered
	took   time.Duration
	err    error
}

// ask sends an errand to its peer.
func (f *fleet) ask(ctx context.Context, st *state, e *errand, searches []search) chan asked {
	done := make(chan asked, 1)
	q, err := questionOf(ctx, st, e.segments, searches)
	if err != nil {
		done <- asked{err: err}
		return done
	}
	// The searches are the request's, which may be over before the peer answers.
	collection, count, wanted := st.collection().ID, len(searches), make([]search, len(searches))
	for i, q := range searches {
		wanted[i] = search{k: q.k, want: q.want}
	}
	message, began := q.encode(), f.service.cfg.Now()
	e.peer.Outstanding.Add(1)
	go func() {
		defer e.peer.Outstanding.Add(-1)
		b, err := f.cfg.Peers.Search(ctx, e.peer.Addr, collection, message)
		if err != nil && errors.Is(ctx.Err(), context.Canceled) { // its deadline it knows itself
			ctx, cancel := context.WithTimeout(f.service.background, giveUpTimeout)
			defer cancel()
			_ = f.cfg.Peers.GiveUp(ctx, e.peer.Addr, q.number) // or it works for nothing
		}
		var a *answered
		if err == nil {
			a, err = decodeAnswer(b)
		}
		if err == nil && (a.question != sumOf(message) || a.dim != q.dim || len(a.found) != count) {
			err = fmt.Errorf("answer of %d searches in %d dimensions to another question than %d in %d: %w", len(a.found), a.dim, count, q.dim, errMalformed)
		}
		if err == nil {
			err = a.check(wanted)
		}
		done <- asked{a, f.service.cfg.Now().Sub(began), err}
	}()
	return done
}

// judge says what came of a question in a word, and has a peer that could not
// be reached be left alone.
func (f *fleet) judge(ctx context.Context, e *errand, err error) string {
	_, refused := errors.AsType[*RefusedError](err)
	switch {
	case err == nil:
		return "ok"
	case refused:
		f.service.cfg.Logger.Debug("pod does not search", "pod", e.peer.Info.Name, "err", err)
		return "refused"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case ctx.Err() != nil:
		return "canceled"
	case errors.Is(err, errMalformed):
		f.service.cfg.Logger.Warn("pod answers what cannot be read", "pod", e.peer.Info.Name, "addr", e.peer.Addr, "err", err)
		return "corrupt"
	}
	f.members.Failed(e.peer, err)
	return "failed"
}

// here does an errand in this process.
func (f *fleet) here(ctx context.Context, st *state, e *errand, searches []search, why string) reply {
	began := f.service.cfg.Now()
	hits, runs, err := f.service.searchAll(ctx, st.part(e.segments, false), searches)
	if err != nil {
		return reply{err: err}
	}
	p := &foundPart{hits: hits}
	took := f.service.cfg.Now().Sub(began)
	for _, r := range runs {
		p.usages = append(p.usages, r.usage)
		line := stage{"pod", milliseconds(took), reads{}, fmt.Sprintf("here for %s, which is %s: %d segments", e.peer.Info.Name, why, len(e.segments))}
		p.stages = append(p.stages, append([]stage{line}, belowPod(r.stages)...))
	}
	return reply{part: p}
}

// part is the answer as a part of the searches; what it took from the store is
// added to used.
func (a *answered) part(e *errand, took time.Duration, used *cache.Usage) *foundPart {
	used.Beside(a.took)
	p := &foundPart{}
	for _, f := range a.found {
		p.hits, p.usages = append(p.hits, f.hits), append(p.usages, f.usage)
		line := stage{"pod", milliseconds(took), reads{}, fmt.Sprintf("%s: %d segments", e.peer.Info.Name, len(e.segments))}
		p.stages = append(p.stages, append([]stage{line}, belowPod(f.stages)...))
	}
	return p
}

// belowPod are the stages of a part, told apart from those of this process.
func belowPod(stages []stage) []stage {
	out := slices.Clone(stages)
	for i := range out {
		out[i].Name = "pod." + out[i].Name
	}
	return out
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// The kinds of searches, whose times have little to do with each other.
const (
	approximateKind = iota
	otherKind
	kinds
)

func kindOf(searches []search) int {
	for _, q := range searches {
		if q.exact || q.filter != nil {
			return otherKind
		}
	}
	return approximateKind
}

// hedges says after how long a peer is slow, and how many may be called that. It
// is safe for concurrent use.
type hedges struct {
	mu     sync.Mutex
	recent [kinds][128]time.Duration
	count  [kinds]int
	limit  [kinds]time.Duration
	tokens float64
}

const (
	// hedgeLeast is less than what it takes to find out that a peer is slow by
	// more than chance.
	hedgeLeast = 10 * time.Millisecond
	// hedgeUnknown is the limit while too little is known, hedgeKnown how much
	// that is.
	hedgeUnknown = 200 * time.Millisecond
	hedgeKnown   = 16
	// hedgeShare is how many of the questions may be hedged, at most: where all
	// peers are slow, doing their work too makes it worse.
	hedgeShare = 0.05
	hedgeBurst = 10
)

// delay is the 99th percentile of the last answers.
func (h *hedges) delay(kind int) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.count[kind] < hedgeKnown {
		return hedgeUnknown
	}
	return max(hedgeLeast, h.limit[kind])
}

func (h *hedges) took(kind int, d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	recent := &h.recent[kind]
	recent[h.count[kind]%len(recent)] = d
	h.count[kind]++
	if n := h.count[kind]; n%hedgeKnown == 0 {
		sorted := slices.Clone(recent[:min(n, len(recent))])
		slices.Sort(sorted)
		h.limit[kind] = sorted[int(math.Ceil(0.99*float64(len(sorted))))-1]
	}
}

// asked earns a part of a hedge.
func (h *hedges) asked() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tokens = min(hedgeBurst, h.tokens+hedgeShare)
}

// afford takes a hedge, if there is one.
func (h *hedges) afford() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tokens < 1 {
		return false
	}
	h.tokens--
	return true
}
