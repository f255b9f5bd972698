package ivfpq

// selectPairs moves the count least of d, ties by id, to the front, and the ids with them, in no
// order. No element of d is NaN.
//
// It is quickselect (Hoare 1961) with a partition that has no branch to mispredict (Lomuto's, with
// the swap done always): which side an element goes to is as good as random, and a wrong guess
// costs as much as moving ten.
func selectPairs[T uint32 | uint64](d []float32, id []T, count int) {
	id = id[:len(d)]
	low, high := 0, len(d)
	for low < count && count < high {
		if high-low <= sortedAtOnce {
			sortPairs(d[low:high], id[low:high])
			return
		}
		pivot := medianOf(d[low], d[(low+high)/2], d[high-1])
		less := low + partition(d[low:high], id[low:high], pivot, false)
		if count <= less {
			high = less
			continue
		}
		equal := less + partition(d[less:high], id[less:high], pivot, true)
		if count < equal {
			selectIDs(id[less:equal], count-less)
			return
		}
		low = equal
	}
}

// sortedAtOnce is how many are sorted rather than divided again.
const sortedAtOnce = 12

// partition moves what is less than the pivot, or at most as large, to the front, and returns how
// many that are.
func partition[T uint32 | uint64](d []float32, id []T, pivot float32, orEqual bool) (count int) {
	id = id[:len(d)]
	for i, x := range d {
		y := id[i]
		d[i], id[i] = d[count], id[count]
		d[count], id[count] = x, y
		one := 0
		if x < pivot {
			one = 1
		}
		if orEqual && x == pivot {
			one = 1
		}
		count += one
	}
	return count
}

func medianOf(a, b, c float32) float32 {
	if b < a {
		a, b = b, a
	}
	if c < b {
		b = max(a, c)
	}
	return b
}

// sortPairs sorts a few by insertion.
func sortPairs[T uint32 | uint64](d []float32, id []T) {
	for i := 1; i < len(d); i++ {
		x, y := d[i], id[i]
		j := i
		for ; j > 0 && (x < d[j-1] || x == d[j-1] && y < id[j-1]); j-- {
			d[j], id[j] = d[j-1], id[j-1]
		}
		d[j], id[j] = x, y
	}
}

// selectIDs moves the count least ids to the front. Their distances are equal, which is rare.
func selectIDs[T uint32 | uint64](id []T, count int) {
	for i := range count {
		least := i
		for j := i + 1; j < len(id); j++ {
			if id[j] < id[least] {
				least = j
			}
		}
		id[i], id[least] = id[least], id[i]
	}
}
