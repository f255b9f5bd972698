package writer

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"

	akidbv1 "github.com/akidb/akidb/api/akidb/v1"
	"github.com/akidb/akidb/internal/grpcapi"
	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/internal/info"
)

// RegisterGRPC adds the methods that write and administer: what Register adds
// for REST.
func (w *Writer) RegisterGRPC(r *grpcapi.Router) {
	rows := grpcapi.Bound{Field: "vectors", Check: w.cfg.Limits.CheckRows}
	ids := grpcapi.Bound{Field: "ids", Check: w.cfg.Limits.CheckRows}

	registerWrite(r, akidbv1.CollectionService_CreateCollection_FullMethodName, w.grpcCreate)
	registerWrite(r, akidbv1.CollectionService_DeleteCollection_FullMethodName, w.grpcDrop)

	registerWrite(r, akidbv1.VectorService_Upsert_FullMethodName, w.grpcUpsert, rows)
	grpcapi.ClientStream(r, akidbv1.VectorService_StreamUpsert_FullMethodName, w.grpcStreamUpsert, rows)
	registerWrite(r, akidbv1.VectorService_PatchVector_FullMethodName, w.grpcPatch)
	registerWrite(r, akidbv1.VectorService_DeleteVectors_FullMethodName, w.grpcDelete, ids)
	registerWrite(r, akidbv1.VectorService_DeleteByFilter_FullMethodName, w.grpcDeleteByFilter)

	registerWrite(r, akidbv1.AdminService_Flush_FullMethodName, w.grpcFlush)
	registerWrite(r, akidbv1.AdminService_Compact_FullMethodName, w.grpcCompact)
	registerWrite(r, akidbv1.AdminService_CreateSnapshot_FullMethodName, w.grpcCreateSnapshot)
	registerWrite(r, akidbv1.AdminService_ListSnapshots_FullMethodName, w.grpcListSnapshots)
	registerWrite(r, akidbv1.AdminService_DeleteSnapshot_FullMethodName, w.grpcDeleteSnapshot)
	registerWrite(r, akidbv1.AdminService_Restore_FullMethodName, w.grpcRestore)
	registerWrite(r, akidbv1.AdminService_Branch_FullMethodName, w.grpcBranch)
	registerWrite(r, akidbv1.AdminService_Promote_FullMethodName, w.grpcPromote)
	registerWrite(r, akidbv1.AdminService_Demote_FullMethodName, w.grpcDemote)
	registerWrite(r, akidbv1.AdminService_Pin_FullMethodName, w.grpcPin)
	registerWrite(r, akidbv1.AdminService_Unpin_FullMethodName, w.grpcUnpin)
	registerWrite(r, akidbv1.AdminService_ListDeadLetters_FullMethodName, w.grpcListDeadLetters)
	registerWrite(r, akidbv1.AdminService_RetryAllDeadLetters_FullMethodName, w.grpcRetryAll)
	registerWrite(r, akidbv1.AdminService_RetryDeadLetter_FullMethodName, w.grpcRetry)
	registerWrite(r, akidbv1.AdminService_DeleteDeadLetter_FullMethodName, w.grpcDeleteDeadLetter)
}

// RegisterGRPCReads adds what RegisterReads does.
func (w *Writer) RegisterGRPCReads(r *grpcapi.Router) {
	grpcapi.Unary(r, akidbv1.CollectionService_ListCollections_FullMethodName, w.grpcList)
	grpcapi.Unary(r, akidbv1.CollectionService_GetCollection_FullMethodName, w.grpcGet)
}

// registerWrite has every failure say whether it was applied.
func registerWrite[Req, Resp proto.Message](r *grpcapi.Router, method string, h func(context.Context, Req) (Resp, error), bounds ...grpcapi.Bound) {
	grpcapi.Write(r, method, func(err error) error { return asWriteError(err) }, h, bounds...)
}

func (w *Writer) grpcCreate(ctx context.Context, req *akidbv1.CreateCollectionRequest) (*akidbv1.CreateCollectionResponse, error) {
	body := createBody{Name: req.Name, Dimension: int(req.Dimension), Metric: req.Metric}
	body.Config.Codebook = req.GetConfig().GetCodebook()
	made, err := w.createAs(ctx, body)
	if err != nil {
		return nil, err
	}
	return &akidbv1.CreateCollectionResponse{Collection: grpcapi.Collection(made)}, nil
}

