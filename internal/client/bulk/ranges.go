package bulk

import "slices"

// ranges is a set of row numbers: half-open intervals, ascending, neither touching nor overlapping.
type ranges [][2]int64

// add joins [from, to) to the set.
func (r ranges) add(from, to int64) ranges {
	if from >= to {
		return r
	}
	first := slices.IndexFunc(r, func(x [2]int64) bool { return x[1] >= from })
	if first < 0 {
		return append(r, [2]int64{from, to})
	}
	last := first
	for last < len(r) && r[last][0] <= to {
		from, to = min(from, r[last][0]), max(to, r[last][1])
		last++
	}
	return slices.Replace(r, first, last, [2]int64{from, to})
}

// after is the end of the interval that row lies in, or row itself when it lies in none.
func (r ranges) after(row int64) int64 {
	for _, x := range r {
		if x[0] <= row && row < x[1] {
			return x[1]
		}
	}
	return row
}

// count is how many rows the set holds.
func (r ranges) count() (n int64) {
	for _, x := range r {
		n += x[1] - x[0]
	}
	return n
}

func (r ranges) valid() bool {
	end := int64(-1)
	for _, x := range r {
		if x[0] <= end || x[0] >= x[1] {
			return false
		}
		end = x[1]
	}
	return true
}
