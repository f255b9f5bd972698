package chaos

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	akidbv1 "github.com/akidb/akidb/api/akidb/v1"
)

// A query process is told to stop under calls by gRPC, again and again: every
// call is answered, by it or by the next.
func TestGRPCRestartsLoseNoCall(t *testing.T) {
	t.Parallel()
	queries, servers := sphere(t, 1)
	server := servers[0]
	result := summary{Scenario: t.Name(), Faults: map[string]int{}, Tallies: map[string]int{}}
	defer func() { result.Passed = !t.Failed(); result.write(t) }()
	var answered, failed atomic.Int64
	var stop atomic.Bool
	var load sync.WaitGroup
	for i := range 8 {
		searches := akidbv1.NewSearchServiceClient(server.dial(t))
		load.Go(func() {
			for n := i; !stop.Load(); n++ {
				q := queries[n%len(queries)]
				got, err := searches.Search(t.Context(), &akidbv1.SearchRequest{
					Collection: "points", Vector: q.vector, K: proto.Int64(int64(len(q.ids))), Exact: true,
				}, grpc.WaitForReady(true))
				var ids []string
				for _, r := range got.GetResults() {
					ids = append(ids, r.Id)
				}
				if err != nil || !slices.Equal(ids, q.ids) {
					failed.Add(1)
					t.Errorf("call %d: %v: got %v, want %v", n, err, ids, q.ids)
					return
				}
				answered.Add(1)
			}
		})
	}
	t.Cleanup(func() { stop.Store(true); load.Wait() })
	for range rounds(3, 30) {
		want := answered.Load() + 200
		Eventually(t, "more answers", func() bool { return answered.Load() >= want || failed.Load() > 0 })
		server.Stop()
		server.Restart()
		result.Faults["restarts"]++
		require.Zero(t, failed.Load())
	}
	stop.Store(true)
	load.Wait()
	result.Tallies["answered"], result.Tallies["failed"] = int(answered.Load()), int(failed.Load())
}
