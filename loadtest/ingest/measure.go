package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// result is one measurement. MB are a million bytes of body, as they were sent.
type result struct {
	Encoding    string  `json:"encoding"`
	Compression string  `json:"compression"`
	Clients     int     `json:"clients"`
	Batch       int     `json:"batch"`
	Dim         int     `json:"dim"`
	Seconds     float64 `json:"seconds"`
	Rows        int     `json:"rows"`
	RowsPerS    float64 `json:"rows_per_s"`
	MBPerS      float64 `json:"mb_per_s"`
	P50MS       float64 `json:"p50_ms"`
	P99MS       float64 `json:"p99_ms"`
	Refused     int     `json:"refused"` // told to come back: 429 and 503
	Fsyncs      float64 `json:"fsyncs"`
	ServerCPU   float64 `json:"server_cpu_s"`
}

// client sends one request after the other.
type client struct {
	http    http.Client
	url     string
	setting setting
	bodies  []body
	next    uint64 // id of the next row

	took    []time.Duration // of requests that were acknowledged
	bytes   int
	refused int
	err     error
}

func measure(s setting) (result, error) {
	collection := s.api + "/api/v1/collections"
	_ = call(http.MethodDelete, collection+"/"+s.collection, nil) // what an earlier run left
	about, _ := json.Marshal(map[string]any{"name": s.collection, "dimension": s.dim, "metric": "l2"})
	if err := call(http.MethodPost, collection, about); err != nil {
		return result{}, err
	}
	defer func() { _ = call(http.MethodDelete, collection+"/"+s.collection, nil) }()

	clients := make([]*client, s.clients)
	for i := range clients {
		c := &client{url: collection + "/" + s.collection + "/vectors", setting: s, next: uint64(i) << 40}
		c.http.Transport = &http.Transport{DisableCompression: true, WriteBufferSize: 64 << 10}
		r := rand.New(rand.NewPCG(1, uint64(i)))
		for range s.bodies {
			b, err := newBody(s, r, c.next)
			if err != nil {
				return result{}, err
			}
			c.bodies, c.next = append(c.bodies, b), c.next+uint64(s.batch)
		}
		clients[i] = c
	}
	fsyncs, cpu, err := costs(s.admin)
	if err != nil {
		return result{}, err
	}
	began := time.Now()
	var group sync.WaitGroup
	for _, c := range clients {
		group.Go(func() { c.err = c.run(began) })
	}
	group.Wait()
	seconds := time.Since(began).Seconds()
	fsyncsAfter, cpuAfter, err := costs(s.admin)
	if err != nil {
		return result{}, err
	}

	r := result{
		Encoding: s.encoding, Compression: s.compression, Clients: s.clients, Batch: s.batch, Dim: s.dim,
		Seconds: seconds, Fsyncs: fsyncsAfter - fsyncs, ServerCPU: cpuAfter - cpu,
	}
	var took []time.Duration
	size := 0
	for _, c := range clients {
		if c.err != nil {
			return result{}, c.err
		}
		took = append(took, c.took...)
		size += c.bytes
		r.Refused += c.refused
	}
	if len(took) == 0 {
		return result{}, fmt.Errorf("no request of %d was acknowledged", r.Refused)
	}
	slices.Sort(took)
	r.P50MS, r.P99MS = milliseconds(took[len(took)/2]), milliseconds(took[len(took)*99/100])
	r.Rows = len(took) * s.batch
	r.RowsPerS, r.MBPerS = float64(r.Rows)/seconds, float64(size)/seconds/1e6
	return r, nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// run sends until the time is over.
func (c *client) run(began time.Time) error {
	for n := 0; time.Since(began) < c.setting.duration; n++ {
		b := &c.bodies[n%len(c.bodies)]
		b.renumber(c.next)
		c.next += uint64(c.setting.batch)
		sent := time.Now()
		status, answer, err := c.send(b)
		switch {
		case err != nil:
			return err
		case status == http.StatusOK:
			c.took = append(c.took, time.Since(sent))
			c.bytes += len(b.bytes)
		case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
			c.refused++
			time.Sleep(20 * time.Millisecond)
		default:
			return fmt.Errorf("write: status %d: %s", status, answer)
		}
	}
	return nil
}

func (c *client) send(b *body) (status int, answer []byte, err error) {
	req, err := http.NewRequest(http.MethodPost, c.url, bytes.NewReader(b.bytes))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", b.contentType)
	if c.setting.compression != "none" {
		req.Header.Set("Content-Encoding", c.setting.compression)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

func call(method, url string, body []byte) error {
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: status %d: %s", method, url, resp.StatusCode, answer)
	}
	return err
}

// costs reads what the server has spent since it began.
func costs(admin string) (fsyncs, cpuSeconds float64, err error) {
	resp, err := http.Get(admin + "/metrics")
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	found := 0
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		var to *float64
		switch name {
		case "akidb_wal_group_commits_total":
			to = &fsyncs
		case "process_cpu_seconds_total":
			to = &cpuSeconds
		default:
			continue
		}
		if *to, err = strconv.ParseFloat(value, 64); err != nil {
			return 0, 0, fmt.Errorf("metric %s: %w", name, err)
		}
		found++
	}
	if found != 2 {
		return 0, 0, fmt.Errorf("%s/metrics has %d of the 2 metrics that are wanted", admin, found)
	}
	return fsyncs, cpuSeconds, nil
}
