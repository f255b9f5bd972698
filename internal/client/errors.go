package client

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// ErrOutcomeUnknown marks a failed write that may or may not have been applied.
var ErrOutcomeUnknown = errors.New("the write may or may not have been applied")

// Error is an answer that is not a success.
type Error struct {
	Status     int    // of HTTP
	Code       string // for programs; "" when the answer was not in the server's own shape, as from a proxy
	Message    string // for people
	Field      string // path within the request, "" when no one field is at fault
	Hint       string // what to do about it, "" for none
	RequestID  string
	RetryAfter time.Duration // how long the server asks to wait; 0 when it does not say
	// Applied is what became of a failed write: "false", "unknown", or "" when the server does not say.
	Applied string
}

func (e *Error) Error() string {
	parts := []string{strconv.Itoa(e.Status)}
	if e.Code != "" {
		parts[0] += " " + e.Code
	}
	if e.Field != "" && !strings.Contains(e.Message, e.Field) {
		parts = append(parts, "field "+e.Field)
	}
	if e.RequestID != "" {
		parts = append(parts, "request "+e.RequestID)
	}
	text := fmt.Sprintf("%s (%s)", e.Message, strings.Join(parts, ", "))
	if e.Hint != "" {
		text += "; " + e.Hint
	}
	return text
}

// Is makes errors.Is(err, ErrOutcomeUnknown) true for a write that the server could not vouch for.
func (e *Error) Is(target error) bool {
	return target == ErrOutcomeUnknown && e.Applied == "unknown"
}

// IsNotFound says whether err is the server's 404.
func IsNotFound(err error) bool { return hasStatus(err, http.StatusNotFound) }

// IsConflict says whether err is the server's 409.
func IsConflict(err error) bool { return hasStatus(err, http.StatusConflict) }

func hasStatus(err error, status int) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == status
}

// newError reads an answer that is not a success. now is when it arrived, for a Retry-After that is a date.
func newError(status int, header http.Header, body []byte, now time.Time) *Error {
	e := &Error{
		Status:     status,
		RequestID:  header.Get("X-Request-Id"),
		Applied:    header.Get("X-AkiDB-Write-Applied"),
		RetryAfter: retryAfter(header.Get("Retry-After"), now),
	}
	var answer struct {
		Error struct {
			Code      string `json:"code"`
			Message   string `json:"message"`
			Field     string `json:"field"`
			Hint      string `json:"hint"`
			RequestID string `json:"request_id"`
		} `json:"error"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Error.Message == "" {
		e.Message = fmt.Sprintf("the server answered %s", strings.TrimSpace(strconv.Itoa(status)+" "+http.StatusText(status)))
		if text := strings.Join(strings.Fields(strings.ToValidUTF8(string(body), "?")), " "); text != "" {
			e.Message += fmt.Sprintf(": %.200s", text)
		}
		return e
	}
	e.Code, e.Message, e.Field, e.Hint = answer.Error.Code, answer.Error.Message, answer.Error.Field, answer.Error.Hint
	if answer.Error.RequestID != "" {
		e.RequestID = answer.Error.RequestID
	}
	return e
}

// retryAfter reads the header's two forms, seconds and a date. A negative or malformed one asks for nothing.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}
