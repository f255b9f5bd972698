package manifest

import (
	"context"

	"github.com/akidb/akidb/segments/blob"
)

// Pinned returns the keys that a pin keeps: of the body it names, and of every
// object that body names.
func Pinned(ctx context.Context, store blob.Store, pin Pin) ([]string, error) {
	s, err := ReadBody(ctx, store, pin.Manifest)
	if err != nil {
		return nil, err
	}
	keys := []string{pin.Manifest.Key}
	for o := range s.Objects() {
		keys = append(keys, o.Key)
	}
	return keys, nil
}

// Orphans returns what says of a key of a collection whether it is an orphan: no
// version that is kept names the object, and none to come can. Of the collection
// cur and its body s are the newest state known, and pinned are all keys that
// its pins keep. Only a collection's own objects are ever orphans.
//
// It holds for ever, however old the state is. A commit is fenced once CURRENT
// has a newer epoch, and refused once CURRENT has its version, so
//
//   - what was made in an older epoch than s's is named by s, or it was retired
//     and is listed as garbage, or it is lost;
//   - a body of s's version or an older one is in the chain or lost for ever.
//     Those in the chain are orphans too: it is for the collector to keep them
//     as long as somebody may want to read an older version.
//
// An object of s's own epoch may be on its way into the next commit, and is not
// an orphan, whatever names it.
func Orphans(cur Current, s *Snapshot, pinned map[string]bool) func(key string) bool {
	id := s.Collection.ID
	named := map[string]bool{cur.Manifest.Key: true}
	for o := range s.Objects() {
		named[o.Key] = true
	}
	for _, g := range s.Garbage {
		named[g.Key] = true
	}
	return func(key string) bool {
		if named[key] || pinned[key] {
			return false
		}
		if version, ok := BodyVersion(id, key); ok {
			return version <= s.Version
		}
		epoch, ok := ObjectEpoch(id, key)
		return ok && epoch < s.Epoch
	}
}
