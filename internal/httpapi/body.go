package httpapi

import (
	"bytes"
	"encoding/binary"
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
	claimed := 0
	if len(raw) >= 4 { // the trailer's last field, if there is one member only
		claimed = int(binary.LittleEndian.Uint32(raw[len(raw)-4:]))
	}
	return readAtMost(zr, limit, min(claimed, credible*len(raw)), "gzip")
}

// The window a frame asks for is bounded here. One goroutine per reader: requests are the unit of parallelism.
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
	claimed := 0
	var h zstd.Header
	if h.Decode(raw) == nil && h.HasFCS {
		claimed = int(min(h.FrameContentSize, uint64(limit)))
	}
	return readAtMost(zr, limit, min(claimed, credible*len(raw)), "zstd")
}

// credible is how many times its size a compressed body may claim to be for
// memory to be set aside on its word.
const credible = 64

// readAtMost reads all of r, which is expected to be of so many bytes, or fails
// once it has given more than limit. Memory grows with what was really decoded,
// so that a bomb takes twice the limit at any time, at most.
func readAtMost(r io.Reader, limit, expected int, encoding string) ([]byte, error) {
	// One more than fits shows that there is more, or that there is not.
	out := make([]byte, 0, min(max(expected, bytes.MinRead), limit)+1)
	for {
		n, err := r.Read(out[len(out):cap(out)])
		out = out[:len(out)+n]
		switch {
		case len(out) > limit:
			return nil, bodyTooLarge(limit)
		case err == io.EOF:
			return out, nil
		case errors.Is(err, zstd.ErrWindowSizeExceeded):
			return nil, TooLarge("zstd_window_too_large", "", "the zstd frame needs a window of more than %d bytes", zstdWindow)
		case err != nil:
			return nil, malformedBody(encoding, err)
		}
		if len(out) == cap(out) {
			out = append(make([]byte, 0, min(2*cap(out), limit+1)), out...)
		}
	}
}

func malformedBody(encoding string, err error) *Error {
	return BadRequest("malformed_"+encoding, "", "the body is not valid %s: %v", encoding, err)
}
