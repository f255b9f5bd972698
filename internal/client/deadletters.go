package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// DeadLetter is a job of the writer that waits for the object store. Bytes are of the rows it is about.
type DeadLetter struct {
	ID           string    `json:"id"`
	Kind         string    `json:"kind"` // flush, compact or drop
	Collection   string    `json:"collection"`
	CollectionID string    `json:"collection_id"`
	FirstSeq     uint64    `json:"first_seq"`
	LastSeq      uint64    `json:"last_seq"`
	Bytes        int64     `json:"bytes"`
	Attempts     int       `json:"attempts"`
	FirstFailed  time.Time `json:"first_failed_at"`
	LastAttempt  time.Time `json:"last_attempt_at"`
	LastError    string    `json:"last_error"`
}

// DeadLetters lists the jobs that wait, oldest first.
func (c *Client) DeadLetters(ctx context.Context) ([]DeadLetter, error) {
	var list struct {
		Entries []DeadLetter `json:"entries"`
	}
	err := c.do(ctx, call{method: http.MethodGet, path: "/admin/dlq", answer: &list})
	return list.Entries, err
}

// RetryDeadLetters has every one of them tried now, and says how many.
func (c *Client) RetryDeadLetters(ctx context.Context) (int, error) {
	return c.retryDeadLetters(ctx, "/admin/dlq/retry-all")
}

// RetryDeadLetter has one of them tried now. A 404 says that it is not there, or no longer.
func (c *Client) RetryDeadLetter(ctx context.Context, id string) error {
	_, err := c.retryDeadLetters(ctx, "/admin/dlq/"+url.PathEscape(id)+"/retry")
	return err
}

func (c *Client) retryDeadLetters(ctx context.Context, path string) (int, error) {
	var answer struct {
		Retried int `json:"retried"`
	}
	err := c.do(ctx, call{effect: repeatable, method: http.MethodPost, path: path, answer: &answer})
	return answer.Retried, err
}

// DeleteDeadLetter forgets an entry; its job is tried at once as if it had never failed. It loses no rows.
func (c *Client) DeleteDeadLetter(ctx context.Context, id string) error {
	return c.do(ctx, call{effect: once, method: http.MethodDelete, path: "/admin/dlq/" + url.PathEscape(id)})
}
