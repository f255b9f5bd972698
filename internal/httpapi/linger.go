package httpapi

import (
	"io"
	"net"
	"sync/atomic"
	"time"
)

// Closing a socket with unread bytes sends a reset, and a reset overtakes the
// response: the client of a refused upload would see "connection reset" and
// never the 413. So a connection marked by lingerOnClose is half-closed first
// and what the client still sends is thrown away, within these bounds.
const (
	lingerBytes = 256 << 20
	lingerTime  = 5 * time.Second
)

type lingeringConn struct {
	net.Conn
	linger atomic.Bool
	closed func()
}

func lingerOnClose(c net.Conn) {
	if lc, ok := c.(*lingeringConn); ok {
		lc.linger.Store(true)
	}
}

func (c *lingeringConn) Close() error {
	defer c.closed()
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && c.linger.Swap(false) {
		if half.CloseWrite() == nil && c.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
			// However the copy ends, the response has had its chance.
			_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes)
		}
	}
	return c.Conn.Close()
}
