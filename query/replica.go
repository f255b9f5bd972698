package query

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/akidb/akidb/internal/memtable"
	"github.com/akidb/akidb/internal/token"
	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/manifest"
)

// Consistency is how fresh a read has to be.
type Consistency string

const (
	// Eventual reads the newest state this process has.
	Eventual Consistency = "eventual"
	// Latest adds everything the writer acknowledged before the read arrived.
	// Where the writer cannot be asked the read is served as Eventual, and says
	// so.
	Latest Consistency = "latest"
	// Strong also reads CURRENT after the read arrived. It fails where either
	// cannot be asked.
	Strong Consistency = "strong"
	// tokenRead is what a read with a token was served as when the state at
	// hand already reflected the write.
	tokenRead Consistency = "token"
)

// Freshness is what a read asks for.
type Freshness struct {
	Consistency Consistency
	// Token, when not nil, makes the read reflect the write it came from, or
	// fail.
	Token *token.Token
	// AsOf, when not nil, asks for an earlier version instead.
	AsOf *moment
}

// Served is what a read was given. It is zero where a read failed before it had
// a state to answer from.
type Served struct {
	Consistency     Consistency
	Staleness       time.Duration // since the state was known to be complete
	ManifestVersion uint64
	// Token, given back with a read, makes that reflect no less than this one
	// did. It is zero for a read of an earlier version.
	Token token.Token
}

// refreshTimeout bounds a refresh that no request is waiting for any more.
const refreshTimeout = 30 * time.Second

// ErrNoCollection is what Writer.Tail returns for a collection the writer does
// not have.
var ErrNoCollection = errors.New("writer does not have the collection")

var (
	// errGone: there is no such collection in the store, now.
	errGone = errors.New("collection is not in the store")
	// errDropped: the collection was deleted and will never be again. It is an
	// errGone.
	errDropped = fmt.Errorf("collection was deleted: %w", errGone)
)

// errBehind: the store does not have a manifest the writer has forgotten the
// operations of.
var errBehind = errors.New("manifest is behind the writer's tail")

// head is what CURRENT named.
type head struct {
	current    manifest.Current
	snapshot   *manifest.Snapshot
	verifiedAt time.Time // when CURRENT was read
}

// replica is one collection as this process knows it: its name and manifest, and
// from when it is first used on a state, which has its segments open.
type replica struct {
	id      string
	service *Service
	head    atomic.Pointer[head] // the newest manifest that was read
	state   atomic.Pointer[state]

	mu        sync.Mutex // held while head or state is replaced
	openings  rounds
	manifests rounds
	tails     rounds

	past *lru.Cache[uint64, *state] // earlier versions that were read, by version

	// lastTier is where the last search found its data, nil before the first and
	// after the collection was placed elsewhere.
	lastTier atomic.Pointer[foundIn]
}

// acquire returns a state as fresh as asked for.
func (r *replica) acquire(ctx context.Context, want Freshness) (*state, Served, error) {
	arrived := r.service.cfg.Now()
	if want.AsOf != nil {
		return r.at(ctx, *want.AsOf, arrived)
	}
	served, err := r.freshen(ctx, want, arrived)
	if err != nil {
		return nil, Served{}, err
	}
	st := r.state.Load()
	if t := want.Token; t != nil && !covers(st, *t) {
		return nil, Served{}, tokenNotVisible(*t, st)
	}
	return st, Served{Consistency: served, Staleness: max(0, arrived.Sub(st.verifiedAt))}, nil
}

// described is acquire for a reader who looks at the manifest itself, as a
// description of the collection does: it shows the newest there is, and not a
// collection that is known to the store as dropped.
func (r *replica) described(ctx context.Context, want Freshness) (*state, Served, error) {
	st, served, err := r.acquire(ctx, want)
	if err != nil || want.AsOf != nil || want.Consistency == Eventual || served.Consistency != Eventual && st.newest <= st.snapshot().Version {
		return st, served, err
	}
	if err := r.refreshManifest(ctx); errors.Is(err, errGone) {
		return nil, Served{}, err
	} else if err != nil {
		return st, served, nil // it is what it says it is
	}
	return r.state.Load(), served, nil
}

