//go:build !linux

package httpapi

import "net"

func dropNew(net.Listener) bool { return false }

func unaccepted(net.Listener) int { return 0 }
