package main

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"time"
)

// slowStore is a proxy that holds reads back and counts them. It changes nothing that is signed.
type slowStore struct {
	url         string
	server      *httptest.Server
	gets, bytes atomic.Int64
}

func startSlowStore(endpoint string, delay time.Duration) (*slowStore, error) {
	s := &slowStore{}
	h, err := s.handler(endpoint, delay)
	if err != nil {
		return nil, err
	}
	s.server = httptest.NewServer(h)
	s.url = s.server.URL
	return s, nil
}

// serveSlowStore is one that goes on until it fails.
func serveSlowStore(address, endpoint string, delay time.Duration) error {
	h, err := new(slowStore).handler(endpoint, delay)
	if err != nil {
		return err
	}
	return http.ListenAndServe(address, h)
}

func (s *slowStore) handler(endpoint string, delay time.Duration) (http.Handler, error) {
	to, err := url.Parse(endpoint)
	if err != nil {
		return nil, err
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // which the signature covers
		},
		ErrorLog:  log.New(io.Discard, "", 0), // the slower of two hedged reads is given up, again and again
		Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
		ModifyResponse: func(resp *http.Response) error {
			resp.Body = &counted{resp.Body, &s.bytes}
			return nil
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			s.gets.Add(1)
			time.Sleep(delay)
		}
		proxy.ServeHTTP(w, r)
	}), nil
}

func (s *slowStore) close() { s.server.Close() }

func (s *slowStore) reset() { s.gets.Store(0); s.bytes.Store(0) }

// counted is how many reads there were since reset, and their kilobytes.
func (s *slowStore) counted() (gets, kb float64) {
	return float64(s.gets.Load()), float64(s.bytes.Load()) / 1e3
}

type counted struct {
	io.ReadCloser
	to *atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.to.Add(int64(n))
	return n, err
}
