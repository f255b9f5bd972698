package ship

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/writer/wal"
)

// Object is a shipped object as Read finds it.
type Object struct {
	Number uint64
	// CreatedAt is when its records were read from the log, by the writer's clock:
	// what was acknowledged before is in this object or an earlier one.
	CreatedAt time.Time
	Records   []wal.Record // in log order; none if the object is damaged
	// Problem is what is wrong with the object, or with its place in the chain:
	// objects before it are missing. Nil if nothing is.
	Problem error

	checksum uint32 // 0 if it is damaged
}

// Read hands the shipped objects of a log to fn, oldest first. Damage and holes
// are told, not judged: whether a record follows from what is held already is
// to be seen from its sequence number, and only from that. Objects that are
// shipped after the listing are not seen.
//
// Errors: those of the store and of fn; wal.ErrVersion for a format from the
// future.
func Read(ctx context.Context, store blob.Store, log wal.UUID, fn func(Object) error) error {
	var numbers []uint64
	for o, err := range blob.Objects(ctx, store, blob.Listing{Prefix: LogPrefix(log)}) {
		if err != nil {
			return fmt.Errorf("list shipped objects of log %q: %w", log, err)
		}
		if n, ok := parseKey(log, o.Key); ok {
			numbers = append(numbers, n)
		}
	}
	var before Object
	for i, n := range numbers {
		o, h, err := fetch(ctx, store, log, n)
		if err != nil {
			return err
		}
		if i > 0 && o.Problem == nil {
			o.Problem = follows(h, before)
		}
		if err := fn(o); err != nil {
			return err
		}
		before = o
	}
	return nil
}

// follows says why an object does not stand right behind another.
func follows(h header, before Object) error {
	switch {
	case h.number != before.Number+1:
		return fmt.Errorf("object %d follows object %d: those in between are missing", h.number, before.Number)
	case h.previous != before.checksum:
		return fmt.Errorf("object %d follows an object with checksum %08x, object %d has %08x", h.number, h.previous, before.Number, before.checksum)
	}
	return nil
}

// fetch reads one object. Damage, or that it is gone, is its Problem.
func fetch(ctx context.Context, store blob.Store, log wal.UUID, number uint64) (Object, header, error) {
	o, h, err := fetchOnce(ctx, store, log, number)
	if errors.Is(err, blob.ErrCorrupt) {
		o, h, err = fetchOnce(ctx, store, log, number) // damage on the way heals itself
	}
	if errors.Is(err, blob.ErrCorrupt) || errors.Is(err, blob.ErrNotFound) {
		return Object{Number: number, Problem: err}, header{}, nil
	}
	return o, h, err
}

func fetchOnce(ctx context.Context, store blob.Store, log wal.UUID, number uint64) (Object, header, error) {
	b, _, err := store.Get(ctx, key(log, number))
	if err != nil {
		return Object{}, header{}, err
	}
	h, records, err := decode(b, log, number)
	if err != nil {
		return Object{}, header{}, err
	}
	return Object{Number: number, CreatedAt: h.created, Records: records, checksum: checksum(b)}, h, nil
}
