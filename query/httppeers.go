package query

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/akidb/akidb/query/pods"
)

// maxAnswerBytes bounds what is read of a peer's answer: beyond it a part of a
// search is better done here.
const maxAnswerBytes = 256 << 20

// HTTPPeers is Peers over HTTP.
type HTTPPeers struct{ client *http.Client }

// NewHTTPPeers returns Peers that are reached at host:port of their REST API. It
// does no I/O and must be closed.
func NewHTTPPeers() *HTTPPeers {
	return &HTTPPeers{&http.Client{Transport: &http.Transport{
		DialContext:         (&net.Dialer{Timeout: time.Second}).DialContext,
		MaxIdleConnsPerHost: 128,
		// Below the peer's own limit, so that a question is not sent into a
		// connection that is being closed.
		IdleConnTimeout:    30 * time.Second,
		DisableCompression: true,
	}}}
}

// Close closes idle connections.
func (p *HTTPPeers) Close() { p.client.CloseIdleConnections() }

// Pod implements Peers.
func (p *HTTPPeers) Pod(ctx context.Context, addr string) (info pods.Info, err error) {
	b, err := p.do(ctx, http.MethodGet, addr, "/internal/v1/pod", "", nil)
	if err != nil {
		return info, err
	}
	if err := json.Unmarshal(b, &info); err != nil {
		return info, fmt.Errorf("pod at %s: %w", addr, err)
	}
	return info, nil
}

// Search implements Peers.
func (p *HTTPPeers) Search(ctx context.Context, addr, collection string, question []byte) ([]byte, error) {
	return p.do(ctx, http.MethodPost, addr, "/internal/v1/collections/"+url.PathEscape(collection)+"/search", "application/octet-stream", question)
}

// GiveUp implements Peers.
func (p *HTTPPeers) GiveUp(ctx context.Context, addr string, question uint64) error {
	_, err := p.do(ctx, http.MethodDelete, addr, "/internal/v1/questions/"+strconv.FormatUint(question, 10), "", nil)
	return err
}

// Hot implements Peers.
func (p *HTTPPeers) Hot(ctx context.Context, addr string) ([]HotSegment, error) {
	b, err := p.do(ctx, http.MethodGet, addr, "/internal/v1/hot", "", nil)
	if err != nil {
		return nil, err
	}
	var list HandOver
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("hot list of %s: %w", addr, err)
	}
	return list.Segments, nil
}

// HandOver implements Peers.
func (p *HTTPPeers) HandOver(ctx context.Context, addr string, what *HandOver) error {
	b, err := json.Marshal(what)
	if err != nil {
		return fmt.Errorf("hot list: %w", err)
	}
	_, err = p.do(ctx, http.MethodPost, addr, "/internal/v1/hot", "application/json", b)
	return err
}

func (p *HTTPPeers) do(ctx context.Context, method, addr, path, contentType string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+addr+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	// Not sent. It tells the client that asking twice does no harm, so that a
	// connection that only looked alive is not the end of it.
	req.Header["X-Idempotency-Key"] = nil
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read answer of pod at %s: %w", addr, err)
	}
	if resp.StatusCode != http.StatusOK {
		var refusal struct {
			Error struct {
				Code string `json:"code"`
			} `json:"error"`
		}
		_ = json.Unmarshal(b, &refusal) // the status is enough
		return nil, &RefusedError{Status: resp.StatusCode, Code: refusal.Error.Code}
	}
	if len(b) > maxAnswerBytes {
		return nil, fmt.Errorf("answer of pod at %s has more than %d bytes: %w", addr, maxAnswerBytes, errMalformed)
	}
	return b, nil
}