// freshen brings the state up to what is wanted and says what it is.
func (r *replica) freshen(ctx context.Context, want Freshness, arrived time.Time) (Consistency, error) {
	if want.Token != nil {
		if st := r.state.Load(); st != nil && covers(st, *want.Token) {
			return tokenRead, nil
		}
		if want.Consistency == Eventual {
			want.Consistency = Latest
		}
	}
	switch want.Consistency {
	case Strong:
		if r.service.cfg.Writer == nil {
			return "", noWriter("consistency strong")
		}
		if err := r.refreshManifest(ctx); err != nil {
			return "", unavailable("the manifest cannot be read now", err)
		}
		if err := r.refreshTail(ctx); err != nil {
			return "", unavailable("the writer cannot be asked for its newest rows", err)
		}
		return Strong, nil
	case Latest:
		if r.service.writerUp(arrived) {
			err := r.refreshTail(ctx)
			if err == nil {
				r.service.writerAnswered()
				return Latest, nil
			}
			if !mayServeStale(err) {
				return "", err
			}
			if !errors.Is(err, ErrNoCollection) { // which it answered: it is up
				r.service.writerFailed(r.id, err)
			}
		}
		return Eventual, r.atMostStale(ctx, want, arrived)
	default:
		if r.state.Load() == nil {
			return Eventual, r.atMostStale(ctx, want, arrived)
		}
		r.refreshSoon(arrived)
		return Eventual, nil
	}
}

// atMostStale reads CURRENT when the state is older than allowed or lacks the
// write of a token, and settles for the state there is when that fails.
func (r *replica) atMostStale(ctx context.Context, want Freshness, arrived time.Time) error {
	st := r.state.Load()
	young := st != nil && arrived.Sub(st.verifiedAt) <= r.service.cfg.MaxStaleness
	if young && (want.Token == nil || covers(st, *want.Token)) {
		return nil
	}
	err := r.refreshManifest(ctx)
	if err == nil {
		return nil
	}
	if st != nil && mayServeStale(err) {
		r.service.cfg.Degraded("store", "cannot be asked for a newer state")
		return nil
	}
	return unavailable("the collection cannot be read from the store now", err)
}

// mayServeStale tells failures to reach something from answers that make an
// older state wrong.
func mayServeStale(err error) bool {
	return !errors.Is(err, errGone) && !errors.Is(err, blob.ErrCorrupt) && !errors.Is(err, manifest.ErrUnsupported) &&
		!errors.Is(err, segments.ErrUnsupported) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// refreshSoon looks for a newer manifest in the background when the state is
// older than allowed.
func (r *replica) refreshSoon(arrived time.Time) {
	if st := r.state.Load(); arrived.Sub(st.verifiedAt) <= r.service.cfg.MaxStaleness {
		return
	}
	r.service.catalog.background(func(ctx context.Context) {
		err := r.refreshManifest(ctx)
		switch {
		case err == nil, errors.Is(err, context.Canceled):
		case errors.Is(err, errGone):
			r.service.catalog.forget(r.id) // or eventual reads would answer from it for ever
		default:
			r.service.cfg.Logger.Warn("manifest not refreshed", "collection", r.id, "err", err)
		}
	})
}

// refreshManifest makes the state one of the newest manifest, read after the
// call. Callers share reads.
func (r *replica) refreshManifest(ctx context.Context) error {
	return r.manifests.do(ctx, r.service.background, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
		defer cancel()
		err := r.loadManifest(ctx)
		if err == nil {
			r.service.cfg.Degraded("store", "")
		}
		return err
	})
}

func (r *replica) loadManifest(ctx context.Context) error {
	h, err := r.readHead(ctx)
	if err != nil {
		return err
	}
	return r.open(ctx, h)
}

// readHead reads CURRENT, and the manifest it names unless that is known.
func (r *replica) readHead(ctx context.Context) (*head, error) {
	began, known, commit := r.service.cfg.Now(), r.head.Load(), ""
	if known != nil {
		commit = known.current.CommitID
	}
	snap, current, err := manifest.ReadNewer(ctx, r.service.cfg.Store, r.id, commit)
	if err != nil {
		return nil, goneIfNotFound(err)
	}
	if snap == nil {
		snap = known.snapshot
	}
	if snap.Dropped {
		return nil, errDropped
	}
	h := &head{current, snap, began}
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := r.head.Load(); now == nil || now.snapshot.Version <= snap.Version {
		r.head.Store(h)
	}
	return h, nil
}

// open makes the state one of a manifest.
func (r *replica) open(ctx context.Context, h *head) error {
	var known *segments.View
	if old := r.state.Load(); old != nil {
		if old.current.CommitID == h.current.CommitID {
			return r.replace(func(old *state) (*state, error) { return old.verified(h.verifiedAt), nil })
		}
		known = old.view
	}
	view, err := segments.OpenView(ctx, r.service.cfg.Ranges, h.snapshot, known)
	if err != nil {
		return err
	}
	return r.replace(func(old *state) (*state, error) {
		if old == nil {
			return newState(view, h.current, h.verifiedAt), nil
		}
		return old.onto(ctx, view, h.current, h.verifiedAt)
	})
}

