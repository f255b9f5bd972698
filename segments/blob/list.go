package blob

import (
	"context"
	"iter"
	"strings"
)

// DefaultLimit is how many entries a page holds when Listing.Limit is 0.
const DefaultLimit = 1000

// Max is the number of entries a page of l may hold.
func (l Listing) Max() int {
	if l.Limit <= 0 {
		return DefaultLimit
	}
	return l.Limit
}

// Rollup returns the common prefix that stands for key in l, and whether one
// does; a key that is not rolled up stands for itself.
func (l Listing) Rollup(key string) (prefix string, ok bool) {
	if l.Delimiter == "" || !strings.HasPrefix(key, l.Prefix) {
		return "", false
	}
	i := strings.Index(key[len(l.Prefix):], l.Delimiter)
	if i < 0 {
		return "", false
	}
	return key[:len(l.Prefix)+i+len(l.Delimiter)], true
}

// Objects goes through every object of l, page by page, in key order. Common
// prefixes are passed over; l.Limit is the size of a page. After an error,
// which comes with a zero Object, it stops.
func Objects(ctx context.Context, store Store, l Listing) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		for {
			page, err := store.List(ctx, l)
			if err != nil {
				yield(Object{}, err)
				return
			}
			for _, o := range page.Objects {
				if !yield(o, nil) {
					return
				}
			}
			if page.Next == "" {
				return
			}
			l.After = page.Next
		}
	}
}
