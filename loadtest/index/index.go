package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"github.com/akidb/akidb/cache"
	"github.com/akidb/akidb/kernels"
	"github.com/akidb/akidb/loadtest/dataset"
	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/fileblob"
	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/ivfpq"
	"github.com/akidb/akidb/segments/manifest"
)

// stored is what is kept of a build beside the objects.
type stored struct {
	Snapshot manifest.Snapshot
	BuildCPU float64 // seconds, of training, coding, calibrating and writing
}

// index is one segment in memory.
type index struct {
	stored
	postings *ivfpq.Postings
	resident *segments.Resident
	arenas   []*cache.Arena
	vectors  []float32 // in index order
	rows     []uint32  // of the data set, by ordinal
}

const collection = "COLLECTION"

func openIndex(set *dataset.Set, codebook string, rebuild bool) (*index, error) {
	ctx := context.Background()
	dir := set.Path("akidb", codebook)
	if rebuild {
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	store, err := fileblob.Open(dir)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	b, err := os.ReadFile(dir + ".json")
	if os.IsNotExist(err) || rebuild {
		b, err = build(ctx, set, codebook, store)
		if err == nil {
			err = os.WriteFile(dir+".json", b, 0o644)
		}
	}
	if err != nil {
		return nil, err
	}
	x := &index{}
	if err := json.Unmarshal(b, &x.stored); err != nil {
		return nil, err
	}
	view, err := segments.OpenView(ctx, blob.Direct(store), &x.Snapshot, nil)
	if err != nil {
		return nil, err
	}
	return x, x.load(ctx, view, set)
}

func build(ctx context.Context, set *dataset.Set, codebook string, store blob.Store) ([]byte, error) {
	if err := set.LoadBase(); err != nil {
		return nil, err
	}
	book, err := ivfpq.ParseCodebook(codebook)
	if err != nil {
		return nil, err
	}
	rows := &segments.Rows{Vectors: set.Base, Metadata: make([][]byte, set.Rows), Seqs: make([]uint64, set.Rows)}
	for i := range set.Rows {
		rows.IDs = append(rows.IDs, strconv.Itoa(i))
	}
	began := cpuSeconds()
	built, err := segments.Build(ctx, segments.BuildConfig{Dim: set.Dim, Metric: set.Metric, Seed: 1, Index: ivfpq.Config{Kind: ivfpq.IVF, Codebook: book}}, rows)
	if err != nil {
		return nil, err
	}
	defer built.Close()
	s := stored{BuildCPU: cpuSeconds() - began}
	s.Snapshot.Collection = manifest.Collection{ID: collection, Dimension: set.Dim, Metric: set.Metric.String()}
	quantizer, err := segments.PutQuantizer(ctx, store, collection, "Q", built.Quantizer())
	if err != nil {
		return nil, err
	}
	segment, err := built.Upload(ctx, store, collection, "S", "Q")
	if err != nil {
		return nil, err
	}
	s.Snapshot.Quantizers, s.Snapshot.Segments = []manifest.Quantizer{quantizer}, []manifest.Segment{segment}
	return json.Marshal(s)
}

// load brings the segment into memory.
func (x *index) load(ctx context.Context, view *segments.View, set *dataset.Set) error {
	segment := view.Segments[0]
	x.postings = segment.Postings()
	memory, err := x.reserve(int(segment.ResidentSize()))
	if err != nil {
		return err
	}
	if x.resident, err = view.LoadResident(ctx, 0, memory, nil); err != nil {
		return err
	}
	if memory, err = x.reserve(4 * set.Rows * set.Dim); err != nil {
		return err
	}
	x.vectors = unsafe.Slice((*float32)(unsafe.Pointer(&memory[0])), set.Rows*set.Dim)
	err = segment.Scan(ctx, 0, segment.Rows(), columns.ProjectVector, func(first uint32, rows []columns.Row) error {
		for i, row := range rows {
			copy(x.vectors[(int(first)+i)*set.Dim:], row.Vector)
		}
		return nil
	})
	if err != nil {
		return err
	}
	x.rows = make([]uint32, set.Rows)
	for ordinal := range x.rows {
		row, err := strconv.ParseUint(x.resident.ID(uint32(ordinal)), 10, 32)
		if err != nil {
			return err
		}
		x.rows[ordinal] = uint32(row)
	}
	return nil
}

func (x *index) reserve(size int) ([]byte, error) {
	a, err := cache.NewArena(size)
	if err != nil {
		return nil, err
	}
	x.arenas = append(x.arenas, a)
	return a.Bytes(), nil
}

func (x *index) close() {
	for _, a := range x.arenas {
		a.Release()
	}
}

// bytesPerVector is what searching keeps in memory beside the vectors: lists and centroids.
func (x *index) bytesPerVector() float64 {
	z := x.postings.Quantizer()
	bytes := len(z.AppendBinary(nil))
	for _, l := range x.postings.Lists() {
		bytes += z.ListSize(l)
	}
	return float64(bytes) / float64(x.postings.Rows())
}

// setting is a point of the trade between recall and speed.
type setting struct{ nprobe, depth int }

func (s setting) String() string { return fmt.Sprintf("nprobe=%d depth=%d", s.nprobe, s.depth) }

// searcher is the memory of one goroutine that searches.
type searcher struct {
	*index
	set        *dataset.Set
	candidates *ivfpq.Candidates
	distances  []float32
	ordinals   []uint32
	scanned    int
}

func (x *index) searcher(set *dataset.Set) *searcher {
	return &searcher{index: x, set: set, candidates: ivfpq.NewCandidates(1)}
}

// search writes the k nearest rows of query i to out, nearest first.
func (s *searcher) search(i, k int, at setting, out []uint32) ([]uint32, error) {
	q, err := s.postings.Quantizer().Query(s.set.Query(i))
	if err != nil {
		return nil, err
	}
	defer q.Release()
	s.candidates.Reset(max(at.depth, 2*k))
	probes := q.Probe(at.nprobe)
	for j, p := range probes {
		if j+1 < len(probes) {
			q.Prefetch(probes[j+1], s.postings, s.resident.List(probes[j+1].List))
		}
		if err := s.scan(q, p, s.candidates); err != nil {
			return nil, err
		}
	}
	return s.finish(i, k, q, s.candidates, out)
}

func (s *searcher) scan(q *ivfpq.Query, p ivfpq.Probe, c *ivfpq.Candidates) error {
	l := s.postings.Lists()[p.List]
	s.scanned += int(l.Count + l.Spilled)
	return q.ScanList(p, s.postings, s.resident.List(p.List), nil, 0, c)
}

// finish refines the candidates and scores the best with the vectors.
func (s *searcher) finish(i, k int, q *ivfpq.Query, c *ivfpq.Candidates, out []uint32) ([]uint32, error) {
	parts := [1]ivfpq.Part{{Query: q, Postings: s.postings, Data: s.resident}}
	keys, err := c.Finalists(k, parts[:])
	if err != nil {
		return nil, err
	}
	s.ordinals = s.ordinals[:0]
	for _, key := range keys {
		s.ordinals = append(s.ordinals, ivfpq.RowOf(key).Ordinal)
	}
	if cap(s.distances) < len(keys) {
		s.distances = make([]float32, 2*len(keys))
	}
	d := s.distances[:len(keys)]
	if s.set.Metric == ivfpq.L2 {
		kernels.L2Gather(s.set.Query(i), s.vectors, s.ordinals, d)
	} else { // unit vectors under cosine, so that both order alike
		kernels.DotGather(s.set.Query(i), s.vectors, s.ordinals, d)
		for j := range d {
			d[j] = -d[j]
		}
	}
	order(d, s.ordinals)
	out = out[:0]
	for _, o := range s.ordinals[:min(k, len(s.ordinals))] {
		out = append(out, s.rows[o])
	}
	return out, nil
}

// order sorts by distance; insertion, as there are about twenty.
func order(d []float32, ordinals []uint32) {
	for i := 1; i < len(d); i++ {
		for j := i; j > 0 && (d[j] < d[j-1] || d[j] == d[j-1] && ordinals[j] < ordinals[j-1]); j-- {
			d[j], d[j-1] = d[j-1], d[j]
			ordinals[j], ordinals[j-1] = ordinals[j-1], ordinals[j]
		}
	}
}

// cpuSeconds is the time that all threads of this process have run, the system's for it included.
func cpuSeconds() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic("BUG: getrusage: " + err.Error())
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)*1e-6 }
	return seconds(u.Utime) + seconds(u.Stime)
}
