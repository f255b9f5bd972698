package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/akidb/akidb/query"
	"github.com/akidb/akidb/query/pods"
)

// pods says how the process works with the other query processes; nil if it was
// not told of any. What it returns has to be closed.
func (p *process) pods() (cfg *query.PodsConfig, closePeers func(), err error) {
	var addresses func(context.Context) ([]string, error)
	switch {
	case p.cfg.PeersDNS != "":
		addresses = pods.DNS(p.cfg.PeersDNS, net.DefaultResolver.LookupHost, time.Now)
	case p.cfg.Peers != "":
		addresses = pods.Static(strings.Split(p.cfg.Peers, ","))
	default:
		return nil, func() {}, nil
	}
	name := p.cfg.PodName
	if name == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, nil, fmt.Errorf("name of this host: %w; set pod-name", err)
		}
		_, port, err := net.SplitHostPort(p.http.Addr().String())
		if err != nil {
			return nil, nil, err
		}
		name = net.JoinHostPort(host, port)
	}
	peers := query.NewHTTPPeers()
	return &query.PodsConfig{
		Self:  pods.Info{ID: uuid.NewString(), Name: name, Version: thisBuild().Version},
		Peers: peers, Addresses: addresses,
	}, peers.Close, nil
}
