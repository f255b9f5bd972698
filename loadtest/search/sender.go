package main

import (
	"fmt"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/valyala/fasthttp"

	"github.com/akidb/akidb/internal/client"
	"github.com/akidb/akidb/loadtest/dataset"
)

// sender sends the searches of one point, whose bodies are made before anything is measured.
type sender struct {
	clients []*fasthttp.HostClient
	paths   []string
	bodies  [][]byte
	turn    atomic.Uint64
}

func newSender(o options, set *dataset.Set, p point) (*sender, error) {
	s := &sender{}
	for _, base := range o.urls {
		u, err := url.Parse(base)
		if err != nil || u.Host == "" {
			return nil, fmt.Errorf("url %q: want http://host:port", base)
		}
		s.clients = append(s.clients, &fasthttp.HostClient{Addr: u.Host, MaxConns: 1 << 14, ReadTimeout: time.Minute, MaxIdemponentCallAttempts: 1})
		s.paths = append(s.paths, base+"/api/v1/collections/"+url.PathEscape(o.collection)+"/search")
	}
	request := client.SearchRequest{K: o.k, TargetRecall: p.recall, Include: []string{}}
	if p.share < 1 {
		request.Filter = fmt.Appendf(nil, `{"must":[{"key":"bucket","range":{"lt":%d}}]}`, below(p.share))
	}
	for i := range set.Truth {
		request.Vector = set.Query(i)
		b, err := json.Marshal(request)
		if err != nil {
			return nil, err
		}
		if o.extra != "" {
			b = append(append(append(b[:len(b)-1], ','), o.extra...), '}')
		}
		s.bodies = append(s.bodies, b)
	}
	return s, nil
}

// send sends query i to the process whose turn it is.
func (s *sender) send(i int) ([]byte, error) {
	to := int(s.turn.Add(1) % uint64(len(s.clients)))
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.SetRequestURI(s.paths[to])
	req.Header.SetMethod(fasthttp.MethodPost)
	req.Header.SetContentType("application/json")
	req.SetBodyRaw(s.bodies[i])
	if err := s.clients[to].Do(req, resp); err != nil {
		return nil, err
	}
	if resp.StatusCode() != fasthttp.StatusOK {
		return nil, fmt.Errorf("search: status %d: %s", resp.StatusCode(), resp.Body())
	}
	return append([]byte(nil), resp.Body()...), nil
}
