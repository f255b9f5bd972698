package chaos

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"github.com/akidb/akidb/segments/blob/s3test"
)

// stores are the object stores that roles can share.
var stores = map[string]func(t *testing.T) Options{
	"file": func(t *testing.T) Options {
		return Options{Store: "file://" + filepath.Join(t.TempDir(), "objects")}
	},
	"s3": func(t *testing.T) Options { return onS3(s3test.Start(t)) },
}

func onS3(e s3test.Endpoint) Options {
	return Options{
		Store: "s3://" + e.Bucket + "/some/prefix", Env: e.Env(),
		Args: []string{"--s3-endpoint", e.URL, "--s3-region", e.Region, "--s3-path-style"},
	}
}

// with returns o with more flags.
func (o Options) with(args ...string) Options {
	o.Args = append(append([]string(nil), o.Args...), args...)
	return o
}

// small is a row of three dimensions, told apart by its number.
func small(id string, number int) Row {
	return Row{id, []float32{float32(number), 1, -0.5}, jsontext.Value(fmt.Sprintf(`{"number":%d,"text":"ünï \"%d\""}`, number, number))}
}

func numbered(from, to int) (rows []Row) {
	for i := from; i < to; i++ {
		rows = append(rows, small(fmt.Sprintf("row-%04d", i), i))
	}
	return rows
}

// A writer, a query process that knows it, and one that does not.
func TestRoles(t *testing.T) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := open(t)
			writer := akidb.Start(t, "writer", o.with(noFlush...))
			near := akidb.Start(t, "query", o.with("--writer-url", writer.URL()))
			far := akidb.Start(t, "query", o)
			r := roles{t, writer, near, far}
			t.Run("refused without a writer", r.refused)
			t.Run("fresh through the one that forwards", r.fresh)
			t.Run("the other sees it after a flush", r.flushed)
			t.Run("updates and deletes", r.changed)
			t.Run("dropped and made anew", r.renewed)
		})
	}
}

type roles struct {
	t                 *testing.T
	writer, near, far *Server
}

// requireServed demands that a read was served as one of the levels given.
func requireServed(t *testing.T, a Answer, levels ...string) {
	t.Helper()
	require.Contains(t, levels, a.Header.Get(headerConsistency), a.String())
	require.Regexp(t, `^[0-9]+$`, a.Header.Get(headerStaleness), a.String())
	require.Regexp(t, `^[1-9][0-9]*$`, a.Header.Get(headerVersion), a.String())
}

// requireUnavailable demands an honest 503.
func requireUnavailable(t *testing.T, a Answer, code, applied string) {
	t.Helper()
	require.Equal(t, 503, a.Status, a.String())
	require.Regexp(t, `^[1-9][0-9]*$`, a.Header.Get(headerRetryAfter), a.String())
	require.Equal(t, code, a.Problem().Code, a.String())
	require.Equal(t, applied, a.Header.Get(headerApplied), a.String())
}

func (r roles) refused(t *testing.T) {
	body := map[string]any{"name": "points", "dimension": 3, "metric": "l2"}
	requireUnavailable(t, r.far.Call(t, "POST", "/collections", body), "no_writer", "false")
	require.Equal(t, 404, r.far.Call(t, "GET", "/collections/points", nil).Status)
}

func (r roles) fresh(t *testing.T) {
	r.near.Create(t, "points", 3, "l2")
	rows := numbered(0, 500)
	token := r.near.Upsert(t, "points", rows...)
	for _, row := range rows[:50] {
		var got Row
		a := r.near.OK(t, "GET", vectorPath("points", row.ID), nil, &got)
		require.Equal(t, row.content(), got.content())
		requireServed(t, a, "latest")
	}
	c := r.near.Collection(t, "points")
	require.Equal(t, 500, c.UnindexedCount)
	require.Zero(t, c.SegmentCount)
	hits, a := r.near.Search(t, "points", map[string]any{"vector": []float32{123, 1, -0.5}, "k": 3, "consistency": "strong"})
	requireServed(t, a, "strong")
	require.Equal(t, []string{"row-0123", "row-0122", "row-0124"}, idsOf(hits))
	require.Equal(t, []float32{0, 1, 1}, []float32{hits[0].Score, hits[1].Score, hits[2].Score})

	_, a = r.near.Search(t, "points", map[string]any{"id": "row-0001", "token": token})
	requireServed(t, a, "latest", "token")
	again := r.near.Upsert(t, "points", small("row-0001", 1))
	var got Row
	a = r.near.OK(t, "GET", vectorPath("points", "row-0001")+"?token="+again, nil, &got)
	requireServed(t, a, "latest", "token")
}

func idsOf(hits []Hit) (ids []string) {
	for _, h := range hits {
		ids = append(ids, h.ID)
	}
	return ids
}

