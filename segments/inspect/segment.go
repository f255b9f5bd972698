package inspect

import (
	"context"
	"math/bits"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/manifest"
)

// SegmentLine is what a manifest says of a segment.
type SegmentLine struct {
	ID         string `json:"id"`
	Rows       uint32 `json:"rows"` // as built, deleted ones included
	Deleted    uint32 `json:"deleted"`
	MinSeq     uint64 `json:"min_seq"`
	MaxSeq     uint64 `json:"max_seq"`
	DataBytes  int64  `json:"data_bytes"`
	IndexBytes int64  `json:"index_bytes"`
	Quantizer  string `json:"quantizer,omitempty"` // the shared one
	Foreign    bool   `json:"foreign,omitempty"`   // it lies in a collection that this one was branched from
}

func lineOf(s *manifest.Snapshot, seg manifest.Segment) SegmentLine {
	return SegmentLine{
		ID: seg.ID, Rows: seg.Rows, Deleted: seg.Rows - seg.Live(), MinSeq: seg.MinSeq, MaxSeq: seg.MaxSeq,
		DataBytes: seg.Data.Size, IndexBytes: seg.Index.Size, Quantizer: seg.Quantizer,
		Foreign: seg.Data.Key != manifest.DataKey(s.Collection.ID, seg.ID),
	}
}

// SegmentList is the segments of a version.
type SegmentList struct {
	CollectionID string        `json:"collection_id"`
	Name         string        `json:"name"`
	Version      uint64        `json:"manifest_version"`
	Segments     []SegmentLine `json:"segments"` // oldest first
}

// Segments lists the segments of a version. It reads nothing.
func Segments(s *manifest.Snapshot) SegmentList {
	out := SegmentList{s.Collection.ID, s.Collection.Name, s.Version, []SegmentLine{}}
	for _, seg := range s.Segments {
		out.Segments = append(out.Segments, lineOf(s, seg))
	}
	return out
}

// Segment is a segment, opened.
type Segment struct {
	SegmentLine
	Kind          string                 `json:"kind"`           // exact, flat or ivf
	FormatVersion int                    `json:"format_version"` // of index.ivf
	Data          manifest.Ref           `json:"data"`           // data.parquet
	Index         manifest.Ref           `json:"index"`          // index.ivf
	Footer        manifest.Extent        `json:"footer"`         // of index.ivf
	Deletes       *manifest.DeleteVector `json:"deletes,omitempty"`
	Codes         *Codes                 `json:"codes,omitempty"` // none in an exact index
	// Attributes are the keys of the rows' metadata; nil before format 3.
	Attributes *Attributes `json:"attributes,omitempty"`
	First      []Row       `json:"first_rows,omitempty"`
}

// Attributes is the directory of the index over metadata.
type Attributes struct {
	// Complete: a key that is not listed is in no row.
	Complete bool        `json:"complete"`
	Keys     []Attribute `json:"keys"` // by name
}

// Attribute is what the index says of a key.
type Attribute struct {
	Key     string         `json:"key"`
	Rows    uint32         `json:"rows"`              // with anything there but null and []
	Values  uint32         `json:"values"`            // distinct booleans, numbers and strings
	Least   jsontext.Value `json:"least,omitempty"`   // of them; a string may be cut off
	Most    jsontext.Value `json:"most,omitempty"`    //
	Long    uint32         `json:"long,omitzero"`     // rows with a string too long to be indexed
	Dropped bool           `json:"dropped,omitempty"` // not indexed: it would have taken too much memory
}

func attributesOf(ctx context.Context, r *segments.Reader) (*Attributes, error) {
	d, err := r.Attributes(ctx)
	if err != nil || d == nil {
		return nil, err
	}
	out := &Attributes{Complete: d.Complete, Keys: []Attribute{}}
	for _, p := range d.Paths {
		a := Attribute{Key: p.Name, Rows: p.Rows, Values: p.Values, Long: p.Long, Dropped: p.Dropped}
		if p.Values > 0 {
			a.Least, a.Most = told(p.Least), told(p.Most)
		}
		out.Keys = append(out.Keys, a)
	}
	return out, nil
}

// told is the value of a sort key, which may have been cut off in the middle of a
// character.
func told(key []byte) jsontext.Value {
	if key[0] == columns.KeyString {
		key = []byte(strings.ToValidUTF8(string(key), ""))
	}
	return columns.AppendKeyJSON(nil, key)
}

// Codes is what a segment holds besides the rows themselves.
type Codes struct {
	Codebook string `json:"codebook"`
	// Residual is the mean squared distance of the segment's rows to their
	// centroids, TrainedResidual that of the rows the quantizer was trained on:
	// the further apart, the more the rows have drifted. One that no other
	// segment shares has none.
	Residual        float64       `json:"residual"`
	TrainedRows     uint64        `json:"trained_rows"`
	TrainedResidual float64       `json:"trained_residual,omitzero"`
	Lists           Lists         `json:"lists"`
	Calibration     []Calibration `json:"calibration"` // ascending recall
}

