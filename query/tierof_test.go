package query

import (
	"testing"

	"github.com/akidb/akidb/cache"
	"github.com/akidb/akidb/internal/info"
)

// A search is as cold as the coldest place that it had to wait for.
func TestTierOf(t *testing.T) {
	for _, c := range []struct {
		took cache.Taken
		want info.Tier
	}{
		{cache.Taken{}, info.Hot},
		{cache.Taken{Hits: 5}, info.Hot},
		{cache.Taken{Hits: 5, DiskHits: 1}, info.Warm},
		{cache.Taken{DiskHits: 5, Misses: 1, StoreGets: 1, Rounds: 1}, info.Cold},
		{cache.Taken{Hits: 5, Misses: 1, Joined: 1, Rounds: 1}, info.Cold}, // somebody else's read
	} {
		var u cache.Usage
		u.Beside(c.took)
		if got := tierOf(&u); got != c.want || u.Taken() != c.took {
			t.Errorf("%+v: got %s, want %s", c.took, got, c.want)
		}
	}
}
