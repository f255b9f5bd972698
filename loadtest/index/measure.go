package main

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/akidb/akidb/loadtest/dataset"
)

// measurer measures settings in one mode.
type measurer struct {
	set      *dataset.Set
	index    *index
	mode     string
	seconds  float64
	prepared map[setting]line
}

const k = 10

// settings are those to measure: the ones given, or the best of a grid, tried on a part of the
// queries.
func (m *measurer) settings(given string) ([]setting, error) {
	if given != "" {
		return parsePoints(given)
	}
	const tried = 1000
	type point struct {
		setting
		recall, seconds float64
	}
	var points []point
	s := m.index.searcher(m.set)
	var out []uint32
	for _, nprobe := range []int{4, 6, 8, 10, 12, 14, 17, 20, 24, 28, 34, 40, 48, 56, 68, 80, 96, 116, 140} {
		for _, depth := range []int{30, 45, 60, 80, 100, 130, 170, 220, 280, 360, 480} {
			at := setting{nprobe, depth}
			if nprobe > m.index.postings.Quantizer().Lists() {
				continue
			}
			hits, best := 0, 0.0
			for range 2 {
				began := time.Now()
				hits = 0
				for i := range min(tried, len(m.set.Truth)) {
					var err error
					if out, err = s.search(i, k, at, out); err != nil {
						return nil, err
					}
					hits += common(out, m.set.Truth[i][:k])
				}
				if took := time.Since(began).Seconds(); best == 0 || took < best {
					best = took
				}
			}
			points = append(points, point{at, float64(hits) / float64(k*min(tried, len(m.set.Truth))), best})
		}
	}
	// The front: more recall than all that are faster.
	slices.SortFunc(points, func(a, b point) int {
		if a.seconds < b.seconds {
			return -1
		}
		return 1
	})
	var front []setting
	best, last := 0.0, 0.0
	for _, p := range points {
		// Steps of half a tenth of what is lost, in the range that anybody asks for.
		if p.recall > best && p.recall > 0.85 && 1-p.recall < 0.95*(1-last) {
			front, last = append(front, p.setting), p.recall
		}
		best = max(best, p.recall)
		if best > 0.997 {
			break
		}
	}
	if len(front) == 0 {
		return nil, fmt.Errorf("no setting of the grid reaches recall 0.85")
	}
	return front, nil
}

// common counts the rows that are in both.
func common(found, truth []uint32) (n int) {
	for _, row := range found {
		if slices.Contains(truth, row) {
			n++
		}
	}
	return n
}

// prepare finds the recalls, which repeating does not change.
func (m *measurer) prepare(settings []setting) error {
	m.prepared = map[setting]line{}
	s := m.index.searcher(m.set)
	for _, at := range settings {
		l := line{Setting: at.String(), Dataset: m.set.Name, Mode: m.mode, BuildCPU: m.index.BuildCPU, Bytes: m.index.bytesPerVector()}
		var out []uint32
		var err error
		s.scanned = 0
		hits1, hits10, hits100 := 0, 0, 0
		for i, truth := range m.set.Truth {
			if out, err = s.search(i, k, at, out); err != nil {
				return err
			}
			hits1 += common(out[:1], truth[:1])
			hits10 += common(out, truth[:k])
		}
		n := len(m.set.Truth)
		l.Recall1, l.Recall10, l.Scanned = float64(hits1)/float64(n), float64(hits10)/float64(k*n), float64(s.scanned)/float64(n)
		// For 100 the depth grows with it, as it does for the peers.
		n = min(n, 1000)
		for i, truth := range m.set.Truth[:n] {
			if out, err = s.search(i, 100, setting{at.nprobe, 10 * at.depth}, out); err != nil {
				return err
			}
			hits100 += common(out, truth)
		}
		l.Recall99 = float64(hits100) / float64(100*n)
		m.prepared[at] = l
	}
	return nil
}

// measure runs one setting for about so many seconds.
func (m *measurer) measure(at setting, codebook string) line {
	l := m.prepared[at]
	l.System = "akidb " + codebook
	began, cpu := time.Now(), cpuSeconds()
	done := 0
	switch m.mode {
	case "batch":
		done = m.batches(at)
	case "threads2":
		var group sync.WaitGroup
		var counts [2]int
		for t := range counts {
			group.Go(func() { counts[t] = m.singles(at, t*len(m.set.Truth)/len(counts)) })
		}
		group.Wait()
		done = counts[0] + counts[1]
	default:
		done = m.singles(at, 0)
	}
	l.QPS = float64(done) / time.Since(began).Seconds()
	l.QPSCPU = float64(done) / (cpuSeconds() - cpu)
	return l
}

// singles searches for one query after the other, from first on, and counts them.
func (m *measurer) singles(at setting, first int) (done int) {
	s := m.index.searcher(m.set)
	out := make([]uint32, 0, k)
	began := time.Now()
	for i := first; ; i = (i + 1) % len(m.set.Truth) {
		var err error
		if out, err = s.search(i, k, at, out); err != nil {
			panic("BUG: " + err.Error()) // prepare has searched for it
		}
		if done++; done%64 == 0 && time.Since(began).Seconds() >= m.seconds {
			return done
		}
	}
}

// batches searches for one batch after the other.
func (m *measurer) batches(at setting) (done int) {
	b := &batch{searcher: m.index.searcher(m.set)}
	found := make([][]uint32, batchQueries)
	began := time.Now()
	for first := 0; ; {
		n := min(batchQueries, len(m.set.Truth)-first)
		if err := b.search(first, n, k, at, found); err != nil {
			panic("BUG: " + err.Error())
		}
		done += n
		if first += n; first == len(m.set.Truth) {
			first = 0
		}
		if time.Since(began).Seconds() >= m.seconds {
			return done
		}
	}
}