func (r roles) flushed(t *testing.T) {
	token := r.near.Upsert(t, "points", small("row-0500", 500))
	Eventually(t, "the collection is seen", func() bool { return r.far.Call(t, "GET", "/collections/points", nil).Status == 200 })
	require.Zero(t, r.far.Count(t, "points", "latest"))
	byToken := vectorPath("points", "row-0500") + "?token=" + token
	requireUnavailable(t, r.far.Call(t, "GET", byToken, nil), "token_not_visible", "")
	requireUnavailable(t, r.far.Call(t, "GET", "/collections/points?consistency=strong", nil), "no_writer", "")

	r.near.Flush(t, "points")
	Eventually(t, "the flush is seen", func() bool { return r.far.Call(t, "GET", byToken, nil).Status == 200 })
	want := append(numbered(0, 500), small("row-0500", 500))
	for _, s := range []*Server{r.near, r.far} {
		requireRows(t, want, s.Scroll(t, "points", "latest", 77))
		require.Equal(t, len(want), s.Count(t, "points", "latest"))
	}
	_, a := r.far.Search(t, "points", map[string]any{"id": "row-0001", "consistency": "latest"})
	requireServed(t, a, "eventual")
	_, a = r.near.Search(t, "points", map[string]any{"id": "row-0001", "consistency": "latest"})
	requireServed(t, a, "latest")
}

// requireRows demands exactly these rows, in this order, to the bit.
func requireRows(t *testing.T, want, got []Row) {
	t.Helper()
	require.Equal(t, len(want), len(got))
	for i := range want {
		require.Equal(t, want[i].ID, got[i].ID)
		require.Equal(t, want[i].content(), got[i].content(), want[i].ID)
	}
}

func (r roles) changed(t *testing.T) {
	want := append(numbered(0, 500), small("row-0500", 500))
	// What is in segments, replaced by what is not.
	r.near.Upsert(t, "points", Row{"row-0007", []float32{-9, -9, -9}, jsontext.Value(`{"new":true}`)})
	want[7] = Row{"row-0007", []float32{-9, -9, -9}, jsontext.Value(`{"new":true}`)}
	r.near.OK(t, "PATCH", vectorPath("points", "row-0008"), map[string]any{"metadata": map[string]any{"number": nil, "text": "patched"}}, nil)
	want[8].Metadata = jsontext.Value(`{"text":"patched"}`)
	var deleted struct{ Deleted int }
	r.near.OK(t, "DELETE", vectorPath("points", "row-0500"), nil, &deleted)
	require.Equal(t, 1, deleted.Deleted)
	r.near.OK(t, "DELETE", vectorPath("points", "row-0500"), nil, &deleted)
	require.Equal(t, 0, deleted.Deleted)
	r.near.OK(t, "POST", "/collections/points/vectors/delete", map[string]any{"ids": []string{"row-0010", "row-0011", "nobody", "row-0010"}}, &deleted)
	require.Equal(t, 2, deleted.Deleted)
	r.near.OK(t, "POST", "/collections/points/vectors/delete",
		map[string]any{"filter": map[string]any{"must": []any{map[string]any{"key": "number", "range": map[string]any{"gte": 400}}}}}, &deleted)
	require.Equal(t, 100, deleted.Deleted)
	want = append(want[:10:10], want[12:400]...)

	requireRows(t, want, r.near.Scroll(t, "points", "latest", 100))
	hits, _ := r.near.Search(t, "points", map[string]any{"vector": []float32{7, 1, -0.5}, "k": 4})
	require.Equal(t, []string{"row-0006", "row-0008", "row-0005", "row-0009"}, idsOf(hits))
	hits, _ = r.near.Search(t, "points", map[string]any{"vector": []float32{0, 0, 0}, "k": 10000})
	require.Len(t, hits, len(want))

	r.near.Flush(t, "points")
	Eventually(t, "the flush is seen", func() bool { return r.far.Count(t, "points", "latest") == len(want) })
	requireRows(t, want, r.far.Scroll(t, "points", "latest", 100))
	hits, _ = r.far.Search(t, "points", map[string]any{"vector": []float32{7, 1, -0.5}, "k": 4})
	require.Equal(t, []string{"row-0006", "row-0008", "row-0005", "row-0009"}, idsOf(hits))
	requireRows(t, want, r.near.Scroll(t, "points", "strong", 100))
}

func (r roles) renewed(t *testing.T) {
	old := r.near.Collection(t, "points")
	a := r.near.OK(t, "DELETE", "/collections/points", nil, nil)
	require.Equal(t, 204, a.Status)
	require.Equal(t, 404, r.near.Call(t, "GET", "/collections/points", nil).Status)
	made := r.near.Create(t, "points", 2, "cosine")
	require.NotEqual(t, old.ID, made.ID)
	require.Zero(t, made.VectorCount)
	row := Row{"row-0001", []float32{3, 4}, jsontext.Value(`{"made":"anew"}`)}
	r.near.Upsert(t, "points", row)
	requireRows(t, []Row{row}, r.near.Scroll(t, "points", "latest", 100))
	require.Equal(t, 404, r.near.Call(t, "GET", "/collections/"+old.ID, nil).Status)

	r.near.Flush(t, "points")
	Eventually(t, "the new collection is seen", func() bool {
		a := r.far.Call(t, "GET", "/collections/points", nil)
		var c Collection
		return a.Status == 200 && decode(a.Body, &c) == nil && c.ID == made.ID && c.VectorCount == 1
	})
	requireRows(t, []Row{row}, r.far.Scroll(t, "points", "latest", 100))
	require.Equal(t, 404, r.far.Call(t, "GET", "/collections/"+old.ID, nil).Status)
}
