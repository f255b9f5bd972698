package query

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/manifest"
)

// pastRead is what a read of an earlier version is served as.
const pastRead Consistency = "as_of"

// pastStates is how many earlier versions of a collection stay open.
const pastStates = 4

// moment names a version of a collection, in one of three ways.
type moment struct {
	version  uint64    // if not 0
	at       time.Time // if not zero: the newest version there was
	snapshot string    // id or name of a snapshot
}

// parseMoment reads as_of: a version number, a time or a snapshot. Nil means now.
func parseMoment(text jsontext.Value) (*moment, error) {
	wrong := func(got string) error {
		return httpapi.Unprocessable("invalid_as_of", "as_of", "as_of is %.80s, want a manifest version, a time like 2026-01-31T12:00:00Z, or a snapshot", got)
	}
	switch {
	case len(text) == 0 || text.Kind() == 'n':
		return nil, nil
	case text.Kind() == '0':
		version, err := strconv.ParseUint(string(text), 10, 64)
		if err != nil || version == 0 {
			return nil, wrong(string(text))
		}
		return &moment{version: version}, nil
	case text.Kind() == '"':
		raw, err := jsontext.AppendUnquote(nil, text)
		if err != nil || len(raw) == 0 {
			return nil, wrong(string(text))
		}
		return parseMomentText(string(raw))
	}
	return nil, wrong(string(text))
}

func parseMomentText(text string) (*moment, error) {
	if version, err := strconv.ParseUint(text, 10, 64); err == nil && version > 0 {
		return &moment{version: version}, nil
	}
	if at, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return &moment{at: at}, nil
	}
	if manifest.CheckID(text) != nil {
		return nil, httpapi.Unprocessable("invalid_as_of", "as_of", "as_of is %.80q, want a manifest version, a time like 2026-01-31T12:00:00Z, or a snapshot", text)
	}
	return &moment{snapshot: text}, nil
}

func (m moment) String() string {
	switch {
	case m.version > 0:
		return fmt.Sprintf("version %d", m.version)
	case m.snapshot != "":
		return fmt.Sprintf("snapshot %q", m.snapshot)
	}
	return m.at.Format(time.RFC3339Nano)
}

// at returns the collection as it was committed at an earlier moment. What had
// been acknowledged by then and not flushed is not in it.
func (r *replica) at(ctx context.Context, m moment, arrived time.Time) (*state, Served, error) {
	snap, err := r.versionAt(ctx, m, arrived)
	if err != nil {
		return nil, Served{}, r.pastError(m, err)
	}
	served := Served{Consistency: pastRead, Staleness: max(0, arrived.Sub(snap.CreatedAt))}
	if st, ok := r.past.Get(snap.Version); ok && st.snapshot().CommitID == snap.CommitID {
		return st, served, nil
	}
	view, err := segments.OpenView(ctx, r.service.cfg.Ranges, snap, r.state.Load().view)
	if err != nil {
		return nil, Served{}, r.pastError(m, err)
	}
	st := newState(view, manifest.Current{}, arrived)
	r.past.Add(snap.Version, st)
	return st, served, nil
}

// versionAt finds the version of a moment. The newest manifest is read again
// where it may have come after what this process has.
func (r *replica) versionAt(ctx context.Context, m moment, arrived time.Time) (*manifest.Snapshot, error) {
	if err := r.atMostStale(ctx, Freshness{Consistency: Eventual}, arrived); err != nil {
		return nil, err
	}
	newest := r.state.Load().snapshot()
	_, known := newest.NamedPin(m.snapshot)
	if m.version > newest.Version || m.snapshot != "" && !known {
		if err := r.refreshManifest(ctx); err != nil {
			return nil, unavailable("the manifest cannot be read now", err)
		}
		newest = r.state.Load().snapshot()
	}
	store := r.service.cfg.Store
	switch {
	case m.version > 0:
		return manifest.At(ctx, store, newest, m.version)
	case m.snapshot == "":
		return manifest.AtTime(ctx, store, newest, m.at)
	}
	pin, known := newest.NamedPin(m.snapshot)
	if !known {
		return nil, httpapi.NotFound("snapshot_not_found", "collection %q has no snapshot %q", newest.Collection.Name, m.snapshot)
	}
	return manifest.ReadBody(ctx, store, pin.Manifest)
}

// pastError explains why a moment cannot be read.
func (r *replica) pastError(m moment, err error) error {
	switch {
	case errors.Is(err, manifest.ErrNoVersion):
		return httpapi.NotFound("version_not_found", "collection %q has no %v", r.id, m).WithCause(err)
	case errors.Is(err, blob.ErrNotFound):
		return httpapi.Gone("version_collected", "%v of collection %q is gone", m, r.id).WithCause(err).
			WithHint("old versions are kept for some minutes; a snapshot keeps one for as long as it exists")
	}
	return err
}

func newPast() *lru.Cache[uint64, *state] {
	c, err := lru.New[uint64, *state](pastStates)
	if err != nil {
		panic(fmt.Sprintf("BUG: %v", err))
	}
	return c
}
