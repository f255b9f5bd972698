package recall

import (
	"fmt"
	"io"

	"github.com/akidb/akidb/internal/vecfile"
)

// ReadQueries reads the vectors of a file: the first limit of them, or all when limit is 0. All must have the given dimension.
func ReadQueries(path string, format vecfile.Options, limit, dimension int) ([][]float32, error) {
	r, err := vecfile.Open(path, format)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var queries [][]float32
	for limit == 0 || len(queries) < limit {
		row, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if len(row.Vector) != dimension {
			return nil, fmt.Errorf("read %q: query %d has %d values; the collection needs %d", path, len(queries), len(row.Vector), dimension)
		}
		queries = append(queries, append([]float32(nil), row.Vector...))
	}
	if len(queries) == 0 {
		return nil, fmt.Errorf("read %q: the file has no rows", path)
	}
	return queries, nil
}

// ReadTruth reads the neighbour lists of the first count queries, each at least k long, and keeps k of each. more allows the
// file to hold lists for further queries; otherwise these mean that it belongs to another query file.
func ReadTruth(path string, count, k int, more bool) ([][]int32, error) {
	n, err := vecfile.OpenNeighbours(path)
	if err != nil {
		return nil, err
	}
	defer n.Close()
	lists := make([][]int32, 0, count)
	for {
		list, err := n.Next()
		switch {
		case err == io.EOF && len(lists) < count:
			return nil, fmt.Errorf("read %q: ground truth for %d queries, want %d", path, len(lists), count)
		case err == io.EOF:
			return lists, nil
		case err != nil:
			return nil, err
		case len(lists) == count:
			return nil, fmt.Errorf("read %q: ground truth for more than the %d queries given; does it belong to another query file?", path, count)
		case len(list) < k:
			return nil, fmt.Errorf("read %q: query %d has %d neighbours; k = %d needs at least as many", path, len(lists), len(list), k)
		}
		if lists = append(lists, list[:k:k]); more && len(lists) == count {
			return lists, nil
		}
	}
}
