package httpapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"slices"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/valyala/fasthttp"
)

// Media types of request bodies.
const (
	TypeJSON    = "application/json"
	TypeNDJSON  = "application/x-ndjson"
	TypeParquet = "application/vnd.apache.parquet"
)

type limitsKey struct{}

// LimitsOf returns the limits of the server the request came through, and the
// defaults for one driven directly.
func LimitsOf(ctx *fasthttp.RequestCtx) Limits {
	if l, ok := ctx.UserValue(limitsKey{}).(Limits); ok {
		return l
	}
	return Limits{}.WithDefaults()
}

// ContentType returns the request's media type, lower case, without parameters,
// once it is known to be one of allowed; else a 415.
//
// Where JSON is allowed, a body without a type, or with the form type curl -d
// sends, counts as JSON, so that a command can be pasted. Not from a browser:
// there such a request needs no preflight, and any web page could send it to a
// server on the visitor's own machine.
func ContentType(ctx *fasthttp.RequestCtx, allowed ...string) (string, error) {
	raw := string(ctx.Request.Header.ContentType())
	got, _, err := mime.ParseMediaType(raw)
	if err != nil && raw != "" {
		got = strings.ToLower(raw) // malformed: equal to nothing that is allowed
	}
	if slices.Contains(allowed, got) {
		return got, nil
	}
	if slices.Contains(allowed, TypeJSON) {
		fromBrowser := len(ctx.Request.Header.Peek(fasthttp.HeaderOrigin)) > 0
		untyped := got == "" || got == "application/x-www-form-urlencoded"
		if untyped && !fromBrowser || strings.HasSuffix(got, "+json") {
			return TypeJSON, nil
		}
	}
	return "", UnsupportedMediaType("unsupported_media_type", "content type is %q, want %s",
		printable([]byte(raw)), strings.Join(allowed, " or "))
}

// Body returns the request's body, decompressed, of at most BatchBytes. It is
// valid until the handler returns. To pass a request on as it came, use the
// RequestCtx's own body and its Content-Encoding instead.
func Body(ctx *fasthttp.RequestCtx) ([]byte, error) {
	raw, limit := ctx.Request.Body(), LimitsOf(ctx).BatchBytes
	var out []byte
	var err error
	switch encoding := strings.ToLower(string(ctx.Request.Header.ContentEncoding())); encoding {
	case "", "identity":
		out = raw
	case "gzip", "x-gzip":
		out, err = gunzip(raw, limit)
	case "zstd":
		out, err = unzstd(raw, limit)
	default:
		return nil, UnsupportedMediaType("unsupported_content_encoding",
			"content encoding is %q, want gzip or zstd", printable([]byte(encoding)))
	}
	if err != nil {
		return nil, err
	}
	if len(out) > limit {
		return nil, bodyTooLarge(limit)
	}
	return out, nil
}

// ReadJSON decodes the request's JSON body into v, strictly (see [DecodeJSON]).
func ReadJSON(ctx *fasthttp.RequestCtx, v any) error {
	if _, err := ContentType(ctx, TypeJSON); err != nil {
		return err
	}
	body, err := Body(ctx)
	if err != nil {
		return err
	}
	return DecodeJSON(body, v)
}

func bodyTooLarge(limit int) *Error {
	return TooLarge("body_too_large", "", "the body has more than the %d bytes allowed", limit).
		WithHint("send several smaller batches")
}

var gzipReaders sync.Pool

func gunzip(raw []byte, limit int) ([]byte, error) {
	zr, _ := gzipReaders.Get().(*gzip.Reader)
	if zr == nil {
		zr = new(gzip.Reader)
	}
	defer gzipReaders.Put(zr)
	if err := zr.Reset(bytes.NewReader(raw)); err != nil {
		return nil, malformedBody("gzip", err)
	}
	return readAtMost(zr, limit, "gzip")
}

// A frame that names its own size is refused before anything is decoded, one
// that does not is cut off by readAtMost; the window a frame asks for is bounded
// here. One goroutine per reader: requests are the unit of parallelism.
const zstdWindow = 8 << 20

var zstdReaders sync.Pool

func unzstd(raw []byte, limit int) ([]byte, error) {
	zr, _ := zstdReaders.Get().(*zstd.Decoder)
	if zr == nil {
		var err error
		zr, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return nil, fmt.Errorf("zstd reader: %w", err)
		}
	}
	defer zstdReaders.Put(zr)
	if err := zr.Reset(bytes.NewReader(raw)); err != nil {
		return nil, malformedBody("zstd", err)
	}
	return readAtMost(zr, limit, "zstd")
}

// readAtMost reads all of r, or fails once it has given more than limit bytes.
// Memory grows with what was really decoded, so a bomb costs at most limit.
func readAtMost(r io.Reader, limit int, encoding string) ([]byte, error) {
	var buf bytes.Buffer
	n, err := io.Copy(&buf, io.LimitReader(r, int64(limit)+1))
	switch {
	case errors.Is(err, zstd.ErrWindowSizeExceeded):
		return nil, TooLarge("zstd_window_too_large", "", "the zstd frame needs a window of more than %d bytes", zstdWindow)
	case err != nil:
		return nil, malformedBody(encoding, err)
	case n > int64(limit):
		return nil, bodyTooLarge(limit)
	}
	return buf.Bytes(), nil
}

func malformedBody(encoding string, err error) *Error {
	return BadRequest("malformed_"+encoding, "", "the body is not valid %s: %v", encoding, err)
}
