package grpcapi

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	akidbv1 "github.com/akidb/akidb/api/akidb/v1"
	"github.com/akidb/akidb/internal/info"
)

// Collection is the message that describes a collection.
func Collection(i info.Collection) *akidbv1.Collection {
	m := &akidbv1.Collection{
		CollectionId: i.ID, Name: i.Name, Dimension: int64(i.Dimension), Metric: i.Metric,
		VectorCount: i.VectorCount, UnindexedCount: i.UnindexedCount, SegmentCount: int64(i.SegmentCount), SizeBytes: i.SizeBytes,
		Tier: string(i.Tier), ManifestVersion: i.ManifestVersion, Seq: i.Seq, CreatedAt: timestamppb.New(i.CreatedAt), ResidentBytes: i.ResidentBytes,
	}
	if p := i.Placement; p != nil {
		m.Placement = &akidbv1.Placement{Tier: string(p.Tier), Pinned: p.Pinned, Since: timestamppb.New(p.Since), Condition: string(p.Condition)}
	}
	return m
}
