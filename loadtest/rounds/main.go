// Command rounds counts what a search with an empty cache reads: rounds of reads that follow one
// another, reads, and bytes. Those are counts and no times, so the machine does not matter, nor what
// else it does.
//
//	go run ./loadtest/rounds --data /tmp/bench/clu1m_128 --work /tmp/rounds
//
// The rows become one segment in a store of files, built once and kept in --work. Every query is put to
// a service of its own, with an empty cache, in two states: one that knows nothing and is asked for
// the collection by name, and one that has read the manifest.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/akidb/akidb/cache"
	"github.com/akidb/akidb/loadtest/dataset"
	"github.com/akidb/akidb/query"
	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/fileblob"
	"github.com/akidb/akidb/segments/ivfpq"
	"github.com/akidb/akidb/segments/manifest"
)

type options struct {
	work       string
	queries, k int
	recall     float64
	gap        int64
	delay      time.Duration
}

func main() {
	var o options
	data := flag.String("data", "", "`DIR` of the data set, as ../peers/data.py makes them")
	flag.StringVar(&o.work, "work", "", "`DIR` for the store")
	flag.IntVar(&o.queries, "queries", 100, "to ask")
	flag.IntVar(&o.k, "k", 10, "results a query")
	flag.Float64Var(&o.recall, "recall", 0.95, "target recall")
	flag.Int64Var(&o.gap, "gap", 0, "bytes between two ranges that are read at once, 0 for what a server uses")
	flag.DurationVar(&o.delay, "delay", 20*time.Millisecond, "that a read takes; long enough that reads side by side overlap")
	flag.Parse()
	if *data == "" || o.work == "" || o.queries < 1 || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "rounds: want --data, --work and at least one query")
		os.Exit(2)
	}
	if err := run(context.Background(), o, *data); err != nil {
		fmt.Fprintln(os.Stderr, "rounds:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, data string) error {
	set, err := dataset.Load(data)
	if err != nil {
		return err
	}
	store, snap, err := openStore(ctx, o, set)
	if err != nil {
		return err
	}
	defer store.Close()
	set.Trim(o.queries)
	seg := snap.Segments[0]
	fmt.Printf("%d x %d: quantizer %d KB, footer %d KB, lists and ids %d MB, data.parquet %d MB\n\n", set.Rows, set.Dim,
		snap.Quantizers[0].Size/1000, seg.Footer.Length/1000, seg.Index.Size/1e6, seg.Data.Size/1e6)
	fmt.Println("| the first search of a process | include | rounds | GETs | KB | most GETs | most KB | recall |")
	fmt.Println("|---|---|---|---|---|---|---|---|")
	for _, known := range []bool{false, true} {
		for _, include := range [][]string{{}, {"metadata"}, {"metadata", "vector"}} {
			var seen []reading
			for i := range set.Truth {
				r, err := ask(ctx, o, store, set, i, include, known)
				if err != nil {
					return fmt.Errorf("query %d: %w", i, err)
				}
				seen = append(seen, r)
			}
			report(o, seen, known, include)
		}
	}
	return nil
}

// ask puts query i to a new service.
func ask(ctx context.Context, o options, store blob.Store, set *dataset.Set, i int, include []string, known bool) (reading, error) {
	counted := &countingStore{Store: store, delay: o.delay}
	ranges, err := cache.New(cache.Config{Bytes: 256 << 20, GapBytes: o.gap}, counted)
	if err != nil {
		return reading{}, err
	}
	defer ranges.Close()
	service, err := query.New(query.Config{Store: counted, Ranges: ranges})
	if err != nil {
		return reading{}, err
	}
	defer service.Close()
	consistency := "eventual"
	request := &query.SearchRequest{Vector: set.Query(i), K: &o.k, TargetRecall: &o.recall, Include: &include, Consistency: &consistency}
	if known {
		if _, err := service.ListCollections(ctx); err != nil {
			return reading{}, err
		}
		counted.reset()
	}
	got, _, err := service.Search(ctx, name, request)
	if err != nil {
		return reading{}, err
	}
	r := counted.read()
	for _, row := range got.Results {
		if slices.ContainsFunc(set.Truth[i][:o.k], func(want uint32) bool { return idOf(int(want)) == row.ID }) {
			r.found++
		}
	}
	return r, nil
}

func report(o options, seen []reading, known bool, include []string) {
	state := "knows nothing"
	if known {
		state = "knows the manifest"
	}
	pick := func(of func(reading) int64, q float64) int64 {
		values := make([]int64, len(seen))
		for i, r := range seen {
			values[i] = of(r)
		}
		slices.Sort(values)
		return values[min(int(q*float64(len(values))), len(values)-1)]
	}
	found := 0
	for _, r := range seen {
		found += r.found
	}
	rounds := func(r reading) int64 { return r.rounds }
	gets := func(r reading) int64 { return r.gets }
	bytes := func(r reading) int64 { return r.bytes / 1000 }
	fmt.Printf("| %s | %v | %d | %d | %d | %d | %d | %.4f |\n", state, include, pick(rounds, 0.5), pick(gets, 0.5), pick(bytes, 0.5),
		pick(gets, 1), pick(bytes, 1), float64(found)/float64(o.k*len(seen)))
}

const (
	collection = "ROUNDS"
	name       = "rounds"
)

func idOf(row int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012x", row) }

// openStore builds what is searched, unless that was done before.
func openStore(ctx context.Context, o options, set *dataset.Set) (*fileblob.Store, *manifest.Snapshot, error) {
	if err := os.MkdirAll(o.work, 0o755); err != nil {
		return nil, nil, err
	}
	store, err := fileblob.Open(filepath.Join(o.work, "store"))
	if err != nil {
		return nil, nil, err
	}
	snap, _, err := manifest.Read(ctx, store, collection)
	if err == nil && len(snap.Segments) > 0 {
		return store, snap, nil
	}
	if err != nil && !errors.Is(err, blob.ErrNotFound) {
		return nil, nil, err
	}
	snap, err = build(ctx, o, store, set)
	return store, snap, err
}

func build(ctx context.Context, o options, store blob.Store, set *dataset.Set) (*manifest.Snapshot, error) {
	if err := set.LoadBase(); err != nil {
		return nil, err
	}
	rows := &segments.Rows{Vectors: set.Base}
	for i := range set.Rows {
		rows.IDs = append(rows.IDs, idOf(i))
		rows.Metadata = append(rows.Metadata, fmt.Appendf(nil, `{"title":"row %d","year":%d,"tags":["t%d","t%d"],"price":%d.5}`, i, 1950+i%75, i%17, i%101, i%997))
		rows.Seqs = append(rows.Seqs, uint64(i+1))
	}
	built, err := segments.Build(ctx, segments.BuildConfig{Dim: set.Dim, Metric: set.Metric, Seed: 1, Dir: o.work, Index: ivfpq.Config{Kind: ivfpq.IVF}}, rows)
	if err != nil {
		return nil, err
	}
	defer built.Close()
	quantizer, err := segments.PutQuantizer(ctx, store, collection, "Q", built.Quantizer())
	if err != nil {
		return nil, err
	}
	segment, err := built.Upload(ctx, store, collection, "S", "Q")
	if err != nil {
		return nil, err
	}
	log, err := manifest.Create(ctx, store, manifest.Collection{ID: collection, Name: name, Dimension: set.Dim, Metric: set.Metric.String(), CreatedAt: time.Now()}, "rounds")
	if err != nil {
		return nil, err
	}
	return log.Commit(ctx, func(next *manifest.Snapshot) error {
		next.Quantizers, next.Segments = []manifest.Quantizer{quantizer}, []manifest.Segment{segment}
		next.FlushedSeq = uint64(set.Rows)
		return nil
	})
}
