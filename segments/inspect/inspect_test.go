package inspect

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/memblob"
	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/ivfpq"
	"github.com/akidb/akidb/segments/manifest"
)

const dimension = 8

// world is a store with the collection "movies", whose clock goes one minute at a time.
type world struct {
	store *memblob.Store
	log   *manifest.Log
	now   time.Time
	ids   int
}

func (w *world) tick() time.Time {
	w.now = w.now.Add(time.Minute)
	return w.now
}

func newWorld(t *testing.T, id, name string) *world {
	t.Helper()
	w := &world{store: memblob.New(), now: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)}
	w.create(t, id, name)
	return w
}

func (w *world) create(t *testing.T, id, name string) {
	t.Helper()
	log, err := manifest.Create(t.Context(), w.store, manifest.Collection{ID: id, Name: name, Dimension: dimension, Metric: "l2", CreatedAt: w.now}, "owner-1",
		manifest.WithClock(w.tick),
		manifest.WithIDs(func() string { w.ids++; return fmt.Sprintf("commit-%d", w.ids) }))
	require.NoError(t, err)
	w.log = log
}

func (w *world) commit(t *testing.T, edit func(next *manifest.Snapshot)) *manifest.Snapshot {
	t.Helper()
	s, err := w.log.Commit(t.Context(), func(next *manifest.Snapshot) error { edit(next); return nil })
	require.NoError(t, err)
	return s
}

// add makes a segment of so many rows and commits it.
func (w *world) add(t *testing.T, id string, kind ivfpq.Kind, n int) *segments.Rows {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	rows := &segments.Rows{}
	for i := range n {
		v := make([]float32, dimension)
		for d := range v {
			v[d] = float32(rng.NormFloat64())
		}
		rows.Append(columns.Row{ID: fmt.Sprintf("%s/%d", id, i), Vector: v, Metadata: fmt.Appendf(nil, `{"n":%d}`, i), Seq: uint64(100 + i)})
	}
	built, err := segments.Build(t.Context(), segments.BuildConfig{Dim: dimension, Metric: ivfpq.L2, Dir: t.TempDir(), Index: ivfpq.Config{Kind: kind, Lists: 7}}, rows)
	require.NoError(t, err)
	defer built.Close()
	collection := w.log.Snapshot().Collection.ID
	quantizer := ""
	var q manifest.Quantizer
	if z := built.Quantizer(); z != nil {
		quantizer = "Q-" + id
		q, err = segments.PutQuantizer(t.Context(), w.store, collection, quantizer, z)
		require.NoError(t, err)
	}
	seg, err := built.Upload(t.Context(), w.store, collection, id, quantizer)
	require.NoError(t, err)
	w.commit(t, func(next *manifest.Snapshot) {
		next.Segments = append(next.Segments, seg)
		next.FlushedSeq = seg.MaxSeq
		if quantizer != "" {
			next.Quantizers = append(next.Quantizers, q)
		}
	})
	ordered := &segments.Rows{}
	for _, i := range built.Order {
		ordered.Append(columns.Row{ID: rows.IDs[i], Vector: rows.Vectors[int(i)*dimension : int(i+1)*dimension], Metadata: rows.Metadata[i], Seq: rows.Seqs[i]})
	}
	return ordered
}

