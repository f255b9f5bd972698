package chaos

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	akidbv1 "github.com/akidb/akidb/api/akidb/v1"
)

// dial opens a connection to a server's gRPC port, which lives as long as the test.
func (s *Server) dial(t *testing.T) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+s.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	t.Cleanup(cancel)
	return ctx
}

// reflected knows a server by what it says of itself, as tools do.
type reflected struct {
	*testing.T
	conn   *grpc.ClientConn
	stream grpc_reflection_v1.ServerReflection_ServerReflectionInfoClient
	files  *descriptorpb.FileDescriptorSet // each is told once
}

func reflect(t *testing.T, conn *grpc.ClientConn) reflected {
	t.Helper()
	stream, err := grpc_reflection_v1.NewServerReflectionClient(conn).ServerReflectionInfo(limited(t))
	require.NoError(t, err)
	return reflected{t, conn, stream, &descriptorpb.FileDescriptorSet{}}
}

func (r reflected) ask(req *grpc_reflection_v1.ServerReflectionRequest) *grpc_reflection_v1.ServerReflectionResponse {
	r.Helper()
	require.NoError(r, r.stream.Send(req))
	answer, err := r.stream.Recv()
	require.NoError(r, err)
	require.Nil(r, answer.GetErrorResponse())
	return answer
}

func (r reflected) services() (names []string) {
	answer := r.ask(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}})
	for _, s := range answer.GetListServicesResponse().Service {
		names = append(names, s.Name)
	}
	return names
}

// call calls a method, given as service/method, of which nothing is known before,
// with a message in JSON, and returns the answer in JSON.
func (r reflected) call(name, body string) string {
	r.Helper()
	service, method, _ := strings.Cut(name, "/")
	answer := r.ask(&grpc_reflection_v1.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: service},
	})
	for _, raw := range answer.GetFileDescriptorResponse().FileDescriptorProto {
		f := new(descriptorpb.FileDescriptorProto)
		require.NoError(r, proto.Unmarshal(raw, f))
		r.files.File = append(r.files.File, f)
	}
	files, err := protodesc.NewFiles(r.files)
	require.NoError(r, err)
	d, err := files.FindDescriptorByName(protoreflect.FullName(service))
	require.NoError(r, err)
	m := d.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(method))
	require.NotNil(r, m)
	in, out := dynamicpb.NewMessage(m.Input()), dynamicpb.NewMessage(m.Output())
	require.NoError(r, protojson.Unmarshal([]byte(body), in))
	require.NoError(r, r.conn.Invoke(limited(r.T), "/"+name, in, out))
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(out)
	require.NoError(r, err)
	return string(text)
}

func requireHealth(t *testing.T, watch grpc_health_v1.Health_WatchClient, want grpc_health_v1.HealthCheckResponse_ServingStatus) {
	t.Helper()
	answer, err := watch.Recv()
	require.NoError(t, err)
	require.Equal(t, want, answer.Status)
}

