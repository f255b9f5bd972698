package s3blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/akidb/akidb/segments/blob"
)

// classify turns what the SDK returned for a call under ctx into one of the
// contract's sentinels, where one fits, keeping the server's words.
func classify(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil: // the caller's, not the timeout of one request
		return fmt.Errorf("%w: %v", ctx.Err(), err)
	case errors.Is(err, blob.ErrNotFound), errors.Is(err, blob.ErrUnavailable), errors.Is(err, errObjectEnds):
		return err
	}
	if sentinel := sentinelOf(err); sentinel != nil {
		// Only the words of err: a connection that broke off in the middle of a
		// reply is an unexpected EOF too, and not that of the object.
		return fmt.Errorf("%w: %v", sentinel, err)
	}
	return err
}

// errObjectEnds: the object has fewer bytes than were asked for.
var errObjectEnds = fmt.Errorf("object ends: %w", io.ErrUnexpectedEOF)

func sentinelOf(err error) error {
	// The code comes first: the reply to the end of a multipart upload can be an
	// error under status 200.
	switch codeOf(err) {
	case "NoSuchKey", "NotFound":
		return blob.ErrNotFound
	case "NoSuchBucket":
		return nil // of the configuration, never "there is no such object"
	case "PreconditionFailed":
		return blob.ErrPrecondition
	case "ConditionalRequestConflict":
		// Refused because something else was changing the key at the time, so
		// certainly not applied; whoever resolves it by reading finds out
		// whether that something won.
		return blob.ErrPrecondition
	case "InvalidRange":
		return errObjectEnds
	case "NoSuchUpload", // perhaps ended by a copy of the same request
		"OperationAborted", "RequestTimeout", "SlowDown", "InternalError",
		"ServiceUnavailable", "Throttling", "ThrottlingException", "RequestLimitExceeded":
		return blob.ErrUnavailable
	}
	switch code := status(err); {
	case code == http.StatusNotFound:
		return blob.ErrNotFound
	case code == http.StatusPreconditionFailed:
		return blob.ErrPrecondition
	case code == http.StatusRequestedRangeNotSatisfiable:
		return errObjectEnds
	case code == http.StatusRequestTimeout, code == http.StatusConflict,
		code == http.StatusTooManyRequests, code >= 500:
		return blob.ErrUnavailable
	}
	if isTransport(err) {
		return blob.ErrUnavailable
	}
	return nil
}

// codeOf is the error code the server gave, "" if it gave none.
func codeOf(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// status is the HTTP status of a failed call, 0 if no response came.
func status(err error) int {
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) {
		return response.HTTPStatusCode()
	}
	return 0
}

// isTransport tells failures of the connection, before or during a response,
// from refusals.
func isTransport(err error) bool {
	var (
		send    *smithyhttp.RequestSendError
		network net.Error
		reading *smithy.DeserializationError
	)
	return errors.As(err, &send) || errors.As(err, &network) || errors.As(err, &reading) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}
