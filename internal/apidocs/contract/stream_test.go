package contract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	akidbv1 "github.com/akidb/akidb/api/akidb/v1"
	"github.com/akidb/akidb/internal/httpapi"
)

// rowsOf are rows of four dimensions with the ids given.
func rowsOf(ids ...string) (out []*akidbv1.Vector) {
	for _, id := range ids {
		out = append(out, &akidbv1.Vector{Id: id, Vector: []float32{1, 2, 3, 4}})
	}
	return out
}

// TestStreamUpsert: chunks are upserts one after the other, and an error says what
// was applied before it; directly and through a query process.
func TestStreamUpsert(t *testing.T) {
	limits := httpapi.Limits{BatchRows: 3, BatchBytes: 2000}
	s := setup{limits: limits}.withDefaults()
	ingest := startWriter(t, s)
	for name, target := range map[string]*server{
		"dev": startDev(t, setup{limits: limits}), "query": startQueryOf(t, s, ingest.url, ingest.addr),
	} {
		t.Run(name, func(t *testing.T) {
			if x := target.do(t, seed[0]); x.status != 201 {
				t.Fatal(x)
			}
			w := akidbv1.NewVectorServiceClient(target.grpc)
			first := akidbv1.StreamUpsertRequest{Collection: "films", Vectors: rowsOf("a", "b")}
			stream := func(chunks ...*akidbv1.StreamUpsertRequest) (*akidbv1.StreamUpsertResponse, error) {
				t.Helper()
				up, err := w.StreamUpsert(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				for _, c := range chunks {
					if err := up.Send(c); err != nil && !errors.Is(err, io.EOF) {
						t.Fatal(err)
					}
				}
				return up.CloseAndRecv()
			}
			requireCount := func(want int) {
				t.Helper()
				if x := target.do(t, call{method: "POST", path: films + "/vectors/count"}); !strings.Contains(string(x.received), fmt.Sprintf(`"count":%d}`, want)) {
					t.Errorf("want %d rows: %v", want, x)
				}
			}

			if got, err := stream(); err != nil || !proto.Equal(got, &akidbv1.StreamUpsertResponse{}) {
				t.Errorf("without a chunk: %v, %v", got, err)
			}
			got, err := stream(proto.CloneOf(&first), &akidbv1.StreamUpsertRequest{Vectors: rowsOf("c")}, &akidbv1.StreamUpsertRequest{Collection: "films", Vectors: rowsOf("d", "e", "a")})
			if err != nil || got.Chunks != 3 || got.Upserted != 6 || got.Token != "1.6" {
				t.Errorf("%v, %v", got, err)
			}
			requireCount(5)

			for _, c := range []struct {
				name        string
				chunks      []*akidbv1.StreamUpsertRequest
				code, field string
				details     map[string]string
				rows        int
			}{
				{"no collection", []*akidbv1.StreamUpsertRequest{{Vectors: rowsOf("f")}}, "collection_not_found", "",
					map[string]string{"chunks_applied": "0", "rows_applied": "0", "chunk_write_applied": "false", "write_applied": "false"}, 5},
				{"two collections", []*akidbv1.StreamUpsertRequest{{Collection: "films", Vectors: rowsOf("f")}, {Collection: "others", Vectors: rowsOf("g")}}, "ambiguous_body", "collection",
					map[string]string{"chunks_applied": "1", "rows_applied": "1", "token": "1.7", "chunk_write_applied": "false", "write_applied": "unknown"}, 6},
				{"an empty chunk", []*akidbv1.StreamUpsertRequest{{Collection: "films"}}, "empty_batch", "vectors",
					map[string]string{"chunks_applied": "0", "rows_applied": "0", "chunk_write_applied": "false", "write_applied": "false"}, 6},
				{"too many rows", []*akidbv1.StreamUpsertRequest{{Collection: "films", Vectors: rowsOf("g")}, {Vectors: rowsOf("1", "2", "3", "4")}}, "batch_too_large", "vectors",
					map[string]string{"chunks_applied": "1", "rows_applied": "1", "token": "1.8", "chunk_write_applied": "false", "write_applied": "unknown"}, 7},
				{"too large", []*akidbv1.StreamUpsertRequest{{Collection: "films", Vectors: rowsOf("h")}, {Vectors: rowsOf(strings.Repeat("x", 2000))}}, "body_too_large", "",
					map[string]string{"chunks_applied": "1", "rows_applied": "1", "token": "1.9", "chunk_write_applied": "false", "write_applied": "unknown"}, 8},
				{"a wrong row", []*akidbv1.StreamUpsertRequest{{Collection: "films", Vectors: rowsOf("i", "j")}, {Vectors: append(rowsOf("k"), &akidbv1.Vector{Id: "l", Vector: []float32{1}})}}, "dimension_mismatch", "vectors[1].vector",
					map[string]string{"chunks_applied": "1", "rows_applied": "2", "token": "1.11", "chunk_write_applied": "false", "write_applied": "unknown"}, 10},
			} {
				_, err := stream(c.chunks...)
				var info *errdetails.ErrorInfo
				field := ""
				for _, d := range status.Convert(err).Details() {
					switch d := d.(type) {
					case *errdetails.ErrorInfo:
						info = d
					case *errdetails.BadRequest:
						field = d.FieldViolations[0].Field
					}
				}
				if info == nil || info.Reason != c.code || field != c.field {
					t.Errorf("%s: %v", c.name, err)
					continue
				}
				delete(info.Metadata, "request_id")
				delete(info.Metadata, "hint")
				if !maps.Equal(info.Metadata, c.details) {
					t.Errorf("%s: %v, want %v", c.name, info.Metadata, c.details)
				}
				requireCount(c.rows)
			}

			// A chunk with a key is the same request wherever it stands.
			key := proto.String("once")
			again, err := stream(&akidbv1.StreamUpsertRequest{Collection: "films", Vectors: rowsOf("m"), IfAbsent: true, IdempotencyKey: key})
			if err != nil {
				t.Fatal(err)
			}
			got, err = stream(&akidbv1.StreamUpsertRequest{Collection: "films", Vectors: rowsOf("n")}, &akidbv1.StreamUpsertRequest{Vectors: rowsOf("m"), IfAbsent: true, IdempotencyKey: key})
			if err != nil || got.Chunks != 2 || got.Token != again.Token {
				t.Errorf("repeated in another stream: %v, %v, first %v", got, err, again)
			}
			one, err := w.Upsert(context.Background(), &akidbv1.UpsertRequest{Collection: "films", Vectors: rowsOf("m"), IfAbsent: true, IdempotencyKey: key})
			if err != nil || one.Token != again.Token {
				t.Errorf("repeated by itself: %v, %v, first %v", one, err, again)
			}
			_, err = w.Upsert(context.Background(), &akidbv1.UpsertRequest{Collection: "films", Vectors: rowsOf("o"), IdempotencyKey: key})
			if status.Code(err) != grpccodes.InvalidArgument {
				t.Errorf("another request with the key: %v", err)
			}
		})
	}
}