// Calibration is what a recall@10 took on the segment's own rows.
type Calibration struct {
	Recall float32 `json:"recall"`
	Probes uint32  `json:"probes"` // lists scanned
	Depth  uint32  `json:"depth"`  // candidates refined
}

// Lists is how long the posting lists of a segment are, in rows of their own.
type Lists struct {
	Count   int     `json:"count"`
	Empty   int     `json:"empty"`
	Spilled uint64  `json:"spilled"` // second codes of rows that lie in other lists, all lists together
	Mean    float64 `json:"mean"`
	Min     uint32  `json:"min"`
	P50     uint32  `json:"p50"`
	P90     uint32  `json:"p90"`
	P99     uint32  `json:"p99"`
	Max     uint32  `json:"max"`
	// Buckets are in ascending order and without the empty ones.
	Buckets []Bucket `json:"buckets"`
}

// Bucket is how many lists have From to To rows.
type Bucket struct {
	From  uint32 `json:"from"`
	To    uint32 `json:"to"`
	Lists int    `json:"lists"`
}

// Row is a stored row.
type Row struct {
	Ordinal  uint32         `json:"ordinal"` // place in the segment
	Deleted  bool           `json:"deleted,omitempty"`
	ID       string         `json:"id"`
	Seq      uint64         `json:"seq"`
	Vector   []float32      `json:"vector"`
	Metadata jsontext.Value `json:"metadata,omitzero"`
}

// Inspect opens a segment of a version, by its id or what no other one's begins
// with, and reads its first rows, as many as asked for, deleted ones included.
func Inspect(ctx context.Context, store blob.Store, s *manifest.Snapshot, id string, rows uint32) (Segment, error) {
	seg, err := segmentOf(s, id)
	if err != nil {
		return Segment{}, err
	}
	// The version as if it had nothing else, so that nothing else is opened.
	alone := *s
	alone.Segments, alone.Quantizers = []manifest.Segment{seg}, nil
	if q, ok := s.Quantizer(seg.Quantizer); ok {
		alone.Quantizers = []manifest.Quantizer{q}
	}
	view, err := segments.OpenView(ctx, blob.Direct(store), &alone, nil)
	if err != nil {
		return Segment{}, err
	}
	live := view.Segments[0]
	out := Segment{
		SegmentLine: lineOf(s, seg), Kind: live.Kind().String(), FormatVersion: live.FormatVersion(),
		Data: seg.Data, Index: seg.Index, Footer: seg.Footer, Deletes: seg.Deletes, Codes: codesOf(live.Reader),
	}
	if out.Attributes, err = attributesOf(ctx, live.Reader); err != nil {
		return Segment{}, err
	}
	out.First, err = firstRows(ctx, live, min(rows, live.Rows()))
	return out, err
}

func codesOf(r *segments.Reader) *Codes {
	p := r.Postings()
	if p == nil {
		return nil
	}
	z := p.Quantizer()
	out := &Codes{
		Codebook: z.Codebook.String(), Residual: r.Residual(), TrainedRows: z.Rows, TrainedResidual: z.Residual,
		Calibration: []Calibration{},
	}
	for _, c := range r.Calibration() {
		out.Calibration = append(out.Calibration, Calibration{c.Recall, c.NProbe, c.Depth})
	}
	lengths := make([]uint32, 0, len(p.Lists()))
	for _, l := range p.Lists() {
		lengths = append(lengths, l.Count)
		out.Lists.Spilled += uint64(l.Spilled)
	}
	out.Lists.measure(lengths)
	return out
}

// measure describes the lengths, which it sorts.
func (l *Lists) measure(lengths []uint32) {
	l.Count, l.Buckets = len(lengths), []Bucket{}
	if len(lengths) == 0 {
		return
	}
	slices.Sort(lengths)
	var total, counts = uint64(0), [33]int{}
	for _, n := range lengths {
		total += uint64(n)
		counts[bits.Len32(n)]++
	}
	l.Empty, l.Mean = counts[0], float64(total)/float64(len(lengths))
	rank := func(percent int) uint32 { return lengths[(len(lengths)*percent+99)/100-1] } // nearest rank
	l.Min, l.P50, l.P90, l.P99, l.Max = lengths[0], rank(50), rank(90), rank(99), lengths[len(lengths)-1]
	for i, n := range counts {
		if n == 0 {
			continue
		}
		b := Bucket{Lists: n}
		if i > 0 { // 1, 2-3, 4-7, …
			b.From, b.To = 1<<(i-1), uint32(uint64(1)<<i-1)
		}
		l.Buckets = append(l.Buckets, b)
	}
}

func firstRows(ctx context.Context, seg segments.LiveSegment, count uint32) ([]Row, error) {
	var out []Row
	err := seg.Scan(ctx, 0, count, columns.ProjectAll, func(first uint32, rows []columns.Row) error {
		for i, r := range rows {
			ordinal := first + uint32(i)
			out = append(out, Row{
				Ordinal: ordinal, Deleted: seg.Deleted != nil && seg.Deleted.Contains(ordinal),
				ID: r.ID, Seq: r.Seq, Vector: slices.Clone(r.Vector), Metadata: slices.Clone(jsontext.Value(r.Metadata)),
			})
		}
		return nil
	})
	return out, err
}
