package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"
)

// Values of Error.Applied, sent as X-AkiDB-Write-Applied. The zero value sends
// nothing, which is right for reads and for writes refused before they began.
const (
	NotApplied     = "false"   // decided before the append: certainly not applied
	UnknownApplied = "unknown" // may or may not have been applied
)

// Error is what a client is told. Message names the value that is wrong, what
// was got and what was wanted; Field is its path (`vectors[17].vector`); Hint
// says what to do about it.
type Error struct {
	Status     int    // HTTP status
	Code       string // stable, snake case, for programs
	Message    string // for people
	Field      string // path in the request, "" when no one field is at fault
	Hint       string // "" for none
	RetryAfter time.Duration
	Applied    string // "", NotApplied or UnknownApplied

	cause error // for the log only
}

func (e *Error) Error() string {
	if e.cause != nil {
		return fmt.Sprintf("%s: %s: %v", e.Code, e.Message, e.cause)
	}
	return e.Code + ": " + e.Message
}

// Unwrap returns the cause given to [Error.WithCause].
func (e *Error) Unwrap() error { return e.cause }

// WithHint returns a copy of e that tells the client what to do.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = fmt.Sprintf(format, args...)
	return &c
}

// WithApplied returns a copy of e that says what became of a failed write.
func (e *Error) WithApplied(applied string) *Error {
	c := *e
	c.Applied = applied
	return &c
}

// WithCause returns a copy of e whose cause is logged but never sent.
func (e *Error) WithCause(err error) *Error {
	c := *e
	c.cause = err
	return &c
}

// WithFieldPrefix returns a copy of e whose Field lies below prefix, as a batch
// handler needs for an error found in one element.
func (e *Error) WithFieldPrefix(prefix string) *Error {
	c := *e
	switch {
	case c.Field == "":
		c.Field = prefix
	case c.Field[0] == '[':
		c.Field = prefix + c.Field
	default:
		c.Field = prefix + "." + c.Field
	}
	return &c
}

func newError(status int, code, field, format string, args []any) *Error {
	return &Error{Status: status, Code: code, Field: field, Message: fmt.Sprintf(format, args...)}
}

// BadRequest is 400: the request could not be understood.
func BadRequest(code, field, format string, args ...any) *Error {
	return newError(fasthttp.StatusBadRequest, code, field, format, args)
}

// Unprocessable is 422: understood, but wrong.
func Unprocessable(code, field, format string, args ...any) *Error {
	return newError(fasthttp.StatusUnprocessableEntity, code, field, format, args)
}

// NotFound is 404.
func NotFound(code, format string, args ...any) *Error {
	return newError(fasthttp.StatusNotFound, code, "", format, args)
}

// Conflict is 409: the state of the thing named forbids it.
func Conflict(code, format string, args ...any) *Error {
	return newError(fasthttp.StatusConflict, code, "", format, args)
}

// Gone is 410: it was there, and will not be again.
func Gone(code, format string, args ...any) *Error {
	return newError(fasthttp.StatusGone, code, "", format, args)
}

// TooLarge is 413.
func TooLarge(code, field, format string, args ...any) *Error {
	return newError(fasthttp.StatusRequestEntityTooLarge, code, field, format, args)
}

// UnsupportedMediaType is 415.
func UnsupportedMediaType(code, format string, args ...any) *Error {
	return newError(fasthttp.StatusUnsupportedMediaType, code, "", format, args)
}

// TooManyRequests is 429: slow down. retryAfter below a second is sent as one.
func TooManyRequests(code string, retryAfter time.Duration, format string, args ...any) *Error {
	e := newError(fasthttp.StatusTooManyRequests, code, "", format, args)
	e.RetryAfter = retryAfter
	return e
}

// Unavailable is 503: not now. retryAfter below a second is sent as one.
func Unavailable(code string, retryAfter time.Duration, format string, args ...any) *Error {
	e := newError(fasthttp.StatusServiceUnavailable, code, "", format, args)
	e.RetryAfter = retryAfter
	return e
}

// StorageFull is 507: the disk has no room for the write.
func StorageFull(code, format string, args ...any) *Error {
	return newError(fasthttp.StatusInsufficientStorage, code, "", format, args)
}

// Internal is 500 with a message that gives nothing away; cause is logged.
func Internal(cause error) *Error {
	return &Error{
		Status:  fasthttp.StatusInternalServerError,
		Code:    "internal",
		Message: "something went wrong on our side",
		Hint:    "the server's log has the detail under this request_id",
		cause:   cause,
	}
}

// AsError maps any error a handler returns to what the client is told. Where it
// is not an *Error it is a 503 for a context that ended, else a 500.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return Unavailable("timeout", time.Second, "the request did not finish within its time").WithCause(err)
	case errors.Is(err, context.Canceled):
		return Unavailable("shutting_down", time.Second, "the server is shutting down").WithCause(err)
	}
	return Internal(err)
}

type errorBody struct {
	Error errorObject `json:"error"`
}

type errorObject struct {
	Code      string `json:"code"`
	Message   string `json:"message"`
	Field     string `json:"field,omitempty"`
	Hint      string `json:"hint,omitempty"`
	RequestID string `json:"request_id"`
}

// ensureRetryAfter keeps the promise that whoever is told to come back is told
// when, also for answers a handler wrote or passed on itself.
func ensureRetryAfter(ctx *fasthttp.RequestCtx) {
	code := ctx.Response.StatusCode()
	if (code == fasthttp.StatusTooManyRequests || code == fasthttp.StatusServiceUnavailable) &&
		len(ctx.Response.Header.Peek(fasthttp.HeaderRetryAfter)) == 0 {
		ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, "1")
	}
}

// writeError replaces whatever the handler had begun to answer.
func writeError(ctx *fasthttp.RequestCtx, log *slog.Logger, err error) {
	e := AsError(err)
	ctx.Response.ResetBody()
	ctx.Response.Header.Del(fasthttp.HeaderContentEncoding)
	if e.RetryAfter > 0 {
		seconds := int64(math.Ceil(e.RetryAfter.Seconds()))
		ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, strconv.FormatInt(seconds, 10))
	}
	if e.Applied != "" {
		ctx.Response.Header.Set(HeaderWriteApplied, e.Applied)
	}
	body := errorBody{errorObject{e.Code, e.Message, e.Field, e.Hint, RequestID(ctx)}}
	if err := WriteJSON(ctx, e.Status, body); err != nil {
		panic(fmt.Sprintf("BUG: the error object does not marshal: %v", err))
	}
	if e.cause != nil || e.Status == fasthttp.StatusInternalServerError {
		level := slog.LevelWarn
		if e.Status == fasthttp.StatusInternalServerError {
			level = slog.LevelError
		}
		log.LogAttrs(ctx, level, "request failed",
			slog.String("request_id", RequestID(ctx)), slog.String("code", e.Code), slog.Any("error", err))
	}
}
