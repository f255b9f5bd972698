package writer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/manifest"
	"github.com/akidb/akidb/writer/wal"
)

var (
	// errStopped: the Writer is closing, or has stopped for good. Definite.
	errStopped = errors.New("the writer has stopped")

	// errMoved: the manifest is not the one a change was planned on. Plan again.
	errMoved = errors.New("the manifest has moved on")

	// errGone: the collection was deleted.
	errGone = errors.New("the collection is gone")

	// errManifest is why a manifest is sent again; the log has more.
	errManifest = fmt.Errorf("the manifest is not taken: %w", blob.ErrUnavailable)

	// errPending: what was asked for goes on in the background; the caller has
	// waited long enough.
	errPending = errors.New("not finished in time")
)

// isFinal tells what trying again cannot change.
func isFinal(err error) bool {
	return errors.Is(err, errParked) || errors.Is(err, manifest.ErrFenced) || errors.Is(err, errGone) || errors.Is(err, errStopped)
}

// ExitError is an error with the process's exit code.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *ExitError) Unwrap() error { return e.Err }

// ExitCode is what the process should exit with.
func (e *ExitError) ExitCode() int { return e.Code }

// Exit codes of the contract.
const (
	exitFailed      = 1
	exitFenced      = 3
	exitUnsupported = 4
)

func withExitCode(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, manifest.ErrFenced):
		return &ExitError{exitFenced, err}
	case errors.Is(err, manifest.ErrUnsupported), errors.Is(err, segments.ErrUnsupported), errors.Is(err, wal.ErrVersion):
		return &ExitError{exitUnsupported, err}
	}
	return &ExitError{exitFailed, err}
}

// takeoverHint completes an error about another owner with the way out.
func takeoverHint(err error) error {
	return fmt.Errorf("%w. If that writer is gone for good, `akidb takeover --accept-loss` gives its collections to this one, "+
		"and recovers what that writer shipped of its log to the store; rows that only the log holds are lost", err)
}

// retryStore is what a client is told to wait while the store is away.
const retryStore = 2 * time.Second

// asWriteError maps any error of a write to what the client is told. Whatever
// is not known to be unknown was decided before the log took the record.
func asWriteError(err error) *httpapi.Error {
	e := classify(err)
	if e.Applied == "" {
		e = e.WithApplied(httpapi.NotApplied)
	}
	return e
}

func classify(err error) *httpapi.Error {
	if e, ok := errors.AsType[*httpapi.Error](err); ok {
		return e
	}
	unavailable := func(code string, after time.Duration, format string, args ...any) *httpapi.Error {
		return httpapi.Unavailable(code, after, format, args...).WithCause(err)
	}
	var unknown *manifest.UnknownError
	switch {
	case errors.Is(err, wal.ErrUnknown), errors.As(err, &unknown):
		return unavailable("outcome_unknown", time.Second, "the write may or may not have been applied").
			WithHint("repeat it: writing the same rows again changes nothing").WithApplied(httpapi.UnknownApplied)
	case errors.Is(err, errPending):
		return unavailable("store_slow", retryStore, "the object store has not taken it yet; it goes on in the background").
			WithApplied(httpapi.UnknownApplied)
	case errors.Is(err, wal.ErrFull):
		return httpapi.StorageFull("storage_full", "the disk of the write-ahead log is full").WithCause(err)
	case errors.Is(err, wal.ErrBusy):
		return httpapi.TooManyRequests("log_behind", time.Second, "writes arrive faster than the disk takes them").WithCause(err)
	case errors.Is(err, wal.ErrTooLarge):
		return httpapi.TooLarge("batch_too_large", "", "the batch is larger than one record of the log can be").WithCause(err).
			WithHint("send several smaller batches")
	case errors.Is(err, errStopped), errors.Is(err, wal.ErrClosed), errors.Is(err, wal.ErrPoisoned), errors.Is(err, manifest.ErrFenced):
		return unavailable("shutting_down", retryStore, "this writer has stopped")
	case errors.Is(err, errGone):
		return httpapi.NotFound("collection_not_found", "the collection was deleted")
	case errors.Is(err, blob.ErrUnavailable), errors.Is(err, errParked):
		return unavailable("store_unavailable", retryStore, "the object store cannot be reached")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return unavailable("timeout", time.Second, "the request did not finish within its time")
	}
	return httpapi.Internal(err)
}

// detached runs fn in the background and waits for it, but no longer than ctx and
// WaitLimit allow: then it goes on by itself and the answer is errPending.
func detached[T any](ctx context.Context, w *Writer, fn func(context.Context) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	got := make(chan result, 1)
	if !w.background(func(ctx context.Context) {
		v, err := fn(ctx)
		got <- result{v, err}
	}) {
		return *new(T), errStopped
	}
	ctx, cancel := context.WithTimeout(ctx, w.cfg.WaitLimit)
	defer cancel()
	select {
	case r := <-got:
		return r.value, r.err
	case <-ctx.Done():
		return *new(T), fmt.Errorf("wait: %w: %w", errPending, context.Cause(ctx))
	}
}
