package writer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/akidb/akidb/internal/token"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/manifest"
	"github.com/akidb/akidb/writer/wal"
	"github.com/akidb/akidb/writer/wal/ship"
)

// Recovered is what a takeover has of one collection.
type Recovered struct {
	ID, Name string
	From     string // uuid of the log that owned it
	// FlushedSeq is how far its segments go. Through is how far its rows do, with
	// the records that were shipped; not less.
	FlushedSeq, Through uint64
	// Epoch is the one the lost owner wrote in: its tokens of more than Epoch and
	// Through are of writes that are lost.
	Epoch uint64
	// ShippedAt is when the last record recovered was shipped, by the lost
	// owner's clock; zero if none was.
	ShippedAt time.Time
	// Problem says why shipped records were left out; "" if none were.
	Problem string
}

// Token is the last one of the lost owner that is still good.
func (r Recovered) Token() token.Token { return token.Token{Epoch: r.Epoch, Seq: r.Through} }

// takeoverFormat is the version of the note of a takeover. Version ledger:
//
//	1  first
const takeoverFormat = 1

// takeoverNote is in the store while a takeover is under way, so that one which
// was interrupted can be finished, or be taken over itself. While it is there
// nothing else is written to the collections it names, so all that there is of
// them beyond their segments comes from the logs it leads to.
type takeoverNote struct {
	Format      int                       `json:"format"`
	Collections map[string]takeoverOrigin `json:"collections"`
}

// takeoverOrigin is from whom a collection is taken.
type takeoverOrigin struct {
	Owner string `json:"owner"`
	Epoch uint64 `json:"epoch"`
}

// takeoverKey is where the note of a takeover by a log lies.
func takeoverKey(owner string) string { return "takeovers/" + owner + ".json" }

// readTakeover returns the note of a takeover by owner that has not come to its
// end; one without collections if there is none.
func (w *Writer) readTakeover(ctx context.Context, owner string) (takeoverNote, error) {
	n := takeoverNote{Format: takeoverFormat, Collections: map[string]takeoverOrigin{}}
	b, _, err := w.cfg.Store.Get(ctx, takeoverKey(owner))
	if errors.Is(err, blob.ErrNotFound) {
		return n, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &n, json.RejectUnknownMembers(true))
		if n.Format > takeoverFormat {
			err = fmt.Errorf("got format %d, want at most %d: %w", n.Format, takeoverFormat, manifest.ErrUnsupported)
		}
	}
	if err != nil {
		return n, fmt.Errorf("read %q: %w", takeoverKey(owner), err)
	}
	return n, nil
}

func (w *Writer) writeTakeover(ctx context.Context, n takeoverNote) error {
	if len(n.Collections) == 0 {
		return nil
	}
	b, err := json.Marshal(n, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		return err
	}
	_, err = w.cfg.Store.Put(ctx, takeoverKey(w.owner), bytes.NewReader(b), int64(len(b)), blob.Condition{})
	return err
}

// refuseHalfTakeover keeps the Writer from giving out sequence numbers that
// records still to be recovered have.
func (w *Writer) refuseHalfTakeover(ctx context.Context) error {
	n, err := w.readTakeover(ctx, w.owner)
	if err == nil && len(n.Collections) > 0 {
		err = fmt.Errorf("a takeover of %d collections into data directory %q was interrupted: run `akidb takeover --accept-loss` again to finish it",
			len(n.Collections), w.cfg.DataDir)
	}
	return err
}

// salvage is a collection while its shipped records are being recovered.
type salvage struct {
	Recovered
	sources map[string]bool // logs that can hold records of it
	last    mark            // of the records taken, or held before
	beyond  uint64          // lowest seq seen that does not follow; 0 if none
}

// mark is where the records of a collection end.
type mark struct{ seq, epoch uint64 }

