package grpcapi

import (
	"context"
	"errors"
	"maps"
	"math"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	akidbv1 "github.com/akidb/akidb/api/akidb/v1"
	"github.com/akidb/akidb/internal/httpapi"
)

// Domain is that of every google.rpc.ErrorInfo; its reason is the code of the
// REST API.
const Domain = "akidb"

// Keys of ErrorInfo's metadata. A handler may add others with [WithDetails].
const (
	detailHint      = "hint"
	detailApplied   = "write_applied" // also in the trailer; see httpapi.Error.Applied
	detailRequestID = "request_id"
)

const (
	noSuchMethod = "no_such_method"
	bodyTooLarge = "body_too_large"
)

// byReason are the codes that say more than the status of REST does.
var byReason = map[string]codes.Code{
	noSuchMethod:       codes.Unimplemented,
	bodyTooLarge:       codes.ResourceExhausted, // as gRPC itself says of a message beyond its limit
	"timeout":          codes.DeadlineExceeded,
	"name_taken":       codes.AlreadyExists,
	"condition_failed": codes.FailedPrecondition,
}

// byStatus is every status that REST answers with.
var byStatus = map[int]codes.Code{
	http.StatusBadRequest:            codes.InvalidArgument,
	http.StatusUnauthorized:          codes.Unauthenticated,
	http.StatusForbidden:             codes.PermissionDenied,
	http.StatusNotFound:              codes.NotFound,
	http.StatusConflict:              codes.FailedPrecondition,
	http.StatusGone:                  codes.NotFound,
	http.StatusRequestEntityTooLarge: codes.InvalidArgument,
	http.StatusUnsupportedMediaType:  codes.InvalidArgument,
	http.StatusUnprocessableEntity:   codes.InvalidArgument,
	http.StatusTooManyRequests:       codes.ResourceExhausted,
	http.StatusInternalServerError:   codes.Internal,
	http.StatusServiceUnavailable:    codes.Unavailable,
	http.StatusInsufficientStorage:   codes.ResourceExhausted,
}

func codeOf(e *httpapi.Error) codes.Code {
	if c, ok := byReason[e.Code]; ok {
		return c
	}
	if c, ok := byStatus[e.Status]; ok {
		return c
	}
	return codes.Internal
}

// detailed is an error with more for programs than httpapi.Error has.
type detailed struct {
	err     error
	details map[string]string
}

func (d *detailed) Error() string { return d.err.Error() }
func (d *detailed) Unwrap() error { return d.err }

// WithDetails returns err with values that go into ErrorInfo's metadata.
func WithDetails(err error, details map[string]string) error { return &detailed{err, details} }

// Keys of what an error in a stream tells.
const (
	detailChunks       = "chunks_applied" // all of the chunks before the one that failed
	detailRows         = "rows_applied"   // rows of those
	detailToken        = "token"          // of the last of those
	detailChunkApplied = "chunk_write_applied"
)

// StreamError completes the error of a chunk with what was done before it. The
// whole stream was certainly not applied only if no chunk was.
func StreamError(e *httpapi.Error, done *akidbv1.StreamUpsertResponse) error {
	details := map[string]string{
		detailChunks: strconv.FormatUint(done.Chunks, 10), detailRows: strconv.FormatUint(done.Upserted, 10), detailChunkApplied: e.Applied,
	}
	if done.Chunks > 0 {
		details[detailToken] = done.Token
		e = e.WithApplied(httpapi.UnknownApplied)
	}
	return WithDetails(e, details)
}

// IsAnswer reports whether err is what another process of ours answered, in
// contrast to one that came up on the way there or back.
func IsAnswer(err error) bool {
	s, ok := status.FromError(err)
	if !ok {
		return false
	}
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.Domain == Domain {
			return true
		}
	}
	return false
}

// statusOf is what the client is told of err, and known the error of ours behind
// it, if it is one that was not answered elsewhere.
func statusOf(err error, requestID string) (s *status.Status, known *httpapi.Error) {
	if err == nil {
		return nil, nil
	}
	if IsAnswer(err) {
		return status.Convert(err), nil
	}
	known, ours := errors.AsType[*httpapi.Error](err)
	if !ours {
		if s := ended(err); s != nil {
			return s, nil
		}
		known = httpapi.AsError(err)
	}
	info := &errdetails.ErrorInfo{Reason: known.Code, Domain: Domain, Metadata: map[string]string{detailRequestID: requestID}}
	if known.Hint != "" {
		info.Metadata[detailHint] = known.Hint
	}
	if known.Applied != "" {
		info.Metadata[detailApplied] = known.Applied
	}
	if d, ok := errors.AsType[*detailed](err); ok {
		maps.Copy(info.Metadata, d.details)
	}
	details := []protoadapt.MessageV1{info}
	if known.Field != "" {
		details = append(details, &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: known.Field, Description: known.Message},
		}})
	}
	if wait := known.RetryAfter; wait > 0 || known.Status == http.StatusTooManyRequests || known.Status == http.StatusServiceUnavailable {
		seconds := time.Duration(max(1, math.Ceil(wait.Seconds()))) * time.Second // as Retry-After
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(seconds)})
	}
	s, err = status.New(codeOf(known), known.Message).WithDetails(details...)
	if err != nil {
		panic("BUG: the details of a status do not marshal: " + err.Error())
	}
	return s, known
}

// Ended reports whether err is that of a call that came to its end before it was
// answered: the client hung up, or what it sent never arrived whole.
func Ended(err error) bool { return ended(err) != nil }

// ended is the status of such a call, nil for another error.
func ended(err error) *status.Status {
	var s interface{ GRPCStatus() *status.Status }
	switch {
	case errors.As(err, &s):
		return s.GRPCStatus()
	case errors.Is(err, context.Canceled):
		return status.New(codes.Canceled, "the call was cancelled")
	}
	return nil
}