// opened sees to it that there is a state, if only of the manifest that is
// known: it is for those who use the state to want a newer one.
func (r *replica) opened(ctx context.Context) error {
	if r.state.Load() != nil {
		return nil
	}
	return r.openings.do(ctx, r.service.background, func(ctx context.Context) error {
		if r.state.Load() != nil {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
		defer cancel()
		if h := r.head.Load(); h != nil {
			if err := r.open(ctx, h); !errors.Is(err, blob.ErrNotFound) {
				return err
			}
		}
		return r.refreshManifest(ctx)
	})
}

// snapshot is the newest manifest that is known, and when it was known to be the
// newest there is.
func (r *replica) snapshot() (*manifest.Snapshot, time.Time) {
	if st := r.state.Load(); st != nil {
		return st.snapshot(), st.verifiedAt
	}
	h := r.head.Load()
	return h.snapshot, h.verifiedAt
}

func (r *replica) name() string { return r.head.Load().snapshot.Collection.Name }

// rowCount is how many live rows the collection has, as far as is known.
func (r *replica) rowCount() uint64 {
	if st := r.state.Load(); st != nil {
		return st.rowCount()
	}
	return r.head.Load().snapshot.Rows()
}

func goneIfNotFound(err error) error {
	if errors.Is(err, blob.ErrNotFound) {
		return errGone // err is no missing object of a snapshot, and must not look like one
	}
	return err
}

// replace swaps the state for one derived from it. States derive from each
// other one at a time, because they share a memtable.
func (r *replica) replace(derive func(old *state) (*state, error)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.state.Load()
	next, err := derive(old)
	if err != nil {
		return err
	}
	r.state.Store(next)
	if old != nil && !samePlacement(old.snapshot().Placement, next.snapshot().Placement) {
		r.lastTier.Store(nil)
	}
	r.service.resident.show(next.view)
	return nil
}

// refreshTail joins everything the writer acknowledged before the call. Callers
// share requests.
func (r *replica) refreshTail(ctx context.Context) error {
	return r.tails.do(ctx, r.service.background, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
		defer cancel()
		if r.state.Load() == nil {
			if err := r.refreshManifest(ctx); err != nil {
				return err
			}
		}
		for range joinAttempts {
			done, err := r.joinTail(ctx)
			if done || err != nil {
				return err
			}
		}
		return fmt.Errorf("collection %q: tail not joined in %d attempts: %w", r.id, joinAttempts, errBehind)
	})
}

// joinAttempts bounds how often a join starts over because the writer restarted
// or flushed meanwhile.
const joinAttempts = 5

// joinTail asks for the tail once and joins it. It reports false when it has to
// be asked for again.
func (r *replica) joinTail(ctx context.Context) (done bool, err error) {
	began := r.service.cfg.Now()
	st := r.state.Load()
	b, err := r.service.cfg.Writer.Tail(ctx, r.id, st.seq())
	if errors.Is(err, ErrNoCollection) {
		// The store decides whether it was dropped or the writer is not its owner.
		if merr := r.refreshManifest(ctx); merr != nil {
			return false, merr
		}
	}
	if err != nil {
		return false, err
	}
	delta, err := memtable.DecodeDelta(b, st.collection().Dimension)
	if err != nil {
		return false, fmt.Errorf("tail of collection %q: %w", r.id, err)
	}
	if st.epoch != 0 && delta.Epoch != st.epoch {
		// Another writer, or the same after a restart: what the last one told
		// and this one may not know is forgotten.
		return false, r.forgetTail(ctx)
	}
	if delta.After > st.seq() {
		// The writer has flushed past us, to a manifest that is committed.
		if err := r.refreshManifest(ctx); err != nil {
			return false, err
		}
	}
	err = r.replace(func(st *state) (*state, error) {
		if delta.After > st.seq() {
			return st, nil
		}
		next, err := apply(ctx, st, delta)
		if err != nil {
			return nil, err
		}
		next.epoch, next.newest, next.verifiedAt, done = delta.Epoch, delta.Version, began, true
		return next, nil
	})
	if done && delta.Version > r.state.Load().snapshot().Version {
		// Complete as it is; a newer manifest makes the tail shorter.
		r.service.catalog.background(func(ctx context.Context) { _ = r.refreshManifest(ctx) })
	}
	return done, err
}

// apply extends st by what it lacks of delta.
func apply(ctx context.Context, st *state, delta memtable.Delta) (*state, error) {
	var ops []memtable.Op
	for _, op := range delta.Ops {
		if op.Seq > st.seq() {
			ops = append(ops, op)
		}
	}
	return st.extend(ctx, ops, max(delta.Upto, st.seq()))
}

// forgetTail makes the state one of the newest manifest and nothing more.
func (r *replica) forgetTail(ctx context.Context) error {
	if err := r.refreshManifest(ctx); err != nil {
		return err
	}
	return r.replace(func(old *state) (*state, error) {
		return newState(old.view, old.current, old.verifiedAt), nil
	})
}

// covers reports whether the state reflects the write t came from.
func covers(st *state, t token.Token) bool { return st.seq() >= t.Seq }