func (w *Writer) grpcDrop(ctx context.Context, req *akidbv1.DeleteCollectionRequest) (*akidbv1.DeleteCollectionResponse, error) {
	c, err := w.catalog.find(req.Collection)
	if err != nil {
		return nil, err
	}
	return &akidbv1.DeleteCollectionResponse{}, w.drop(ctx, c)
}

func (w *Writer) grpcList(ctx context.Context, _ *akidbv1.ListCollectionsRequest) (*akidbv1.ListCollectionsResponse, error) {
	infos, err := w.Collections(ctx)
	if err != nil {
		return nil, classify(err).WithApplied("")
	}
	out := &akidbv1.ListCollectionsResponse{}
	for _, i := range infos {
		out.Collections = append(out.Collections, grpcapi.Collection(i))
	}
	return out, nil
}

func (w *Writer) grpcGet(ctx context.Context, req *akidbv1.GetCollectionRequest) (*akidbv1.GetCollectionResponse, error) {
	if req.AsOf != nil {
		return nil, httpapi.Unprocessable("invalid_as_of", "as_of", "as_of is %.80q, but this process is a writer, which knows collections only as they are", *req.AsOf).
			WithHint("ask a query process")
	}
	c, err := w.catalog.find(req.Collection)
	var i info.Collection
	if err == nil {
		i, err = c.info(ctx)
	}
	if err != nil {
		return nil, classify(err).WithApplied("")
	}
	return &akidbv1.GetCollectionResponse{Collection: grpcapi.Collection(i)}, nil
}

// Names of the fields that REST has headers for.
const (
	fieldDurability = "durability"
	fieldKey        = "idempotency_key"
)

// mutateFor carries out a write to c that a message asks for, and says how
// durable it is. says is what of the message makes it that write, which is not
// how and for whom it is done.
func (w *Writer) mutateFor(ctx context.Context, c *collection, durability, key *string, says proto.Message, do mutation) (answer, error) {
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	r, err := newRequest(named{fieldDurability, text(durability)}, named{fieldKey, text(key)}, func() digest {
		b, err := proto.MarshalOptions{Deterministic: true}.Marshal(says)
		if err != nil {
			panic("BUG: a message that was decoded does not marshal: " + err.Error())
		}
		return digestOf([]byte("grpc"), []byte(c.meta.ID), []byte(says.ProtoReflect().Descriptor().FullName()), b)
	})
	if err != nil {
		return answer{}, err
	}
	a, err := w.mutate(ctx, c, r, do)
	if err == nil {
		grpcapi.SetHeader(ctx, httpapi.HeaderDurability, r.durability)
	}
	return a, err
}

func (w *Writer) grpcUpsert(ctx context.Context, req *akidbv1.UpsertRequest) (*akidbv1.UpsertResponse, error) {
	c, err := w.catalog.find(req.Collection)
	if err != nil {
		return nil, err
	}
	a, err := w.upsertMessage(ctx, c, req)
	if err != nil {
		return nil, err
	}
	return &akidbv1.UpsertResponse{Upserted: a.affected, Token: a.token.String()}, nil
}

func (w *Writer) upsertMessage(ctx context.Context, c *collection, req *akidbv1.UpsertRequest) (answer, error) {
	b := newBatch(w.cfg.Limits, c.meta)
	if err := b.addMessages(req.Vectors, req.IfAbsent); err != nil {
		return answer{}, err
	}
	says := &akidbv1.UpsertRequest{Vectors: req.Vectors, IfAbsent: req.IfAbsent}
	return w.mutateFor(ctx, c, req.Durability, req.IdempotencyKey, says, b.upsert(c))
}

// addMessages checks and takes rows, as decodeJSON does those of a JSON body.
func (b *batch) addMessages(rows []*akidbv1.Vector, ifAbsent bool) error {
	if e := b.limits.CheckRows("vectors", len(rows)); e != nil {
		return e
	}
	for i, row := range rows {
		prefix := fmt.Sprintf("vectors[%d].", i)
		body := rowBody{ID: row.Id, Vector: row.Vector, condition: condition{IfAbsent: row.IfAbsent || ifAbsent, IfVersion: row.IfVersion}}
		if row.Metadata != nil {
			var err error
			if body.Metadata, err = httpapi.DecodeValue(prefix+"metadata", *row.Metadata); err != nil {
				return err
			}
		}
		if err := b.add(prefix, body); err != nil {
			return err
		}
	}
	return nil
}

