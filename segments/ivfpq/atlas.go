package ivfpq

import (
	"context"
	"math"
	"slices"

	"github.com/akidb/akidb/kernels"
)

const (
	trainNeighbours  = 24 // that a row looks at while centroids are trained
	rowRegions       = 4  // that a row looks for its centroid in
	neighbourRegions = 12 // that a centroid looks for its neighbours in
	walkSteps        = 4  // from a centroid to a nearer neighbour, at most
)

// An atlas finds the centroid nearest to a row without comparing it with all of them: the nearest
// of those in the few regions nearest to the row, and then from neighbour to neighbour.
type atlas struct {
	*clusters
	regions *clusters
	members []*clusters // of each region: its centroids
	names   [][]uint32  // and which they are
	near    []uint32    // count × fan: each centroid's nearest, itself first
	fan     int
}

func newAtlas(ctx context.Context, workers int, c *clusters, fan int) (*atlas, error) {
	a := &atlas{clusters: c, fan: min(fan, c.count())}
	if err := a.findRegions(ctx, workers); err != nil {
		return nil, err
	}
	a.near = make([]uint32, c.count()*a.fan)
	scratch := make([]walker, workers)
	err := parallel(ctx, workers, c.count(), func(worker, i int) { a.findNear(&scratch[worker], uint32(i)) })
	return a, err
}

// findRegions clusters the centroids themselves. They start from evenly spaced ones: neighbours
// have neighbouring numbers where the centroids are in tour order, and else any will do.
func (a *atlas) findRegions(ctx context.Context, workers int) error {
	count := a.count()
	parts := min(count, int(2*math.Sqrt(float64(count))))
	starts := make([]uint32, parts)
	for i := range starts {
		starts[i] = uint32(i * count / parts)
	}
	a.regions = newClusters(a.dim, chosen(a.centroids, a.dim, starts))
	own := make([]uint32, count)
	for range partIterations {
		if err := assignAll(ctx, workers, a.regions, a.centroids, own); err != nil {
			return err
		}
		if err := a.regions.update(ctx, workers, a.centroids, own); err != nil {
			return err
		}
	}
	if err := assignAll(ctx, workers, a.regions, a.centroids, own); err != nil {
		return err
	}
	a.names = groupRows(own, parts)
	a.members = make([]*clusters, parts)
	for i, names := range a.names {
		a.members[i] = newClusters(a.dim, chosen(a.centroids, a.dim, names))
	}
	return nil
}

// nearRegions returns the regions nearest to a row, in no order.
func (w *walker) nearRegions(a *atlas, row []float32, count int) []uint32 {
	parts := a.regions.count()
	w.distances = slices.Grow(w.distances[:0], parts)[:parts]
	w.regions = slices.Grow(w.regions[:0], parts)[:parts]
	kernels.DotRows(row, a.regions.centroids, w.distances)
	for i, d := range w.distances {
		w.distances[i], w.regions[i] = a.regions.halfNorms[i]-d, uint32(i)
	}
	count = min(count, parts)
	selectPairs(w.distances, w.regions, count)
	return w.regions[:count]
}

// findNear fills the neighbours of a centroid: of those in the regions around it, enough that few
// are missed.
func (a *atlas) findNear(w *walker, name uint32) {
	c := a.row(int(name))
	w.near.reset(a.fan)
	regions := w.nearRegions(a, c, a.regions.count())
	wanted := max(4*a.fan, neighbourRegions*a.count()/a.regions.count())
	seen := 0
	// selectPairs put the nearest few in front; the rest is needed where those are small.
	for taken := 0; taken < len(regions) && (seen < wanted || taken < neighbourRegions); {
		step := min(neighbourRegions, len(regions)-taken)
		selectPairs(w.distances[taken:len(regions)], regions[taken:], step)
		for _, r := range regions[taken : taken+step] {
			m := a.members[r]
			w.row = slices.Grow(w.row[:0], m.count())[:m.count()]
			kernels.DotRows(c, m.centroids, w.row)
			for j, d := range w.row {
				x := entry{distance: m.halfNorms[j] - d, number: a.names[r][j]}
				if x.number == name {
					x.distance = float32(math.Inf(-1)) // also where another is the same
				}
				w.near.add(x)
			}
			seen += m.count()
		}
		taken += step
	}
	for j, x := range w.near.sorted() {
		a.near[int(name)*a.fan+j] = x.number
	}
}

// A walker is the memory of one goroutine that looks rows up.
type walker struct {
	dots      [trainNeighbours]float32
	distances []float32
	regions   []uint32
	row       []float32
	near      shortlist
}

// walk returns the nearest centroid that can be reached from one, from neighbour to neighbour.
func (w *walker) walk(a *atlas, row []float32, from uint32) uint32 {
	for range walkSteps {
		near := a.near[int(from)*a.fan:][:a.fan]
		kernels.DotGather(row, a.centroids, near, w.dots[:a.fan])
		best, at := float32(math.Inf(1)), from
		for j, c := range near {
			if d := a.halfNorms[c] - w.dots[j]; d < best {
				best, at = d, c
			}
		}
		if at == from {
			break
		}
		from = at
	}
	return from
}

// assignRows writes the nearest centroid of each row to first.
func (w *walker) assignRows(a *atlas, rows []float32, first []uint32) {
	n := len(first)
	regions := min(rowRegions, a.regions.count())
	byRegion := make([][]uint32, a.regions.count()) // row·regions + rank
	for i := range n {
		for j, r := range w.nearRegions(a, rows[i*a.dim:(i+1)*a.dim], regions) {
			byRegion[r] = append(byRegion[r], uint32(i*regions+j))
		}
	}
	found := make([]uint32, n*regions)
	var group []float32
	var picks []uint32
	for r, which := range byRegion {
		group = group[:0]
		for _, x := range which {
			i := int(x) / regions
			group = append(group, rows[i*a.dim:(i+1)*a.dim]...)
		}
		picks = slices.Grow(picks[:0], len(which))[:len(which)]
		if len(a.names[r]) == 0 {
			for _, x := range which {
				found[x] = nobody
			}
			continue
		}
		a.members[r].assign(group, picks)
		for j, x := range which {
			found[x] = a.names[r][picks[j]]
		}
	}
	for i := range first {
		row := rows[i*a.dim : (i+1)*a.dim]
		first[i] = w.walk(a, row, w.nearest(a, row, found[i*regions:(i+1)*regions]))
	}
}

// nearest is the centroid nearest to a row, of a few; nobody is none.
func (w *walker) nearest(a *atlas, row []float32, few []uint32) uint32 {
	few = slices.DeleteFunc(few, func(c uint32) bool { return c == nobody })
	if len(few) == 0 {
		return 0
	}
	kernels.DotGather(row, a.centroids, few, w.dots[:len(few)])
	best := 0
	for j, c := range few {
		w.dots[j] = a.halfNorms[c] - w.dots[j]
		if w.dots[j] < w.dots[best] {
			best = j
		}
	}
	return few[best]
}
