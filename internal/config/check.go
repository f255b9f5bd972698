package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// crossCheck finds what is wrong between values that are each right, and leaves
// out those that are not.
func (r *Resolved) crossCheck(failed map[string]bool) []error {
	var errs []error
	if r.Role == Tool {
		return nil // it has neither addresses nor a log
	}
	addresses := []struct{ name, addr string }{
		{"http-addr", r.HTTPAddr}, {"grpc-addr", r.GRPCAddr}, {"admin-addr", r.AdminAddr},
	}
	for i, a := range addresses {
		for _, b := range addresses[:i] {
			if !failed[a.name] && !failed[b.name] && sameAddress(a.addr, b.addr) {
				errs = append(errs, fmt.Errorf("%s and %s are both %q", b.name, a.name, a.addr))
			}
		}
	}
	if r.Peers != "" && r.PeersDNS != "" {
		errs = append(errs, errors.New("peers and peers-dns are both set, want one of them"))
	}
	if r.DiskCacheDir != "" && r.DiskCacheDir == r.DataDir && !failed["disk-cache-dir"] && !failed["data-dir"] {
		errs = append(errs, fmt.Errorf("data-dir and disk-cache-dir are both %q", r.DataDir))
	}
	// A file must be reclaimable before the log is full, or nothing ever is.
	if r.Role != Query && !failed["wal-max-bytes"] && !failed["wal-file-bytes"] && r.WALMaxBytes < 4*r.WALFileBytes {
		errs = append(errs, fmt.Errorf("wal-max-bytes is %s, want at least 4 times wal-file-bytes, which is %s",
			FormatSize(r.WALMaxBytes), FormatSize(r.WALFileBytes)))
	}
	if r.Role != Query && !failed["wal-max-bytes"] && !failed["flush-bytes"] && r.WALMaxBytes < 2*r.FlushBytes {
		errs = append(errs, fmt.Errorf("wal-max-bytes is %s, want at least twice flush-bytes, which is %s",
			FormatSize(r.WALMaxBytes), FormatSize(r.FlushBytes)))
	}
	return errs
}

// sameAddress reports whether two addresses are certain to collide.
func sameAddress(a, b string) bool {
	hostA, portA, _ := net.SplitHostPort(a)
	hostB, portB, _ := net.SplitHostPort(b)
	return portA == portB && portA != "0" && (hostA == hostB || everyHost(hostA) && everyHost(hostB))
}

func everyHost(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "" || err == nil && addr.IsUnspecified()
}

// Warnings says what is allowed and still worth an operator's attention.
func (r *Resolved) Warnings() []string {
	var out []string
	for _, a := range []struct{ name, addr string }{{"http-addr", r.HTTPAddr}, {"grpc-addr", r.GRPCAddr}} {
		if !loopback(a.addr) {
			out = append(out, fmt.Sprintf("auth is off and %s is %s: whoever can reach it can read, write and delete everything", a.name, a.addr))
		}
	}
	if r.Pprof && !loopback(r.AdminAddr) {
		out = append(out, fmt.Sprintf("pprof is on and admin-addr is %s: whoever can reach it can see memory and slow the process down", r.AdminAddr))
	}
	if r.Role == Query && r.WriterURL == nil {
		out = append(out, "writer-url is not set: rows are seen once they are flushed, and writes are refused")
	}
	return out
}

func loopback(addr string) bool {
	host, _, _ := net.SplitHostPort(addr)
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
