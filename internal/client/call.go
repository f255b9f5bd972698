package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/go-json-experiment/json"
)

const (
	// First and longest mean pause between attempts; full jitter draws from 0 to twice the mean.
	firstPause   = 50 * time.Millisecond
	longestPause = 5 * time.Second

	maxAnswerBytes = 512 << 20
	maxErrorBytes  = 64 << 10
	minPackedBytes = 1 << 10 // below this a body is not worth packing
)

// effect says what repeating a call would do.
type effect int

const (
	read       effect = iota // changes nothing
	repeatable               // a write that comes to the same whether applied once or twice
	once                     // a write that must not be applied twice
)

// call is one request and where its answer goes.
type call struct {
	effect effect
	method string
	path   string // below /api/v1, escaped
	body   []byte // JSON; nil for none
	answer any    // JSON target; nil when the body of a success does not matter
	header func(http.Header)
}

// do sends the call, again if need be, until it succeeds or may not be repeated.
func (c *Client) do(ctx context.Context, call call) error {
	body, encoding := call.body, ""
	if c.zstd != nil && len(body) >= minPackedBytes {
		body, encoding = c.zstd.EncodeAll(body, nil), "zstd"
	}
	pace := &paced{BackOff: c.newBackOff(), deadline: c.config.Clock.Now().Add(c.config.RetryFor), clock: c.config.Clock}
	var last error
	attempt := func() error {
		tried := make([]bool, len(c.bases))
		pace.atLeast = math.MaxInt64
		for at := c.pick(tried); at >= 0; at = c.pick(tried) {
			if last = c.attempt(ctx, c.bases[at].url, call, body, encoding); last == nil {
				return nil
			}
			if ctx.Err() != nil || !mayRepeat(call.effect, last) {
				return backoff.Permanent(last)
			}
			tried[at] = true
			c.rest(at, last)
			var answer *Error
			if errors.As(last, &answer) {
				pace.atLeast = min(pace.atLeast, answer.RetryAfter) // of the first that may do
			} else {
				pace.atLeast = 0
			}
			if !othersMayDoBetter(call.effect, last) {
				break
			}
		}
		return last
	}
	var timer backoff.Timer
	if c.config.NewTimer != nil {
		timer = c.config.NewTimer()
	}
	if err := backoff.RetryNotifyWithTimer(attempt, backoff.WithContext(pace, ctx), c.config.Notify, timer); err != nil {
		if ctx.Err() != nil && !errors.Is(last, ctx.Err()) {
			return fmt.Errorf("%s %s: %w; gave up: %w", call.method, call.path, last, ctx.Err())
		}
		return fmt.Errorf("%s %s: %w", call.method, call.path, last)
	}
	return nil
}

func (c *Client) newBackOff() backoff.BackOff {
	if c.config.RetryFor < 0 {
		return &backoff.StopBackOff{}
	}
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(firstPause),
		backoff.WithMultiplier(2),
		backoff.WithMaxInterval(longestPause),
		backoff.WithRandomizationFactor(1), // from 0 to twice the interval: full jitter
		backoff.WithMaxElapsedTime(c.config.RetryFor),
		backoff.WithClockProvider(c.config.Clock),
	)
}

// paced never pauses for less than the server asked, and stops rather than pause past the deadline.
type paced struct {
	backoff.BackOff
	atLeast  time.Duration
	deadline time.Time
	clock    backoff.Clock
}

func (p *paced) NextBackOff() time.Duration {
	pause := p.BackOff.NextBackOff()
	if pause == backoff.Stop {
		return pause
	}
	pause = max(pause, p.atLeast)
	if p.clock.Now().Add(pause).After(p.deadline) {
		return backoff.Stop
	}
	return pause
}

// mayRepeat says whether a call that failed so is sent again.
func mayRepeat(e effect, err error) bool {
	var answer *Error
	if errors.As(err, &answer) {
		switch answer.Status {
		case http.StatusTooManyRequests:
			return e != once || answer.Applied != "unknown"
		case http.StatusServiceUnavailable:
			return e != once || answer.Applied == "false"
		case http.StatusBadGateway, http.StatusGatewayTimeout:
			return e != once
		}
		return false
	}
	var local *localError
	if errors.As(err, &local) {
		return false
	}
	return e != once || neverSent(err)
}

// neverSent says whether a connection was never made.
func neverSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// localError is a defect of the request or the answer that no repetition cures.
type localError struct{ error }

func (e *localError) Unwrap() error { return e.error }

func (c *Client) attempt(ctx context.Context, base string, call call, body []byte, encoding string) error {
	ctx, cancel := context.WithTimeout(ctx, c.config.AttemptTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, call.method, base+call.path, bytes.NewReader(body))
	if err != nil {
		return &localError{err}
	}
	req.Header.Set("Accept", "application/json")
	if call.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if encoding != "" {
		req.Header.Set("Content-Encoding", encoding)
	}
	if c.config.APIKey != "" {
		req.Header.Set("Authorization", "Bearer "+c.config.APIKey)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return sentError(call.effect, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		// A body that breaks off still leaves the status and its headers, which say enough.
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBytes))
		return newError(resp.StatusCode, resp.Header, text, c.config.Clock.Now())
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes+1))
	switch {
	case err != nil:
		return sentError(call.effect, fmt.Errorf("answer breaks off after %d bytes: %w", len(text), err))
	case len(text) > maxAnswerBytes:
		return &localError{fmt.Errorf("answer is larger than %d bytes", maxAnswerBytes)}
	}
	if call.header != nil {
		call.header(resp.Header)
	}
	if call.answer == nil {
		return nil
	}
	if err := json.Unmarshal(text, call.answer); err != nil {
		return &localError{fmt.Errorf("answer %.80q: %w", text, err)}
	}
	return nil
}

// sentError marks what went wrong on the wire with what that means for a write.
func sentError(e effect, err error) error {
	if e == read || neverSent(err) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
}
