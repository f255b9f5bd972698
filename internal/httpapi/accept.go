package httpapi

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// settle is how long a connection may be on its way from a client who believes
// that it has one to the queue it is accepted from.
const settle = 100 * time.Millisecond

// Listen listens on a TCP address in a way that StopAccepting can end, which it
// cannot where connections may take several paths.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	var c net.ListenConfig
	c.SetMultipathTCP(false)
	return c.Listen(ctx, "tcp", address)
}

// StopAccepting returns when nobody can connect to ln any more, and everybody
// who did was accepted, which somebody else goes on to do: a listener that is
// closed before that resets connections whose clients have sent something. It
// leaves ln open. It returns at once where the system knows no way, or ln is not
// of Listen.
func StopAccepting(ctx context.Context, ln net.Listener) {
	if !dropNew(ln) {
		return
	}
	timer := time.NewTimer(settle)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		if unaccepted(ln) == 0 {
			return
		}
		timer.Reset(time.Millisecond)
	}
}

// announcingListener closes began when it is first asked for a connection,
// counts those that are open, and lets no more than most be. It may be closed
// twice: by the drain, and by the server afterwards.
type announcingListener struct {
	net.Listener
	once, closed sync.Once
	began        chan struct{}
	open         atomic.Int64
	most         int64
	turnedAway   func() (requestID string) // is told of one too many
	leaving      chan struct{}             // as many as may be told so at once
}

// turnAwayAtOnce bounds what is spent on connections there are too many of.
const turnAwayAtOnce = 64

func (l *announcingListener) Accept() (net.Conn, error) {
	l.once.Do(func() { close(l.began) })
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Load() >= l.most {
			l.turnAway(c)
			continue
		}
		l.open.Add(1)
		return &lingeringConn{Conn: c, closed: sync.OnceFunc(func() { l.open.Add(-1) })}, nil
	}
}

// turnAway answers a connection without looking at what it asks.
func (l *announcingListener) turnAway(c net.Conn) {
	id := l.turnedAway()
	select {
	case l.leaving <- struct{}{}:
	default:
		_ = c.Close()
		return
	}
	go func() {
		defer func() { <-l.leaving }()
		defer c.Close()
		body := fmt.Sprintf(`{"error":{"code":"overloaded","message":"this process has as many connections as it may","hint":"use fewer connections, or ask another process","request_id":%q}}`, id)
		_ = c.SetDeadline(time.Now().Add(time.Second))
		_, err := fmt.Fprintf(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\nRetry-After: 1\r\n%s: %s\r\n\r\n%s",
			TypeJSON, len(body), HeaderRequestID, id, body)
		if half, ok := c.(interface{ CloseWrite() error }); ok && err == nil && half.CloseWrite() == nil {
			_, _ = io.CopyN(io.Discard, c, 1<<20) // or the answer is overtaken by a reset
		}
	}()
}

func (l *announcingListener) Close() (err error) {
	l.closed.Do(func() { err = l.Listener.Close() })
	return err
}
