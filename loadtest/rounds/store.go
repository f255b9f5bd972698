package main

import (
	"context"
	"sync"
	"time"

	"github.com/akidb/akidb/segments/blob"
)

// reading is what a search read.
type reading struct {
	rounds, gets, bytes int64
	found               int // of the results that should be
}

// countingStore counts reads, and holds each back. A read is in the round after all that had ended
// when it began: it may have needed one of them.
type countingStore struct {
	blob.Store
	delay time.Duration

	mu    sync.Mutex
	count reading
	ended int64 // the latest round of a read that is over
}

func (s *countingStore) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count, s.ended = reading{}, 0
}

func (s *countingStore) read() reading {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// round counts a read and returns what ends it.
func (s *countingStore) round() (end func(bytes int)) {
	s.mu.Lock()
	mine := s.ended + 1
	s.count.gets++
	s.count.rounds = max(s.count.rounds, mine)
	s.mu.Unlock()
	time.Sleep(s.delay)
	return func(bytes int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.count.bytes += int64(bytes)
		s.ended = max(s.ended, mine)
	}
}

func (s *countingStore) Get(ctx context.Context, key string) ([]byte, blob.Version, error) {
	end := s.round()
	b, v, err := s.Store.Get(ctx, key)
	end(len(b))
	return b, v, err
}

func (s *countingStore) ReadRange(ctx context.Context, key string, off int64, dst []byte) error {
	defer s.round()(len(dst))
	return s.Store.ReadRange(ctx, key, off, dst)
}

func (s *countingStore) List(ctx context.Context, l blob.Listing) (blob.Page, error) {
	defer s.round()(0)
	return s.Store.List(ctx, l)
}