func TestFind(t *testing.T) {
	w := newWorld(t, "ID-1", "movies")
	w.commit(t, func(next *manifest.Snapshot) { next.Dropped = true })
	w.create(t, "ID-2", "movies")
	w.create(t, "ID-3", "other")
	// One whose creation was interrupted has no CURRENT.
	_, err := w.store.Put(t.Context(), manifest.BodyKey("ID-0", 1, "x"), strings.NewReader("?"), 1, blob.Condition{})
	require.NoError(t, err)
	for nameOrID, want := range map[string]string{"movies": "ID-2", "ID-1": "ID-1", "ID-2": "ID-2", "other": "ID-3"} {
		c, err := Find(t.Context(), w.store, nameOrID)
		require.NoError(t, err, nameOrID)
		require.Equal(t, want, c.Newest.Collection.ID)
		require.Equal(t, want == "ID-1", c.Newest.Dropped)
	}
	for _, nameOrID := range []string{"nobody", "", "a/b", "ID-0", "../x"} {
		_, err := Find(t.Context(), w.store, nameOrID)
		require.ErrorIs(t, err, ErrNoCollection, nameOrID)
	}

	// What is damaged may be the one, and does not hide the others.
	_, err = w.store.Put(t.Context(), manifest.CurrentKey("ID-2"), strings.NewReader("?"), 1, blob.Condition{})
	require.NoError(t, err)
	_, err = Find(t.Context(), w.store, "movies")
	require.ErrorIs(t, err, ErrNoCollection)
	require.ErrorIs(t, err, blob.ErrCorrupt)
	c, err := Find(t.Context(), w.store, "other")
	require.NoError(t, err)
	require.Equal(t, "ID-3", c.Newest.Collection.ID)
}

func TestVersions(t *testing.T) {
	w := newWorld(t, "ID", "movies")
	start := w.now
	w.add(t, "SEG-A", ivfpq.Exact, 20)
	w.add(t, "SEG-B", ivfpq.Exact, 30)
	log, err := manifest.Open(t.Context(), w.store, "ID", "owner-2", manifest.WithClock(w.tick))
	require.NoError(t, err)
	_, err = log.Takeover(t.Context())
	require.NoError(t, err)
	w.log = log
	w.commit(t, func(next *manifest.Snapshot) {
		next.Pins = append(next.Pins, manifest.Pin{ID: "S-1", Manifest: *next.Parent, Rows: 50, CreatedAt: w.now})
	})

	c, err := Find(t.Context(), w.store, "movies")
	require.NoError(t, err)
	h, err := c.History(t.Context(), 0)
	require.NoError(t, err)
	require.Equal(t, "", h.Older)
	require.Equal(t, []any{"ID", "movies", 5}, []any{h.CollectionID, h.Name, len(h.Versions)})
	for i, want := range []Version{
		{Version: 5, Epoch: 2, Owner: "owner-2", FlushedSeq: 129, Rows: 50, Segments: 2, Pins: 1},
		{Version: 4, Epoch: 2, Owner: "owner-2", FlushedSeq: 129, Rows: 50, Segments: 2},
		{Version: 3, Epoch: 1, FlushedSeq: 129, Rows: 50, Segments: 2},
		{Version: 2, Epoch: 1, FlushedSeq: 119, Rows: 20, Segments: 1},
		{Version: 1, Epoch: 1},
	} {
		got := h.Versions[i]
		require.Equal(t, want.Segments > 0, got.Bytes > 0)
		require.NotEmpty(t, got.CommitID)
		want.Bytes, want.CommitID, want.CreatedAt = got.Bytes, got.CommitID, got.CreatedAt
		require.Equal(t, want, got)
	}

	limited, err := c.History(t.Context(), 2)
	require.NoError(t, err)
	require.Equal(t, Versions{h.CollectionID, h.Name, h.Versions[:2], "more"}, limited)
	all, err := c.History(t.Context(), 5)
	require.NoError(t, err)
	require.Equal(t, h, all)

	for version := uint64(0); version <= 5; version++ {
		s, err := c.At(t.Context(), version)
		require.NoError(t, err)
		m := c.Manifest(s)
		require.Equal(t, version == 0 || version == 5, m.Current)
		require.Equal(t, s.Version >= 4, m.Owner == "owner-2")
		_, err = w.store.Stat(t.Context(), m.Key)
		require.NoError(t, err, "the key is that of the object")
	}
	_, err = c.At(t.Context(), 6)
	require.ErrorIs(t, err, manifest.ErrNoVersion)
	s, err := c.AtTime(t.Context(), h.Versions[2].CreatedAt)
	require.NoError(t, err)
	require.EqualValues(t, 3, s.Version)
	_, err = c.AtTime(t.Context(), start.Add(-time.Hour))
	require.ErrorIs(t, err, manifest.ErrNoVersion)

	// What was collected ends the history, and says so where it is asked for.
	two, err := c.At(t.Context(), 2)
	require.NoError(t, err)
	require.NoError(t, w.store.Delete(t.Context(), c.Manifest(two).Key))
	h, err = c.History(t.Context(), 0)
	require.NoError(t, err)
	require.Equal(t, "collected", h.Older)
	require.Len(t, h.Versions, 3)
	_, err = c.At(t.Context(), 2)
	require.ErrorIs(t, err, blob.ErrNotFound)
	require.ErrorContains(t, err, "old versions are kept")

	// Damage is no end.
	three, err := c.At(t.Context(), 3)
	require.NoError(t, err)
	_, err = w.store.Put(t.Context(), c.Manifest(three).Key, strings.NewReader("{}"), 2, blob.Condition{})
	require.NoError(t, err)
	_, err = c.History(t.Context(), 0)
	require.ErrorIs(t, err, blob.ErrCorrupt)
}