// What a tool that knows nothing of a server can do with it, in every role; and
// streams that somebody left open do not hold up its end.
func TestGRPC(t *testing.T) {
	for _, role := range []string{"dev", "query"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			var target *Server
			if role == "dev" {
				target = akidb.Start(t, "dev", Options{Args: []string{"--shutdown-grace", "24h"}})
			} else {
				o := stores["file"](t)
				writer := akidb.Start(t, "writer", o)
				target = akidb.Start(t, "query", o.with("--writer-url", writer.URL(), "--writer-grpc-addr", writer.GRPC, "--shutdown-grace", "24h"))
			}
			conn := target.dial(t)
			r := reflect(t, conn)
			require.Subset(t, r.services(), []string{
				"akidb.v1.CollectionService", "akidb.v1.VectorService", "akidb.v1.SearchService", "akidb.v1.AdminService",
				"grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
			})
			watch, err := grpc_health_v1.NewHealthClient(conn).Watch(limited(t), &grpc_health_v1.HealthCheckRequest{})
			require.NoError(t, err)
			requireHealth(t, watch, grpc_health_v1.HealthCheckResponse_SERVING)

			r.call("akidb.v1.CollectionService/CreateCollection", `{"name": "points", "dimension": 2, "metric": "l2"}`)
			r.call("akidb.v1.VectorService/Upsert", `{"collection": "points", "vectors": [{"id": "a", "vector": [1, 2], "metadata": "{\"n\":1}"}, {"id": "b", "vector": [3, 4]}]}`)
			found := r.call("akidb.v1.SearchService/Search", `{"collection": "points", "vector": [1, 1], "k": 1}`)
			require.Contains(t, strings.ReplaceAll(found, " ", ""), `"results":[{"id":"a","score":1,"metadata":"{\"n\":1}"}]`)
			require.Equal(t, []Row{{"a", []float32{1, 2}, []byte(`{"n":1}`)}, {ID: "b", Vector: []float32{3, 4}}},
				target.Scroll(t, "points", "latest", 10), "the same rows over REST")

			upload, err := akidbv1.NewVectorServiceClient(conn).StreamUpsert(limited(t))
			require.NoError(t, err)
			require.NoError(t, upload.Send(&akidbv1.StreamUpsertRequest{Collection: "points", Vectors: []*akidbv1.Vector{{Id: "c", Vector: []float32{5, 6}}}}))
			target.awaitRow(t, "points", "c")

			_, metrics := fetch(t, target, "http://"+target.Admin+"/metrics")
			require.Contains(t, metrics, `akidb_grpc_requests_total{code="OK",method="Search",service="akidb.v1.SearchService"} 1`)
			require.Contains(t, metrics, `akidb_grpc_request_duration_seconds_count{method="Upsert",service="akidb.v1.VectorService"} 1`)

			target.Stop() // with a watch, reflection and an upload open
			requireHealth(t, watch, grpc_health_v1.HealthCheckResponse_NOT_SERVING)
			_, err = upload.CloseAndRecv()
			requireDetails(t, err, codes.Unavailable, "shutting_down", map[string]string{"chunks_applied": "1", "rows_applied": "1", "chunk_write_applied": "false", "write_applied": "unknown"})
			_, err = r.stream.Recv()
			require.Error(t, err)
			require.NotErrorIs(t, err, io.EOF)
		})
	}
}

func requireDetails(t *testing.T, err error, code codes.Code, reason string, want map[string]string) {
	t.Helper()
	s := status.Convert(err)
	require.Equal(t, code, s.Code(), err)
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			require.Equal(t, reason, info.Reason)
			for k, v := range want {
				require.Equal(t, v, info.Metadata[k], "%s in %v", k, info.Metadata)
			}
			return
		}
	}
	t.Fatalf("no details: %v", err)
}

// awaitRow returns once a row is there.
func (s *Server) awaitRow(t *testing.T, collection, id string) {
	t.Helper()
	ctx := limited(t)
	for ctx.Err() == nil {
		answer, err := s.Send("GET", "/api/v1/collections/"+collection+"/vectors/"+id, nil)
		require.NoError(t, err)
		if answer.Status == 200 {
			return
		}
	}
	t.Fatalf("row %q never comes", id)
}

const (
	chunkRows = 7
	chunksAll = 200
)

// chunk is one of a stream, all of whose rows have its number.
func chunk(n int) *akidbv1.StreamUpsertRequest {
	out := &akidbv1.StreamUpsertRequest{Collection: "points"}
	for i := range chunkRows {
		out.Vectors = append(out.Vectors, &akidbv1.Vector{Id: fmt.Sprintf("%04d-%d", n, i), Vector: []float32{float32(n), 1, 2}})
	}
	return out
}

// requireWholeChunks: the rows that are there are those of the first chunks, whole,
// and of as many as are known to be applied. It returns how many.
func requireWholeChunks(t *testing.T, s *Server, atLeast int) int {
	t.Helper()
	rows := s.Scroll(t, "points", "strong", 1000)
	require.Zero(t, len(rows)%chunkRows, "a chunk is there in part")
	for i, row := range rows { // in order of their ids
		require.Equal(t, fmt.Sprintf("%04d-%d", i/chunkRows, i%chunkRows), row.ID)
	}
	require.GreaterOrEqual(t, len(rows)/chunkRows, atLeast)
	return len(rows) / chunkRows
}

