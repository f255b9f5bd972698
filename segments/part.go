package segments

import "github.com/akidb/akidb/segments/manifest"

// Part is a view of some of v's segments, by their index in v.Segments, in the
// order given. It shares everything with v and says that it is of the same
// version.
func (v *View) Part(of []int) *View {
	snap := *v.Snapshot
	snap.Segments = make([]manifest.Segment, len(of))
	part := *v
	part.Snapshot, part.Segments = &snap, make([]LiveSegment, len(of))
	for i, at := range of {
		snap.Segments[i], part.Segments[i] = v.Snapshot.Segments[at], v.Segments[at]
	}
	return &part
}
