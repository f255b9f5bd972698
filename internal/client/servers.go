package client

import (
	"errors"
	"net/http"
	"sync/atomic"
	"time"
)

// leastRest is how long a server that failed is asked only when the others have failed, too.
const leastRest = time.Second

// base is one of the servers.
type base struct {
	url       string
	restUntil atomic.Int64 // Unix nanoseconds
}

// pick returns a server that was not tried yet: the one in use unless it rests, then the next that does not, then one that
// does. The one that is picked stays in use.
func (c *Client) pick(tried []bool) int {
	now, first := c.config.Clock.Now().UnixNano(), int(c.first.Load())
	found := -1
	for n := range c.bases {
		i := (first + n) % len(c.bases)
		switch {
		case tried[i]:
		case c.bases[i].restUntil.Load() <= now:
			c.first.Store(uint32(i))
			return i
		case found < 0:
			found = i
		}
	}
	return found
}

// rest has a server left alone after a failure.
func (c *Client) rest(i int, err error) {
	pause := leastRest
	var answer *Error
	if errors.As(err, &answer) {
		pause = max(pause, answer.RetryAfter)
	}
	c.bases[i].restUntil.Store(c.config.Clock.Now().Add(pause).UnixNano())
}

// othersMayDoBetter says whether a failure is that of one server. Writes all go to the same writer in the end: one that it has
// no room for is not offered again by another way.
func othersMayDoBetter(e effect, err error) bool {
	var answer *Error
	return e == read || !errors.As(err, &answer) || answer.Status != http.StatusTooManyRequests
}