// recoverShipped appends to the log what was shipped of the collections in
// note, in order, beyond what their segments and this log have. All of them
// have been claimed: nothing is flushed by others any more.
func (w *Writer) recoverShipped(ctx context.Context, note takeoverNote, held map[wal.CollectionID]mark) ([]Recovered, error) {
	byID := map[wal.CollectionID]*salvage{}
	sources := map[string]bool{}
	for _, id := range slices.Sorted(maps.Keys(note.Collections)) {
		snap, current, err := manifest.Read(ctx, w.cfg.Store, id)
		switch {
		case errors.Is(err, blob.ErrNotFound): // the end of its removal came meanwhile
			continue
		case err != nil:
			return nil, err
		case current.Owner != w.owner:
			return nil, takeoverHint(fmt.Errorf("collection %q: %w", id, &manifest.FencedError{Collection: id, Owner: current.Owner, Epoch: current.Epoch}))
		case snap.Dropped:
			continue
		}
		walID, err := walCollection(id)
		if err != nil {
			return nil, err
		}
		origin := note.Collections[id]
		s := &salvage{Recovered: Recovered{
			ID: id, Name: snap.Collection.Name, From: origin.Owner, Epoch: origin.Epoch,
			FlushedSeq: snap.FlushedSeq, Through: max(snap.FlushedSeq, held[walID].seq),
		}, last: held[walID]}
		if s.sources, err = w.lineage(ctx, id, origin.Owner); err != nil {
			return nil, err
		}
		maps.Copy(sources, s.sources)
		byID[walID] = s
		w.log.Release(walID, snap.FlushedSeq) // nothing of that is shipped again
	}
	// Usually there is one source. With more, records of one may only follow when
	// another has been read.
	for again := true; again; {
		again = false
		for _, source := range slices.Sorted(maps.Keys(sources)) {
			took, err := w.recoverFrom(ctx, source, byID)
			if err != nil {
				return nil, fmt.Errorf("shipped log %q: %w", source, err)
			}
			again = again || took && len(sources) > 1
		}
	}
	var out []Recovered
	for _, s := range byID {
		if s.beyond > s.Through && s.Problem == "" {
			s.Problem = fmt.Sprintf("shipped records go on with seq %d; those from seq %d to %d are missing", s.beyond, s.Through+1, s.beyond-1)
		}
		out = append(out, s.Recovered)
	}
	slices.SortFunc(out, func(a, b Recovered) int { return bytes.Compare([]byte(a.ID), []byte(b.ID)) })
	return out, nil
}

// lineage is owner and, if it was itself in the middle of taking a collection
// over, those it was to get it from.
func (w *Writer) lineage(ctx context.Context, id, owner string) (map[string]bool, error) {
	logs := map[string]bool{}
	for owner != "" && owner != w.owner && !logs[owner] {
		logs[owner] = true
		n, err := w.readTakeover(ctx, owner)
		if err != nil {
			return nil, err
		}
		owner = n.Collections[id].Owner
	}
	return logs, nil
}

// recoverFrom takes what follows from one shipped log, and says whether there
// was anything. It is durable when it returns nil.
func (w *Writer) recoverFrom(ctx context.Context, source string, byID map[wal.CollectionID]*salvage) (took bool, err error) {
	log, err := ship.ParseUUID(source)
	if err != nil {
		return false, err
	}
	err = ship.Read(ctx, w.cfg.Store, log, func(o ship.Object) error {
		if o.Problem != nil {
			w.cfg.Logger.Warn("the shipped log is damaged; what follows is taken only where nothing is missing", "log", source, "object", o.Number, "problem", o.Problem)
		}
		var tickets []*wal.Ticket
		for _, rec := range o.Records {
			s := byID[rec.Collection]
			if s == nil || !s.sources[source] || !s.follows(&rec) {
				continue
			}
			rec.Gap = false // nothing is missing here
			t, err := w.enqueueShipped(ctx, rec)
			if err != nil {
				return err
			}
			tickets = append(tickets, t)
			s.last = mark{rec.Seq + uint64(rec.Count) - 1, rec.Epoch}
			s.Through, s.ShippedAt = s.last.seq, o.CreatedAt
			took = true
		}
		for _, t := range tickets {
			if _, err := t.Wait(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	return took, err
}

// follows reports whether a shipped record is the next of its collection.
func (s *salvage) follows(rec *wal.Record) bool {
	switch last := rec.Seq + uint64(rec.Count) - 1; {
	case s.Problem != "":
		return false
	case rec.Seq > s.Through+1:
		if s.beyond <= s.Through || rec.Seq < s.beyond {
			s.beyond = rec.Seq
		}
		return false
	case rec.Epoch < s.last.epoch && last > s.Through, rec.Epoch > s.last.epoch && s.last.epoch > 0 && last <= s.last.seq:
		// Two histories from one log: its disk was restored from an older copy.
		s.Problem = fmt.Sprintf("seq %d was shipped in epoch %d and seq %d in epoch %d: the log was set back in between", s.last.seq, s.last.epoch, rec.Seq, rec.Epoch)
		return false
	default:
		return last > s.Through
	}
}

func (w *Writer) enqueueShipped(ctx context.Context, rec wal.Record) (*wal.Ticket, error) {
	for {
		t, err := w.log.Enqueue(rec)
		if !errors.Is(err, wal.ErrBusy) {
			return t, err
		}
		if err := w.log.WaitRoom(ctx, rec); err != nil {
			return nil, err
		}
	}
}