// grpcStreamUpsert applies chunk after chunk. One waits for the one before to be
// durable: whoever sends too fast waits too, and at most two are in memory.
func (w *Writer) grpcStreamUpsert(ctx context.Context, next func() (*akidbv1.StreamUpsertRequest, error)) (*akidbv1.StreamUpsertResponse, error) {
	var c *collection
	var name string
	out := &akidbv1.StreamUpsertResponse{}
	for {
		chunk, err := next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, streamError(err, out)
		}
		switch {
		case c == nil:
			name = chunk.Collection
			if c, err = w.catalog.find(name); err != nil {
				return nil, streamError(err, out)
			}
		case chunk.Collection != "" && chunk.Collection != name:
			return nil, streamError(httpapi.Unprocessable("ambiguous_body", "collection",
				"collection is %.80q, but the stream began with %.80q: a stream is of one collection", chunk.Collection, name), out)
		}
		a, err := w.upsertMessage(ctx, c, &akidbv1.UpsertRequest{
			Vectors: chunk.Vectors, IfAbsent: chunk.IfAbsent, IdempotencyKey: chunk.IdempotencyKey, Durability: chunk.Durability,
		})
		if err != nil {
			return nil, streamError(err, out)
		}
		out.Chunks++
		out.Upserted += a.affected
		out.Token = a.token.String()
	}
}

// streamError says of an error what was applied before it.
func streamError(err error, done *akidbv1.StreamUpsertResponse) error {
	if grpcapi.Ended(err) {
		return err // nobody is there to be told
	}
	return grpcapi.StreamError(asWriteError(err), done)
}

func (w *Writer) grpcPatch(ctx context.Context, req *akidbv1.PatchVectorRequest) (*akidbv1.PatchVectorResponse, error) {
	c, err := w.catalog.find(req.Collection)
	if err != nil {
		return nil, err
	}
	if err := asError(w.cfg.Limits.CheckID("id", req.Id)); err != nil {
		return nil, err
	}
	metadata, err := optionalJSON("metadata", req.Metadata)
	if err != nil {
		return nil, err
	}
	change, err := w.planPatch(c, req.Id, metadata)
	if err != nil {
		return nil, err
	}
	a, err := w.mutateFor(ctx, c, req.Durability, req.IdempotencyKey, &akidbv1.PatchVectorRequest{Id: req.Id, Metadata: req.Metadata}, change)
	if err != nil {
		return nil, err
	}
	return &akidbv1.PatchVectorResponse{Id: a.id, Metadata: string(a.metadata), Version: a.token.Seq, Token: a.token.String()}, nil
}

func (w *Writer) grpcDelete(ctx context.Context, req *akidbv1.DeleteVectorsRequest) (*akidbv1.DeleteVectorsResponse, error) {
	c, err := w.catalog.find(req.Collection)
	if err != nil {
		return nil, err
	}
	if e := w.cfg.Limits.CheckRows("ids", len(req.Ids)); e != nil {
		return nil, e
	}
	remove, err := w.planDeleteIDs(c, req.Ids)
	if err != nil {
		return nil, err
	}
	a, err := w.mutateFor(ctx, c, req.Durability, req.IdempotencyKey, &akidbv1.DeleteVectorsRequest{Ids: req.Ids}, remove)
	if err != nil {
		return nil, err
	}
	return &akidbv1.DeleteVectorsResponse{Deleted: a.affected, Token: a.token.String()}, nil
}

func (w *Writer) grpcDeleteByFilter(ctx context.Context, req *akidbv1.DeleteByFilterRequest) (*akidbv1.DeleteByFilterResponse, error) {
	c, err := w.catalog.find(req.Collection)
	if err != nil {
		return nil, err
	}
	filter, err := httpapi.DecodeValue("filter", req.Filter)
	if err != nil {
		return nil, err
	}
	remove, err := w.planDeleteMatching(c, filter)
	if err != nil {
		return nil, err
	}
	a, err := w.mutateFor(ctx, c, req.Durability, req.IdempotencyKey, &akidbv1.DeleteByFilterRequest{Filter: req.Filter}, remove)
	if err != nil {
		return nil, err
	}
	return &akidbv1.DeleteByFilterResponse{Deleted: a.affected, Token: a.token.String()}, nil
}

// optionalJSON is the JSON in a field that may be missing.
func optionalJSON(field string, text *string) ([]byte, error) {
	if text == nil {
		return nil, nil
	}
	return httpapi.DecodeValue(field, *text)
}
