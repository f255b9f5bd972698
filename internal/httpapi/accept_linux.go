package httpapi

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// noSYN is a socket filter that drops segments which open a connection, those
// with SYN and without ACK in the byte of flags, and passes all others.
var noSYN = []unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 13},
	{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0x12},
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 1, K: 0x02},
	{Code: unix.BPF_RET | unix.BPF_K, K: 1<<32 - 1},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},
}

// dropNew has the kernel begin no more connections on ln. Those that it has
// begun are still accepted. Whoever tries to connect does so again until ln is
// closed, and is refused then, or finds who listens next.
func dropNew(ln net.Listener) bool {
	ok := false
	control(ln, func(fd int) {
		if protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); err != nil || protocol != unix.IPPROTO_TCP {
			return // a filter of a multipath socket sees nothing
		}
		ok = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(noSYN)), Filter: &noSYN[0]}) == nil
	})
	return ok
}

// unaccepted is how many connections wait to be accepted.
func unaccepted(ln net.Listener) (n int) {
	control(ln, func(fd int) {
		if info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			n = int(info.Unacked)
		}
	})
	return n
}

func control(ln net.Listener, f func(fd int)) {
	if c, ok := ln.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { f(int(fd)) })
		}
	}
}
