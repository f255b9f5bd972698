package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestSlowStoreHoldsReadsBackAndCountsThem(t *testing.T) {
	var host string
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host = r.Host
		fmt.Fprint(w, "0123456789")
	}))
	defer behind.Close()
	const delay = 20 * time.Millisecond
	s, err := startSlowStore(behind.URL, delay)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	began := time.Now()
	for _, method := range []string{http.MethodGet, http.MethodGet, http.MethodPut} {
		req, err := http.NewRequest(method, s.url+"/bucket/key?x=1", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "0123456789" {
			t.Errorf("got %q, %v", b, err)
		}
		resp.Body.Close()
	}
	if took := time.Since(began); took < 2*delay {
		t.Errorf("two reads took %v, want at least %v", took, 2*delay)
	}
	if gets, kb := s.counted(); gets != 2 || kb != 0.03 {
		t.Errorf("counted %g reads and %g kB, want 2 and 0.03", gets, kb)
	}
	if "http://"+host != s.url {
		t.Errorf("the server saw host %q, want the proxy's %q, which requests are signed for", host, s.url)
	}
	if s.reset(); s.gets.Load() != 0 {
		t.Error("reset did not")
	}
}

func TestQuantile(t *testing.T) {
	for _, c := range []struct{ q, want float64 }{{0, 1}, {0.5, 3}, {0.9, 5}, {1, 5}} {
		if got := quantile([]float64{5, 4, 3, 2, 1}, c.q); got != c.want {
			t.Errorf("quantile %g is %g, want %g", c.q, got, c.want)
		}
	}
}