func TestInspect(t *testing.T) {
	w := newWorld(t, "ID", "movies")
	want := map[string]*segments.Rows{
		"SEG-EXACT": w.add(t, "SEG-EXACT", ivfpq.Exact, 20),
		"SEG-FLAT":  w.add(t, "SEG-FLAT", ivfpq.Flat, 300),
		"SEG-IVF":   w.add(t, "SEG-IVF", ivfpq.IVF, 2000),
	}
	s := w.log.Snapshot()
	list := Segments(s)
	require.Equal(t, []any{"ID", "movies", s.Version, 3}, []any{list.CollectionID, list.Name, list.Version, len(list.Segments)})
	for _, line := range list.Segments {
		rows := want[line.ID]
		seg, err := Inspect(t.Context(), w.store, s, line.ID, 5)
		require.NoError(t, err)
		require.Equal(t, line, seg.SegmentLine)
		require.EqualValues(t, rows.Len(), seg.Rows)
		require.Zero(t, seg.Deleted)
		require.False(t, seg.Foreign)
		require.Equal(t, []uint64{100, uint64(99 + rows.Len())}, []uint64{seg.MinSeq, seg.MaxSeq})
		require.Equal(t, segments.Version, seg.FormatVersion)
		require.Equal(t, strings.ToLower(strings.TrimPrefix(line.ID, "SEG-")), seg.Kind)
		require.Equal(t, seg.Index.Size, seg.Footer.Offset+int64(seg.Footer.Length))
		require.Len(t, seg.First, 5)
		for i, r := range seg.First {
			require.Equal(t, Row{
				Ordinal: uint32(i), ID: rows.IDs[i], Seq: rows.Seqs[i], Vector: rows.Vectors[i*dimension : (i+1)*dimension], Metadata: rows.Metadata[i],
			}, r)
		}
		n := uint32(rows.Len())
		require.Equal(t, &Attributes{Complete: true, Keys: []Attribute{
			{Key: "n", Rows: n, Values: n, Least: jsontext.Value("0"), Most: jsontext.Value(fmt.Sprint(n - 1))},
		}}, seg.Attributes)
		if seg.Kind == "exact" {
			require.Nil(t, seg.Codes)
			continue
		}
		c := seg.Codes
		require.Equal(t, "sign", c.Codebook)
		require.EqualValues(t, rows.Len(), c.TrainedRows)
		require.Positive(t, c.Residual)
		require.NotEmpty(t, c.Calibration)
		require.True(t, slices.IsSortedFunc(c.Calibration, func(a, b Calibration) int { return int(a.Probes) - int(b.Probes) }))
		lists, inLists := 0, 0
		for _, b := range c.Lists.Buckets {
			lists += b.Lists
			inLists += b.Lists * int(b.From)
		}
		require.Equal(t, c.Lists.Count, lists)
		require.LessOrEqual(t, inLists, rows.Len())
		require.InDelta(t, float64(rows.Len()), c.Lists.Mean*float64(lists), 1e-6)
		require.Equal(t, seg.Kind == "ivf", lists > 1)
		require.Equal(t, seg.Kind == "ivf", c.Lists.Spilled > 0)
		require.Equal(t, seg.Kind == "ivf", seg.Quantizer != "")
	}

	seg, err := Inspect(t.Context(), w.store, s, "SEG-E", 1000)
	require.NoError(t, err, "as much of the id as no other one has")
	require.Len(t, seg.First, 20, "all there are")
	for _, id := range []string{"SEG-", "", "SEG-IVFX"} {
		_, err = Inspect(t.Context(), w.store, s, id, 0)
		require.ErrorContains(t, err, "want 1", id)
	}

	// What is damaged is not shown.
	_, err = w.store.Put(t.Context(), seg.Index.Key, strings.NewReader(strings.Repeat("?", int(seg.Index.Size))), seg.Index.Size, blob.Condition{})
	require.NoError(t, err)
	_, err = Inspect(t.Context(), w.store, s, seg.ID, 0)
	require.ErrorIs(t, err, blob.ErrCorrupt)
}

