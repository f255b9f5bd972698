package ivfpq

import (
	"encoding/binary"
	"fmt"
)

// Prior is what a segment of the same quantizer already knows of rows that are indexed again: a
// merge copies their codes and neither looks for their lists nor codes them again.
type Prior struct {
	Postings *Postings
	Data     ListData // has every list
	// Row says which row of the input an ordinal of the segment is; false if it is left out.
	Row func(ordinal uint32) (row uint32, ok bool)
}

// known is where the codes of rows are, by row of the input.
type known struct {
	priors  []Prior
	from    []int32  // index into priors + 1; 0 for a row that has to be coded
	ordinal []uint32 // in that segment
	spill   []uint32 // position among the spilled rows of its second list
}

// takePriors fills first and second for the rows of priors.
func (x *Index) takePriors(priors []Prior, first, second []uint32) (*known, error) {
	k := &known{priors: priors}
	if len(priors) == 0 {
		return k, nil
	}
	k.from, k.ordinal, k.spill = make([]int32, len(first)), make([]uint32, len(first)), make([]uint32, len(first))
	for i, p := range priors {
		if p.Postings.quantizer != x.Quantizer {
			return nil, fmt.Errorf("prior %d has another quantizer", i)
		}
		for list, l := range p.Postings.lists {
			if err := k.take(int32(i), uint32(list), l, first, second); err != nil {
				return nil, fmt.Errorf("prior %d, list %d: %w", i, list, err)
			}
		}
	}
	return k, nil
}

func (k *known) take(prior int32, list uint32, l List, first, second []uint32) error {
	p := k.priors[prior]
	row := func(ordinal uint32) (uint32, bool, error) {
		row, ok := p.Row(ordinal)
		if ok && int(row) >= len(first) {
			return 0, false, fmt.Errorf("ordinal %d is row %d of %d", ordinal, row, len(first))
		}
		return row, ok, nil
	}
	for ordinal := l.First; ordinal < l.First+l.Count; ordinal++ {
		r, ok, err := row(ordinal)
		if err != nil {
			return err
		}
		if ok {
			k.from[r], k.ordinal[r], first[r] = prior+1, ordinal, list
		}
	}
	v, err := k.view(prior, list)
	if err != nil {
		return err
	}
	for j := range l.Spilled {
		ordinal := binary.LittleEndian.Uint32(v.spilled[4*j:])
		r, ok, err := row(ordinal)
		if err != nil {
			return err
		}
		if ok && second != nil {
			k.spill[r], second[r] = j, list
		}
	}
	return nil
}

func (k *known) view(prior int32, list uint32) (listView, error) {
	p := k.priors[prior]
	l := p.Postings.lists[list]
	data := p.Data.List(list)
	if want := p.Postings.quantizer.ListSize(l); len(data) != want {
		return listView{}, fmt.Errorf("got %d bytes, want %d", len(data), want)
	}
	return p.Postings.quantizer.view(l, data)
}

// has reports whether the codes of a row are known.
func (k *known) has(row uint32) bool { return k.from != nil && k.from[row] != 0 }

// views are those of one list in every prior.
func (k *known) views(list uint32) ([]listView, error) {
	out := make([]listView, len(k.priors))
	for i := range out {
		var err error
		if out[i], err = k.view(int32(i), list); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// copyOwn copies the codes of a row in its own list, as row j of what w writes.
func (k *known) copyOwn(w *listWriter, j int, row, list uint32, views []listView) {
	from := k.from[row] - 1
	v := views[from]
	position := int(k.ordinal[row] - k.priors[from].Postings.lists[list].First)
	w.scan.read(j, v.blocks, position, v.scales)
	code, scale, square := v.refineOf(position, w.codeDim)
	copy(w.refineSlot(j), code)
	w.putRefineFactors(j, scale, square)
}

// copySpilled copies the scan code of a row in its second list, to a position of what w writes.
func (k *known) copySpilled(w *listWriter, at int, row, list uint32, views []listView) {
	from := k.from[row] - 1
	v := views[from]
	w.scan.read(at, v.blocks, k.priors[from].Postings.lists[list].spillStart()+int(k.spill[row]), v.scales)
}
