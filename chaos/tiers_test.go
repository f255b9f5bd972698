package chaos

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/akidb/akidb/segments/blob/s3test"
)

// A collection is placed through one process, and every process does it: one
// that is killed and knows nothing any more, too.
func TestPlacementIsForEveryProcess(t *testing.T) {
	t.Parallel()
	d := clustered(t)
	o := onS3(s3test.Start(t))
	writer := akidb.Start(t, "writer", o)
	a := akidb.Start(t, "query", o.with("--writer-url", writer.URL()))
	b := akidb.Start(t, "query", o.with("--writer-url", writer.URL()))
	d.load(t, a, "places")
	a.Flush(t, "places")
	a.OK(t, "POST", "/admin/collections/places/compact", nil, nil)

	// Metrics are asked, not the collection: nothing is to happen for being asked.
	tiers := func(tier string, want float64) {
		t.Helper()
		for i, s := range []*Server{a, b} {
			Eventually(t, s.Role+" "+string(rune('a'+i))+" has it "+tier, func() bool {
				n, found := s.metric("akidb_tier_distribution_collections", `tier="`+tier+`"`)
				return found && n == want
			})
		}
	}
	var placed struct {
		CollectionID    string `json:"collection_id"`
		Tier            string `json:"tier"`
		Pinned          bool   `json:"pinned"`
		ManifestVersion uint64 `json:"manifest_version"`
	}
	a.OK(t, "POST", "/admin/collections/places/promote", nil, &placed)
	require.Equal(t, "hot", placed.Tier)
	tiers("hot", 1)
	for _, s := range []*Server{a, b} {
		c := s.Collection(t, "places")
		require.Equal(t, "hot", c.Tier)
		require.Positive(t, c.ResidentBytes)
		require.NotNil(t, c.Placement)
		require.Equal(t, "hot", c.Placement.Tier)
		require.Empty(t, c.Placement.Condition)
		loads, _ := s.metric("akidb_background_worker_runs_total", `worker="load"`, `result="ok"`)
		require.Positive(t, loads)
		d.requireFound(t, "hot", s, "places")
	}

	b.Kill()
	b.Restart()
	tiers("hot", 1)
	d.requireFound(t, "hot again", b, "places")

	version := placed.ManifestVersion
	b.OK(t, "POST", "/admin/collections/places/demote", map[string]any{"tier": "cold"}, &placed)
	require.Equal(t, "cold", placed.Tier)
	require.Greater(t, placed.ManifestVersion, version)
	tiers("cold", 1)
	for _, s := range []*Server{a, b} {
		c := s.Collection(t, "places")
		require.Equal(t, "cold", c.Tier)
		require.Zero(t, c.ResidentBytes)
		var answer struct {
			Usage struct{ Cache string }
		}
		s.OK(t, "POST", "/collections/places/search", map[string]any{"vector": make([]float32, clusteredDim)}, &answer)
		require.Equal(t, "cold", answer.Usage.Cache) // what was in memory whole is not there in parts either
		d.requireFound(t, "cold", s, "places")       // a hundred searches, and it is not loaded
		require.Zero(t, s.Collection(t, "places").ResidentBytes)
	}

	a.OK(t, "POST", "/admin/collections/places/pin", nil, &placed)
	require.Equal(t, "cold", placed.Tier)
	require.Equal(t, 409, a.Call(t, "POST", "/admin/collections/places/demote", nil).Status)
	a.OK(t, "POST", "/admin/collections/places/unpin", nil, &placed)
	require.Equal(t, "automatic", placed.Tier)
	a.OK(t, "DELETE", "/collections/places", nil, nil)
	for _, tier := range []string{"hot", "warm", "cold"} {
		tiers(tier, 0)
	}
	for _, s := range []*Server{writer, a, b} {
		Eventually(t, s.Role+" forgets how large it was", func() bool {
			_, found := s.metric("akidb_collection_size_vectors", `collection="places"`)
			return !found
		})
	}
}