// A branch reads what lies in the collection it was made from.
func TestForeign(t *testing.T) {
	w := newWorld(t, "ID", "movies")
	w.add(t, "SEG", ivfpq.Exact, 3)
	from := *w.log.Snapshot()
	from.Collection.ID, from.Collection.Name, from.Origins = "ID-2", "branch", []string{"ID"}
	_, err := manifest.Branch(t.Context(), w.store, &from, "owner-1")
	require.NoError(t, err)
	c, err := Find(t.Context(), w.store, "branch")
	require.NoError(t, err)
	seg, err := Inspect(t.Context(), w.store, c.Newest, "SEG", 3)
	require.NoError(t, err)
	require.True(t, seg.Foreign)
	require.Len(t, seg.First, 3)
}

// The distribution is that of the definition.
func TestListLengths(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lengths := rapid.SliceOfN(rapid.OneOf(rapid.Uint32Range(0, 20), rapid.Uint32()), 0, 200).Draw(t, "lengths")
		var l Lists
		l.measure(slices.Clone(lengths))
		require.Equal(t, len(lengths), l.Count)
		atMost := func(limit uint32) (n int) {
			for _, x := range lengths {
				if x <= limit {
					n++
				}
			}
			return n
		}
		if len(lengths) == 0 {
			require.Equal(t, Lists{Buckets: []Bucket{}}, l)
			return
		}
		require.Equal(t, slices.Min(lengths), l.Min)
		require.Equal(t, slices.Max(lengths), l.Max)
		require.Equal(t, atMost(0), l.Empty)
		for percent, q := range map[int]uint32{50: l.P50, 90: l.P90, 99: l.P99} {
			require.Contains(t, lengths, q)
			require.GreaterOrEqual(t, 100*atMost(q), percent*len(lengths))
			if q > 0 {
				require.Less(t, 100*atMost(q-1), percent*len(lengths))
			}
		}
		total := 0
		for i, b := range l.Buckets {
			require.LessOrEqual(t, b.From, b.To)
			if i > 0 {
				require.Less(t, l.Buckets[i-1].To, b.From)
			}
			below := 0
			if b.From > 0 {
				below = atMost(b.From - 1)
			}
			require.Equal(t, atMost(b.To)-below, b.Lists)
			require.Positive(t, b.Lists)
			total += b.Lists
		}
		require.Equal(t, len(lengths), total)
	})
}
