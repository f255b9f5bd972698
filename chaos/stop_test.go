package chaos

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// A server that is told to stop answers every request it took: a client sees an
// answer or a refused connection, nothing in between. What was acknowledged is
// there when the server is back.
func TestStopUnderLoad(t *testing.T) {
	for _, role := range []string{"dev", "query"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			for round := range 3 {
				t.Run(fmt.Sprint(round), func(t *testing.T) { stopUnderLoad(t, role) })
			}
		})
	}
}

func stopUnderLoad(t *testing.T, role string) {
	var target, other *Server
	if role == "dev" {
		target = akidb.Start(t, "dev", Options{})
	} else {
		o := stores["file"](t)
		other = akidb.Start(t, "writer", o)
		target = akidb.Start(t, "query", o.with("--writer-url", other.URL()))
	}
	target.Create(t, "points", 3, "l2")

	const clients, enough = 8, 400
	var load sync.WaitGroup
	var answered atomic.Int64
	begin := make(chan struct{}) // closed when there is enough load to stop
	acked := make([]map[string]string, clients)
	for i := range clients {
		acked[i] = map[string]string{}
		load.Go(func() {
			for n := 0; ; n++ {
				row := small(fmt.Sprintf("client-%d-row-%d", i, n), n)
				method, path, body := "POST", "/collections/points/vectors", any(row)
				if n%3 == 2 {
					path, body = "/collections/points/search", map[string]any{"vector": row.Vector, "k": 5}
				}
				a, err := target.Send(method, "/api/v1"+path, body)
				switch {
				case err != nil && neverConnected(err):
					return
				case err != nil:
					t.Errorf("client %d, request %d was lost: %v", i, n, err)
					return
				case a.Status == 200 && n%3 != 2:
					acked[i][row.ID] = row.content()
				case a.Status != 200 && a.Status != 503:
					t.Errorf("client %d, request %d: %v", i, n, a)
				}
				if answered.Add(1) == enough {
					close(begin)
				}
			}
		})
	}
	<-begin
	target.Stop()
	load.Wait()
	total := answered.Load()
	target.Restart()

	want := map[string]string{}
	for _, rows := range acked {
		for id, content := range rows {
			want[id] = content
		}
	}
	got := map[string]string{}
	for _, row := range target.Scroll(t, "points", "strong", 1000) {
		got[row.ID] = row.content()
	}
	for id, content := range want {
		require.Equal(t, content, got[id], id)
	}
	t.Logf("%d requests were answered, %d rows acknowledged, %d are there", total, len(want), len(got))
}
