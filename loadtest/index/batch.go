package main

import (
	"slices"

	"github.com/akidb/akidb/segments/ivfpq"
)

// batchQueries are searched for at once.
const batchQueries = 4000

// pair is a list that one query of a batch probes.
type pair struct {
	query uint32
	probe ivfpq.Probe
}

// batch is the memory of a batch.
type batch struct {
	*searcher
	pools []*ivfpq.Candidates
}

// search takes the lists in turn, each for every query that probes it, nearest first for each
// query as far as that allows. found[i] becomes the k nearest of query i.
func (b *batch) search(first, count, k int, at setting, found [][]uint32) error {
	queries, err := b.postings.Quantizer().Queries(b.set.Queries[first*b.set.Dim : (first+count)*b.set.Dim])
	if err != nil {
		return err
	}
	for len(b.pools) < count {
		b.pools = append(b.pools, ivfpq.NewCandidates(1))
	}
	// The nearest list of each query comes first, so that the others meet a limit.
	nearest, rest := make([]pair, 0, count), make([]pair, 0, count*(at.nprobe-1))
	for i, q := range queries {
		b.pools[i].Reset(max(at.depth, 2*k))
		for j, p := range q.Probe(at.nprobe) {
			if j < firstPass {
				nearest = append(nearest, pair{uint32(i), p})
			} else {
				rest = append(rest, pair{uint32(i), p})
			}
		}
	}
	for _, pairs := range [][]pair{nearest, rest} {
		slices.SortFunc(pairs, func(x, y pair) int { return int(x.probe.List) - int(y.probe.List) })
		for i, p := range pairs {
			if i+1 < len(pairs) && pairs[i+1].probe.List != p.probe.List {
				next := pairs[i+1].probe
				queries[p.query].Prefetch(next, b.postings, b.resident.List(next.List))
			}
			if err := b.scan(queries[p.query], p.probe, b.pools[p.query]); err != nil {
				return err
			}
		}
	}
	for i, q := range queries {
		if found[i], err = b.finish(first+i, k, q, b.pools[i], found[i]); err != nil {
			return err
		}
	}
	return nil
}

// firstPass is how many lists of a query are scanned before the rest of the batch's.
const firstPass = 2
