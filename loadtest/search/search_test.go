package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/akidb/akidb/loadtest/dataset"
	"github.com/akidb/akidb/segments/ivfpq"
)

// line has n rows on a line: row i at i.
func line(n int) *dataset.Set {
	set := &dataset.Set{Name: "line", Dim: 1, Metric: ivfpq.L2, Rows: n}
	for i := range n {
		set.Base = append(set.Base, float32(i))
	}
	return set
}

func TestTruthUnderAFilter(t *testing.T) {
	set := line(5000)
	set.Queries, set.Truth = []float32{2500, 0}, make([][]uint32, 2)
	truth, matches, err := truthOf(set, 3, 0.1)
	if err != nil {
		t.Fatal(err)
	}
	var pass []uint32
	for row := range set.Rows {
		if bucketOf(row) < 100 {
			pass = append(pass, uint32(row))
		}
	}
	if matches != len(pass) || matches < 400 || matches > 600 {
		t.Errorf("%d rows pass, want %d and about 500", matches, len(pass))
	}
	if want := pass[:3]; !slices.Equal(truth[1], want) {
		t.Errorf("nearest to 0 are %v, want %v", truth[1], want)
	}
	for _, row := range truth[0] {
		if bucketOf(int(row)) >= 100 {
			t.Errorf("row %d does not pass", row)
		}
	}
}

func TestTiesCountAsFound(t *testing.T) {
	rows := []uint32{10, 11, 12, 13}
	truth := nearest(rows, []float32{1, 2, 2, 3}, make([]int, 4), 2)
	slices.Sort(truth)
	if !slices.Equal(truth, []uint32{10, 11, 12}) {
		t.Errorf("got %v, want the nearest and both that tie for second", truth)
	}
	if n := found([]uint32{10, 12}, truth); n != 2 {
		t.Errorf("found %d, want 2", n)
	}
}

func TestPoints(t *testing.T) {
	points, err := pointsOf("1,2", "100", "0.9,0.95", "1,0.1")
	if err != nil || len(points) != 12 {
		t.Errorf("got %d points, %v; want 12", len(points), err)
	}
	for _, bad := range []string{"x", "-1", "2"} {
		if _, err := pointsOf("", "", bad, "1"); err == nil {
			t.Errorf("recall %q passed", bad)
		}
	}
}

// server answers searches after so long, and counts them.
func server(t *testing.T, delay func(n int64) time.Duration) (*sender, *atomic.Int64) {
	var count atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(delay(count.Add(1)))
		fmt.Fprint(w, `{}`)
	}))
	t.Cleanup(s.Close)
	send, err := newSender(options{urls: []string{s.URL}, collection: "c", k: 1}, &dataset.Set{Dim: 1, Queries: []float32{1}, Truth: make([][]uint32, 1)}, point{recall: 0.9, share: 1})
	if err != nil {
		t.Fatal(err)
	}
	return send, &count
}

// A server that stalls once is charged for everybody who came meanwhile: closed loops would hide them.
func TestOpenLoopCountsFromTheIntendedStart(t *testing.T) {
	const stall = 200 * time.Millisecond
	send, count := server(t, func(n int64) time.Duration {
		if n == 1 {
			return stall
		}
		return 0
	})
	send.clients[0].MaxConns = 1 // the others have to wait for the first
	send.clients[0].MaxConnWaitTimeout = time.Minute
	took, failed := openLoop(send, 200, 500*time.Millisecond)
	if failed > 0 || count.Load() != 100 || len(took) != 100 {
		t.Fatalf("%d answered, %d failed, %d seen; want 100, 0, 100", len(took), failed, count.Load())
	}
	late := 0
	for _, d := range took {
		if d > stall/4 {
			late++
		}
	}
	if late < 20 { // those due in the first 150 ms of the stall
		t.Errorf("%d requests are late, want those that were due during the stall", late)
	}
}

func TestRefusalsAreCounted(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	defer s.Close()
	send, err := newSender(options{urls: []string{s.URL}, collection: "c", k: 1}, &dataset.Set{Dim: 1, Queries: []float32{1}, Truth: make([][]uint32, 1)}, point{recall: 0.9, share: 0.5})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(send.bodies[0]), `{"lt":500}`) {
		t.Errorf("body %s has no filter for half of the rows", send.bodies[0])
	}
	if took, failed := openLoop(send, 100, 100*time.Millisecond); len(took) != 0 || failed != 10 {
		t.Errorf("%d answered and %d failed, want 0 and 10", len(took), failed)
	}
}

// ../peers/lance.py has to choose the same rows; its test has the same numbers.
func TestBuckets(t *testing.T) {
	for row, want := range map[int]int{0: 535, 1: 700, 2: 679, 12345: 961, 999999: 353} {
		if got := bucketOf(row); got != want {
			t.Errorf("row %d is in bucket %d, want %d", row, got, want)
		}
	}
}
