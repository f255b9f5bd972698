package query

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/akidb/akidb/internal/httpapi"
)

const (
	tailTimeout    = 2 * time.Second // a tail is answered from memory
	forwardTimeout = 2 * time.Minute // a write may wait for a flush
	// maxTailBytes bounds what is read of a tail. A writer flushes long before.
	maxTailBytes = 1 << 30
)

// HTTPWriter is a Writer reached over HTTP.
type HTTPWriter struct {
	base   *url.URL
	client *fasthttp.HostClient
}

// NewHTTPWriter returns a Writer for the base URL of a writer process, such as
// http://akidb-writer:8080. It does no I/O.
func NewHTTPWriter(base string) (*HTTPWriter, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Path != "" && u.Path != "/" {
		return nil, fmt.Errorf("writer url %q: want http://host:port or https://host:port", base)
	}
	addr := u.Host
	if u.Port() == "" {
		addr = net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	}
	return &HTTPWriter{base: u, client: &fasthttp.HostClient{
		Addr:                addr,
		IsTLS:               u.Scheme == "https",
		Name:                "akidb-query",
		MaxResponseBodySize: maxTailBytes,
		// Ids may contain escaped slashes, which have to stay escaped.
		DisablePathNormalizing: true,
		// Below the writer's own limit, so that a request is not sent into a
		// connection that is being closed.
		MaxIdleConnDuration: 30 * time.Second,
		// A write that was sent twice is a lie about how often it was applied.
		MaxIdemponentCallAttempts: 1,
		RetryIfErr:                func(*fasthttp.Request, int, error) (bool, bool) { return false, false },
		Dial: func(addr string) (net.Conn, error) {
			// Not fasthttp's dialer, which remembers addresses for a minute: a
			// writer that moved is found at once.
			conn, err := net.DialTimeout("tcp", addr, time.Second)
			if err != nil {
				return nil, &notSentError{err}
			}
			return conn, nil
		},
	}}, nil
}

// notSentError: there was no connection, so nothing was sent.
type notSentError struct{ err error }

func (e *notSentError) Error() string { return e.err.Error() }
func (e *notSentError) Unwrap() error { return e.err }

// Close closes idle connections.
func (w *HTTPWriter) Close() { w.client.CloseIdleConnections() }

// Tail implements Writer.
func (w *HTTPWriter) Tail(ctx context.Context, collection string, after uint64) ([]byte, error) {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.SetRequestURI(w.base.Scheme + "://" + w.base.Host + "/internal/v1/collections/" + url.PathEscape(collection) + "/tail?after=" + strconv.FormatUint(after, 10))
	deadline := time.Now().Add(tailTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	err := w.client.DoDeadline(req, resp, deadline)
	if errors.Is(err, fasthttp.ErrConnectionClosed) {
		// A writer that restarted leaves connections that look alive. Asking
		// twice is harmless, as it is not for a write.
		w.client.CloseIdleConnections()
		err = w.client.DoDeadline(req, resp, deadline)
	}
	if err != nil {
		return nil, fmt.Errorf("tail of collection %q from %s: %w", collection, w.base.Host, err)
	}
	switch status := resp.StatusCode(); status {
	case fasthttp.StatusOK:
		body, err := resp.BodyUncompressed()
		return append([]byte(nil), body...), err
	case fasthttp.StatusNotFound:
		return nil, fmt.Errorf("tail of collection %q from %s: %w", collection, w.base.Host, ErrNoCollection)
	default:
		return nil, fmt.Errorf("tail of collection %q from %s: status %d", collection, w.base.Host, status)
	}
}

// Forward implements Writer. A failure says whether the write was sent.
func (w *HTTPWriter) Forward(ctx *fasthttp.RequestCtx) error {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	ctx.Request.CopyTo(req)
	req.Header.Del(fasthttp.HeaderConnection)
	req.Header.Set(httpapi.HeaderRequestID, httpapi.RequestID(ctx))
	req.URI().SetScheme(w.base.Scheme)
	req.SetHost(w.base.Host)
	if err := w.client.DoTimeout(req, resp, forwardTimeout); err != nil {
		w.client.CloseIdleConnections() // where one is dead the others are
		return forwardError(err)
	}
	requestID := string(ctx.Response.Header.Peek(httpapi.HeaderRequestID))
	resp.CopyTo(&ctx.Response)
	ctx.Response.Header.Del(fasthttp.HeaderConnection)
	if requestID != "" {
		ctx.Response.Header.Set(httpapi.HeaderRequestID, requestID)
	}
	return nil
}

func forwardError(err error) error {
	e := httpapi.Unavailable("writer_unavailable", retryAfter, "the writer cannot be reached").WithCause(err)
	var notSent *notSentError
	if errors.As(err, &notSent) || errors.Is(err, fasthttp.ErrNoFreeConns) {
		return e.WithApplied(httpapi.NotApplied)
	}
	e.Message = "the writer did not answer; the write may or may not have been applied"
	return e.WithApplied(httpapi.UnknownApplied)
}
