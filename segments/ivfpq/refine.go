package ivfpq

import (
	"fmt"

	"github.com/akidb/akidb/kernels"
)

// ListData has the stored bytes of a segment's lists.
type ListData interface {
	// List returns all bytes of a list, or nil if they are not at hand.
	List(list uint32) []byte
}

// Part is one segment of a search.
type Part struct {
	Query    *Query // for the segment's quantizer
	Postings *Postings
	Data     ListData
}

// refineRef is a candidate whose product with the query is being computed.
type refineRef struct {
	at      int // position among the candidates
	factors *[refineFactors]byte
}

// Finalists sharpens the candidates with their refine codes and returns the rows to score with
// Distances for the k best, in no order: the Finish(k) best of those whose refine codes are at
// hand, and as many of the others, by their estimates. parts is indexed by segment number.
//
// The slice belongs to the candidates, which are used up.
func (c *Candidates) Finalists(k int, parts []Part) ([]uint64, error) {
	c.shrink()
	c.dedup()
	refined, err := c.refine(parts)
	if err != nil {
		return nil, err
	}
	wanted := Finish(k)
	if refined > wanted {
		selectPairs(c.est[:refined], c.keys[:refined], wanted)
	}
	others := len(c.keys) - refined
	if others > wanted {
		selectPairs(c.est[refined:], c.keys[refined:], wanted)
	}
	out := append(c.keys[:min(refined, wanted)], c.keys[refined:][:min(others, wanted)]...)
	return out, nil
}

// refine replaces estimates by those of the refine codes at hand, and moves these candidates to
// the front. It returns how many they are.
func (c *Candidates) refine(parts []Part) (refined int, err error) {
	var q *Query
	for i := range c.keys {
		row := RowOf(c.keys[i])
		if int(row.Segment) >= len(parts) || parts[row.Segment].Query == nil {
			return 0, fmt.Errorf("refine: row of segment %d, which is not one of the search", row.Segment)
		}
		part := &parts[row.Segment]
		if part.Query != q || q != nil && len(q.codes) == refineBatch {
			q.flushRefine(c)
			q = part.Query
		}
		p := part.Postings
		list, ok := p.ListOf(row.Ordinal)
		if !ok {
			return 0, fmt.Errorf("refine: row %d of segment %d, which has %d", row.Ordinal, row.Segment, p.rows)
		}
		data := part.Data.List(list)
		if data == nil {
			continue
		}
		l, z := p.lists[list], p.quantizer
		if len(data) != z.ListSize(l) {
			return 0, fmt.Errorf("refine list %d of segment %d: got %d bytes, want %d", list, row.Segment, len(data), z.ListSize(l))
		}
		v := listView{codes: data[z.ScanSize(l):]}
		v.factors = v.codes[int(l.Count)*z.codeDim:]
		own := int(row.Ordinal - l.First)
		factors := (*[refineFactors]byte)(v.factors[own*refineFactors:])
		kernels.Prefetch(factors[:]) // they are read after all the products
		c.est[i], c.est[refined] = c.est[refined], c.est[i]
		c.keys[i], c.keys[refined] = c.keys[refined], c.keys[i]
		q.codes = append(q.codes, &v.codes[own*z.codeDim:][:z.codeDim][0])
		q.refs = append(q.refs, refineRef{refined, factors})
		refined++
	}
	q.flushRefine(c)
	return refined, nil
}

// flushRefine computes the products that have gathered.
func (q *Query) flushRefine(c *Candidates) {
	if q == nil || len(q.codes) == 0 {
		return
	}
	dots := q.dots[:len(q.codes)]
	kernels.Dot8Each(q.code, q.codes, dots)
	for i, r := range q.refs {
		scale, square := decodeFactors(r.factors)
		c.est[r.at] = q.refined(dots[i], scale, square) * q.unit
	}
	q.codes, q.refs = q.codes[:0], q.refs[:0]
}

// refined is |y|² + |q-o|² - 2<y,q-o>, or -<q,o> - <q,y> under Dot, with y = x - o.
func (q *Query) refined(product int32, scale, square float32) float32 {
	p := float32(float32(q.scale*scale) * float32(product))
	if q.z.Metric == Dot {
		return q.constant - p
	}
	return square + q.constant - 2*p
}