// A stream that ends in the middle leaves its first chunks, whole. None of those
// that a read has seen, or that the answer counts, is lost, whoever dies.
func TestStreamUpsertEndsInTheMiddle(t *testing.T) {
	for _, through := range []string{"dev", "query"} {
		for _, end := range []string{"cancelled", "killed", "whole"} {
			t.Run(through+"/"+end, func(t *testing.T) {
				t.Parallel()
				o := stores["file"](t)
				owner := akidb.Start(t, map[string]string{"dev": "dev", "query": "writer"}[through], o)
				target := owner
				if through == "query" {
					target = akidb.Start(t, "query", o.with("--writer-url", owner.URL(), "--writer-grpc-addr", owner.GRPC))
				}
				target.Create(t, "points", 3, "l2")
				ctx, cancel := context.WithCancel(limited(t))
				stream, err := akidbv1.NewVectorServiceClient(target.dial(t)).StreamUpsert(ctx)
				require.NoError(t, err)
				const seen = chunksAll / 4
				for n := range chunksAll {
					if err = stream.Send(chunk(n)); err != nil {
						break
					}
					if n != chunksAll/2 {
						continue
					}
					target.awaitRow(t, "points", fmt.Sprintf("%04d-0", seen))
					switch end {
					case "cancelled":
						cancel()
					case "killed":
						owner.Kill()
					}
				}
				answer, err := stream.CloseAndRecv()
				cancel()
				switch end {
				case "whole":
					require.NoError(t, err)
					require.EqualValues(t, chunksAll, answer.Chunks)
					require.EqualValues(t, chunksAll*chunkRows, answer.Upserted)
					owner.Kill()
					owner.Restart()
					require.Equal(t, chunksAll, requireWholeChunks(t, target, chunksAll))
					return
				case "cancelled":
					require.Equal(t, codes.Canceled, status.Code(err), err)
				case "killed":
					require.Equal(t, codes.Unavailable, status.Code(err), err)
					if through == "query" {
						requireDetails(t, err, codes.Unavailable, "writer_unavailable", map[string]string{"write_applied": "unknown", "chunks_applied": ""})
					}
					owner.Restart()
				}
				there := requireWholeChunks(t, target, seen+1)
				t.Logf("%s of %d chunks are there", strconv.Itoa(there), chunksAll)
			})
		}
	}
}

// A query process says of a write it could not hand on whether that was applied.
func TestGRPCForwardsTellTheTruth(t *testing.T) {
	t.Parallel()
	o := stores["file"](t)
	writer := akidb.Start(t, "writer", o)
	query := akidb.Start(t, "query", o.with("--writer-url", writer.URL(), "--writer-grpc-addr", writer.GRPC))
	alone := akidb.Start(t, "query", o)
	query.Create(t, "points", 3, "l2")
	vectors := akidbv1.NewVectorServiceClient(query.dial(t))
	row := &akidbv1.UpsertRequest{Collection: "points", Vectors: chunk(0).Vectors}
	_, err := vectors.Upsert(limited(t), row)
	require.NoError(t, err)
	_, err = akidbv1.NewVectorServiceClient(alone.dial(t)).Upsert(limited(t), row)
	requireDetails(t, err, codes.Unavailable, "no_writer", map[string]string{"write_applied": "false"})

	writer.Kill()
	ctx := limited(t)
	for { // the first may find a connection that has not noticed yet
		_, err = vectors.Upsert(ctx, row)
		if s, ok := status.FromError(err); ok && s.Code() == codes.Unavailable && strings.Contains(fmt.Sprint(s.Details()), `value:"false"`) {
			break
		}
		requireDetails(t, err, codes.Unavailable, "writer_unavailable", map[string]string{"write_applied": "unknown"})
	}
	requireDetails(t, err, codes.Unavailable, "writer_unavailable", map[string]string{"write_applied": "false"})
	_, err = vectors.GetVector(limited(t), &akidbv1.GetVectorRequest{Collection: "points", Id: "0000-0", Consistency: proto.String("eventual")})
	if err != nil { // it was in the tail alone
		require.Equal(t, codes.NotFound, status.Code(err), err)
	}

	writer.Restart()
	for ctx := limited(t); ; { // found again without anybody's help
		if _, err = vectors.Upsert(ctx, row); err == nil {
			break
		}
		require.Equal(t, codes.Unavailable, status.Code(err), err)
	}
}
