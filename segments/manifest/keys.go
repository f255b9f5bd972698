package manifest

import (
	"fmt"
	"regexp"
)

// Every key of a collection is made here. Ids must pass CheckID; a key is never
// taken apart again, except by comparing it with the one that is expected.

const collections = "collections/"

// CollectionPrefix is what every key of a collection begins with.
func CollectionPrefix(id string) string { return collections + id + "/" }

// CurrentKey is the one object of a collection that is ever replaced.
func CurrentKey(id string) string { return CollectionPrefix(id) + "CURRENT" }

// BodyPrefix is what the keys of all manifest bodies of a collection begin with.
func BodyPrefix(id string) string { return CollectionPrefix(id) + "manifest/" }

// BodyKey is where the body of one commit lies. Keys sort by version.
func BodyKey(id string, version uint64, commitID string) string {
	return fmt.Sprintf("%s%016d-%s", BodyPrefix(id), version, commitID)
}

// SegmentsPrefix is what the keys of all segments of a collection begin with.
func SegmentsPrefix(id string) string { return CollectionPrefix(id) + "segments/" }

// SegmentPrefix is what every key of a segment begins with.
func SegmentPrefix(id, segment string) string { return SegmentsPrefix(id) + segment + "/" }

// DataKey is a segment's Parquet file.
func DataKey(id, segment string) string { return SegmentPrefix(id, segment) + "data.parquet" }

// IndexKey is a segment's index.
func IndexKey(id, segment string) string { return SegmentPrefix(id, segment) + "index.ivf" }

// DeletesKey is one delete vector of a segment. A segment gets a new one, under
// a new unique name, whenever rows of it are superseded.
func DeletesKey(id, segment, unique string) string {
	return SegmentPrefix(id, segment) + "deletes-" + unique
}

// QuantizerPrefix is what the keys of all quantizers of a collection begin with.
func QuantizerPrefix(id string) string { return CollectionPrefix(id) + "quantizers/" }

// QuantizerKey is a quantizer that segments share.
func QuantizerKey(id, quantizer string) string { return QuantizerPrefix(id) + quantizer + ".ivq" }

var idPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$`)

// CheckID reports why s cannot be the id of a collection, segment, quantizer or
// commit.
func CheckID(s string) error {
	if !idPattern.MatchString(s) {
		return fmt.Errorf("invalid id %q: want %s", s, idPattern)
	}
	return nil
}
