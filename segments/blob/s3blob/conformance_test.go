package s3blob_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/blobtest"
	"github.com/akidb/akidb/segments/blob/s3blob"
	"github.com/akidb/akidb/segments/blob/s3test"
)

// TestConformance gives each case a prefix of its own in one bucket, which the
// others fill up around it.
func TestConformance(t *testing.T) {
	e := s3test.Start(t)
	e.Setenv(t)
	var prefixes atomic.Int64
	blobtest.Run(t, func(t *testing.T) blob.Store {
		return open(t, e, fmt.Sprintf("case/%d", prefixes.Add(1)))
	})
}

func open(t *testing.T, e s3test.Endpoint, prefix string) *s3blob.Store {
	t.Helper()
	s, err := s3blob.Open(t.Context(), s3blob.Config{
		Bucket: e.Bucket, Prefix: prefix, Endpoint: e.URL, Region: e.Region, PathStyle: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
