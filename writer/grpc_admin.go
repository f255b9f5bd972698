package writer

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	akidbv1 "github.com/akidb/akidb/api/akidb/v1"
	"github.com/akidb/akidb/internal/grpcapi"
)

func (w *Writer) grpcFlush(ctx context.Context, req *akidbv1.FlushRequest) (*akidbv1.FlushResponse, error) {
	m, err := w.flush(ctx, req.Collection)
	return &akidbv1.FlushResponse{ManifestVersion: m.ManifestVersion, FlushedSeq: m.FlushedSeq, SegmentCount: int64(m.SegmentCount)}, err
}

func (w *Writer) grpcCompact(ctx context.Context, req *akidbv1.CompactRequest) (*akidbv1.CompactResponse, error) {
	m, err := w.compact(ctx, req.Collection)
	return &akidbv1.CompactResponse{ManifestVersion: m.ManifestVersion, FlushedSeq: m.FlushedSeq, SegmentCount: int64(m.SegmentCount)}, err
}

func snapshotMessage(s snapshotInfo) *akidbv1.Snapshot {
	return &akidbv1.Snapshot{
		SnapshotId: s.SnapshotID, Name: s.Name, ManifestVersion: s.ManifestVersion, VectorCount: s.VectorCount, CreatedAt: timestamppb.New(s.CreatedAt),
	}
}

func (w *Writer) grpcCreateSnapshot(ctx context.Context, req *akidbv1.CreateSnapshotRequest) (*akidbv1.CreateSnapshotResponse, error) {
	s, err := w.takeSnapshot(ctx, req.Collection, snapshotBody{Name: req.Name, Export: req.Export})
	return &akidbv1.CreateSnapshotResponse{Snapshot: snapshotMessage(s)}, err
}

func (w *Writer) grpcListSnapshots(_ context.Context, req *akidbv1.ListSnapshotsRequest) (*akidbv1.ListSnapshotsResponse, error) {
	list, err := w.snapshots(req.Collection)
	out := &akidbv1.ListSnapshotsResponse{}
	for _, s := range list {
		out.Snapshots = append(out.Snapshots, snapshotMessage(s))
	}
	return out, err
}

func (w *Writer) grpcDeleteSnapshot(ctx context.Context, req *akidbv1.DeleteSnapshotRequest) (*akidbv1.DeleteSnapshotResponse, error) {
	return &akidbv1.DeleteSnapshotResponse{}, w.dropSnapshot(ctx, req.Collection, req.SnapshotId)
}

func (w *Writer) grpcRestore(ctx context.Context, req *akidbv1.RestoreRequest) (*akidbv1.RestoreResponse, error) {
	r, err := w.restore(ctx, req.Collection, restoreBody{SnapshotID: req.SnapshotId})
	return &akidbv1.RestoreResponse{SnapshotId: r.SnapshotID, VectorCount: r.VectorCount, ManifestVersion: r.ManifestVersion, Token: r.Token}, err
}

func (w *Writer) grpcBranch(ctx context.Context, req *akidbv1.BranchRequest) (*akidbv1.BranchResponse, error) {
	i, err := w.branchAs(ctx, req.Collection, branchBody{Name: req.Name, SnapshotID: req.SnapshotId})
	return &akidbv1.BranchResponse{Collection: grpcapi.Collection(i)}, err
}

func (w *Writer) grpcPromote(ctx context.Context, req *akidbv1.PromoteRequest) (*akidbv1.PromoteResponse, error) {
	p, err := w.place(ctx, req.Collection, promote, req.Tier)
	return &akidbv1.PromoteResponse{CollectionId: p.CollectionID, Tier: p.Tier, Pinned: p.Pinned, ManifestVersion: p.ManifestVersion}, err
}

func (w *Writer) grpcDemote(ctx context.Context, req *akidbv1.DemoteRequest) (*akidbv1.DemoteResponse, error) {
	p, err := w.place(ctx, req.Collection, demote, req.Tier)
	return &akidbv1.DemoteResponse{CollectionId: p.CollectionID, Tier: p.Tier, Pinned: p.Pinned, ManifestVersion: p.ManifestVersion}, err
}

func (w *Writer) grpcPin(ctx context.Context, req *akidbv1.PinRequest) (*akidbv1.PinResponse, error) {
	p, err := w.place(ctx, req.Collection, pinned, "")
	return &akidbv1.PinResponse{CollectionId: p.CollectionID, Tier: p.Tier, Pinned: p.Pinned, ManifestVersion: p.ManifestVersion}, err
}

func (w *Writer) grpcUnpin(ctx context.Context, req *akidbv1.UnpinRequest) (*akidbv1.UnpinResponse, error) {
	p, err := w.place(ctx, req.Collection, unpinned, "")
	return &akidbv1.UnpinResponse{CollectionId: p.CollectionID, Tier: p.Tier, Pinned: p.Pinned, ManifestVersion: p.ManifestVersion}, err
}

func (w *Writer) grpcListDeadLetters(context.Context, *akidbv1.ListDeadLettersRequest) (*akidbv1.ListDeadLettersResponse, error) {
	out := &akidbv1.ListDeadLettersResponse{}
	for _, d := range w.dead.list() {
		out.Entries = append(out.Entries, &akidbv1.DeadLetter{
			Id: d.ID, Kind: d.Kind, Collection: d.Collection, CollectionId: d.CollectionID, FirstSeq: d.FirstSeq, LastSeq: d.LastSeq,
			Bytes: d.Bytes, Attempts: int64(d.Attempts), FirstFailedAt: timestamppb.New(d.FirstFailed), LastAttemptAt: timestamppb.New(d.LastAttempt),
			LastError: d.LastError,
		})
	}
	return out, nil
}

func (w *Writer) grpcRetryAll(context.Context, *akidbv1.RetryAllDeadLettersRequest) (*akidbv1.RetryAllDeadLettersResponse, error) {
	return &akidbv1.RetryAllDeadLettersResponse{Retried: int64(w.dead.retryAll())}, nil
}

func (w *Writer) grpcRetry(_ context.Context, req *akidbv1.RetryDeadLetterRequest) (*akidbv1.RetryDeadLetterResponse, error) {
	return &akidbv1.RetryDeadLetterResponse{Retried: 1}, deadLetter(req.Id, w.dead.retryOne)
}

func (w *Writer) grpcDeleteDeadLetter(_ context.Context, req *akidbv1.DeleteDeadLetterRequest) (*akidbv1.DeleteDeadLetterResponse, error) {
	return &akidbv1.DeleteDeadLetterResponse{}, deadLetter(req.Id, w.dead.forget)
}
