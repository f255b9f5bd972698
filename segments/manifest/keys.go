package manifest

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Every key of a collection is made here, and taken apart nowhere else. Ids must
// pass CheckID.

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

// SnapshotsPrefix is what the keys of a collection's snapshots begin with. They
// lie apart from the collection, whose own folder holds what is live.
func SnapshotsPrefix(id string) string { return "snapshots/" + id + "/" }

// SnapshotKey is the description of a snapshot, for people and tools.
func SnapshotKey(id, snapshot string) string { return SnapshotsPrefix(id) + snapshot + ".json" }

// ExportKey is a snapshot exported into one Parquet file.
func ExportKey(id, snapshot string) string { return SnapshotsPrefix(id) + snapshot + ".parquet" }

// LatestExportKey is a copy of the newest export.
func LatestExportKey(id string) string { return ExportKey(id, "latest") }

// epochDigits is the least width of an epoch in an object's id.
const epochDigits = 8

// ObjectID is an id for a segment, delete vector or quantizer that is made in an
// epoch; unique must not come twice.
func ObjectID(epoch uint64, unique string) string {
	return fmt.Sprintf("%0*d-%s", epochDigits, epoch, unique)
}

// idEpoch is the epoch in an id; 0, which is older than all, for ids from before
// they had one.
func idEpoch(id string) uint64 {
	digits, _, found := strings.Cut(id, "-")
	if !found || len(digits) < epochDigits {
		return 0
	}
	epoch, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return 0
	}
	return epoch
}

// ObjectEpoch says in which epoch an object of a collection was made, by its
// key. It is false for keys that are no segment's, delete vector's or
// quantizer's, such as CURRENT and manifest bodies.
func ObjectEpoch(collection, key string) (epoch uint64, ok bool) {
	if name, found := strings.CutPrefix(key, QuantizerPrefix(collection)); found {
		id, found := strings.CutSuffix(name, ".ivq")
		return idEpoch(id), found && CheckID(id) == nil
	}
	name, found := strings.CutPrefix(key, SegmentsPrefix(collection))
	if !found {
		return 0, false
	}
	segment, file, _ := strings.Cut(name, "/")
	if CheckID(segment) != nil {
		return 0, false
	}
	switch file {
	case "data.parquet", "index.ivf":
		return idEpoch(segment), true
	}
	unique, found := strings.CutPrefix(file, "deletes-")
	return idEpoch(unique), found && CheckID(unique) == nil
}

// BodyVersion is the version that a manifest body's key speaks of. It is false
// for keys of anything else.
func BodyVersion(collection, key string) (version uint64, ok bool) {
	name, found := strings.CutPrefix(key, BodyPrefix(collection))
	digits, commit, _ := strings.Cut(name, "-")
	version, err := strconv.ParseUint(digits, 10, 64)
	return version, found && err == nil && key == BodyKey(collection, version, commit)
}

var idPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$`)

// CheckID reports why s cannot be the id of a collection, segment, quantizer or
// commit.
func CheckID(s string) error {
	if !idPattern.MatchString(s) {
		return fmt.Errorf("invalid id %q: want %s", s, idPattern)
	}
	return nil
}
