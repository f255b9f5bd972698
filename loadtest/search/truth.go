package main

import (
	"cmp"
	"runtime"
	"slices"
	"sync"

	"github.com/akidb/akidb/loadtest/dataset"
	"github.com/akidb/akidb/segments/ivfpq"
)

// truthOf returns, for every query, the row numbers that an exact answer may hold: the k nearest of
// those that pass the filter, and whatever lies as far as the k-th. Without a filter it is the folder's.
func truthOf(set *dataset.Set, k int, share float64) (truth [][]uint32, matches int, err error) {
	if share == 1 {
		truth = make([][]uint32, len(set.Truth))
		for i, list := range set.Truth {
			truth[i] = list[:k]
		}
		return truth, set.Rows, nil
	}
	if set.Base == nil {
		if err := set.LoadBase(); err != nil {
			return nil, 0, err
		}
	}
	limit := below(share)
	var rows []uint32
	var vectors []float32
	for row := range set.Rows {
		if bucketOf(row) < limit {
			rows = append(rows, uint32(row))
			vectors = append(vectors, set.Base[row*set.Dim:(row+1)*set.Dim]...)
		}
	}
	truth = make([][]uint32, len(set.Truth))
	var group sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		group.Go(func() {
			distances := make([]float32, len(rows))
			order := make([]int, len(rows))
			for i := w; i < len(truth); i += workers {
				ivfpq.Distances(set.Metric, set.Query(i), vectors, distances)
				truth[i] = nearest(rows, distances, order, k)
			}
		})
	}
	group.Wait()
	return truth, len(rows), nil
}

func nearest(rows []uint32, distances []float32, order []int, k int) (out []uint32) {
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(distances[a], distances[b]) })
	for n, i := range order {
		if n >= k && distances[i] > distances[order[k-1]] {
			break
		}
		out = append(out, rows[i])
	}
	return out
}

// found is how many of the answer belong to it.
func found(answer, truth []uint32) (n int) {
	for _, row := range answer {
		if slices.Contains(truth, row) {
			n++
		}
	}
	return n
}
