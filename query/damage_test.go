package query

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"testing"

	"github.com/valyala/fasthttp"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/ivfpq"
)

// TestOneFlippedBit damages every object of a collection, one bit at a time, and
// reads everything in every way with a process that has seen nothing yet: each
// answer is the right one, or an error, never anything else.
func TestOneFlippedBit(t *testing.T) {
	const dim = 8
	f := newFixture(t, dim, "l2")
	f.writer.kind = ivfpq.IVF
	rng := rand.New(rand.NewPCG(3, 1))
	lie := newClusters(rng, 6, dim)
	for i := range 400 {
		f.writer.upsert(fmt.Sprintf("id%d", i), lie.draw(), fmt.Sprintf(`{"n":%d}`, i%10))
	}
	f.writer.flush()
	for i := range 40 { // delete vectors
		f.writer.upsert(fmt.Sprintf("id%d", 7*i), lie.draw(), `{"n":1}`)
	}
	f.writer.flush()
	query := lie.draw()
	requests := []struct{ method, path, body string }{
		{"POST", "/collections/movies/search", fmt.Sprintf(`{"vector":%s,"k":20,"include":["metadata","vector"]}`, vectorJSONOf(query))},
		{"POST", "/collections/movies/search", fmt.Sprintf(`{"vector":%s,"k":20,"exact":true}`, vectorJSONOf(query))},
		{"POST", "/collections/movies/search", fmt.Sprintf(`{"vector":%s,"k":20,"filter":{"must":{"key":"n","match":{"value":3}}}}`, vectorJSONOf(query))},
		{"POST", "/collections/movies/vectors/scroll", `{"limit":1000,"include":["metadata","vector"]}`},
		{"POST", "/collections/movies/vectors/count", `{"filter":{"must":{"key":"n","match":{"value":3}}}}`},
		{"GET", "/collections/movies/vectors/id7", ""},
	}
	ask := func(r *httpapi.Router, method, path, body string) (string, bool) {
		var ctx fasthttp.RequestCtx
		ctx.Request.Header.SetMethod(method)
		ctx.Request.SetRequestURI("/api/v1" + path)
		if body != "" {
			ctx.Request.Header.SetContentType("application/json")
			ctx.Request.SetBodyString(body)
		}
		err := r.Serve(&ctx)
		if known, ok := errors.AsType[*httpapi.Error](err); ok && known.Status < 500 {
			return known.Error(), true // an answer about the request, which is in order
		}
		return timeless.ReplaceAllString(string(ctx.Response.Body()), ""), err == nil
	}
	fresh := func() *httpapi.Router {
		r := httpapi.NewRouter()
		f.newService(nil).Register(r)
		return r
	}
	var want []string
	whole := fresh()
	for _, q := range requests {
		answer, ok := ask(whole, q.method, q.path, q.body)
		if !ok || len(answer) < 10 {
			t.Fatalf("%s %s: %s", q.method, q.path, answer)
		}
		want = append(want, answer)
	}
	refused, unharmed := 0, 0
	for o, err := range blob.Objects(t.Context(), f.store, blob.Listing{}) {
		if err != nil {
			t.Fatal(err)
		}
		good, _, err := f.store.Get(t.Context(), o.Key)
		if err != nil {
			t.Fatal(err)
		}
		for range 25 {
			bit := rng.IntN(8 * len(good))
			bad := bytes.Clone(good)
			bad[bit/8] ^= 1 << (bit % 8)
			if _, err := f.store.Put(t.Context(), o.Key, bytes.NewReader(bad), int64(len(bad)), blob.Condition{}); err != nil {
				t.Fatal(err)
			}
			r := fresh()
			for i, q := range requests {
				answer, ok := ask(r, q.method, q.path, q.body)
				switch {
				case !ok:
					refused++
				case answer == want[i]:
					unharmed++
				default:
					t.Errorf("%s, bit %d: %s %s answers\n%.300s, want\n%.300s", o.Key, bit, q.method, q.path, answer, want[i])
				}
			}
		}
		if _, err := f.store.Put(t.Context(), o.Key, bytes.NewReader(good), int64(len(good)), blob.Condition{}); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d reads refused, %d answered right", refused, unharmed)
	if refused < 100 || unharmed < 100 {
		t.Error("damage was hardly ever met, or always")
	}
}

// timeless are the parts of an answer that differ from time to time.
var timeless = regexp.MustCompile(`"took_ms":[0-9.e-]+|"usage":\{[^}]*\}`)
