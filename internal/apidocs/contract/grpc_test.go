package contract

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	grpccodes "google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/timestamppb"

	akidbv1 "github.com/akidb/akidb/api/akidb/v1"
	"github.com/akidb/akidb/internal/httpapi"
)

// pair is one request, made over REST and over gRPC. Each API has a collection of
// its own, and both see the same requests in the same order: what they answer
// must be the same.
type pair struct {
	method, path string // REST; {c} is the collection
	body         string // {c} too
	rpc          string
	message      string // JSON of what the message has beside the body: what REST has in path, query and headers
	header       string // of REST
	code         string // wanted, "" for no error
	loose        bool   // messages are worded differently, as what they speak of is not the same
}

const (
	restName, grpcName = "films", "kinos" // of the same length, which errors may tell
)

// told is an answer, whichever way it came.
type told struct {
	answer  any    // normalized
	code    string // of an error
	message string
	field   string
	hint    string
	retry   int // seconds
	status  string
	headers map[string]string
}

// grpcStatus is what the document says of a status of REST: docs/grpc.md.
func grpcStatus(httpStatus int, code string) grpccodes.Code {
	switch code {
	case "body_too_large":
		return grpccodes.ResourceExhausted
	case "name_taken":
		return grpccodes.AlreadyExists
	case "timeout":
		return grpccodes.DeadlineExceeded
	}
	switch httpStatus {
	case 200, 201, 202, 204:
		return grpccodes.OK
	case 400, 413, 415, 422:
		return grpccodes.InvalidArgument
	case 404, 410:
		return grpccodes.NotFound
	case 409:
		return grpccodes.FailedPrecondition
	case 429, 507:
		return grpccodes.ResourceExhausted
	case 503:
		return grpccodes.Unavailable
	}
	return grpccodes.Internal
}

// sameHeaders are compared as they are.
var sameHeaders = []string{httpapi.HeaderConsistency, httpapi.HeaderManifestVersion, httpapi.HeaderToken, httpapi.HeaderDurability, httpapi.HeaderWriteApplied}

func (p pair) overREST(t *testing.T, s *server) told {
	t.Helper()
	name := strings.NewReplacer("{c}", restName)
	x := s.do(t, call{method: p.method, path: "/api/v1" + name.Replace(p.path), body: name.Replace(p.body), header: p.header})
	out := told{code: x.code(), status: grpcStatus(x.status, x.code()).String(), headers: map[string]string{}}
	for _, h := range sameHeaders {
		if v := x.header.Get(h); v != "" {
			out.headers[h] = v
		}
	}
	out.retry, _ = strconv.Atoi(x.header.Get("Retry-After"))
	if id := x.header.Get(httpapi.HeaderRequestID); id == "" {
		t.Errorf("%v has no request id", x)
	}
	var body map[string]any
	if len(x.received) > 0 {
		if err := json.Unmarshal(bytes.ReplaceAll(x.received, []byte(grpcName), []byte(restName)), &body); err != nil {
			t.Fatalf("%v: %v", x, err)
		}
	}
	if e, failed := body["error"].(map[string]any); failed {
		text := func(name string) string { s, _ := e[name].(string); return s }
		out.message, out.field, out.hint = text("message"), text("field"), text("hint")
		switch out.field { // what messages have for headers
		case httpapi.HeaderIdempotencyKey:
			out.field = "idempotency_key"
		case httpapi.HeaderDurability:
			out.field = "durability"
		}
		return out
	}
	out.answer = normalized("", any(body))
	return out
}

func (p pair) overGRPC(t *testing.T, s *server) told {
	t.Helper()
	method := methodOf(t, p.rpc)
	resp := newMessage(t, method.Output())
	var header, trailer metadata.MD
	err := s.grpc.Invoke(context.Background(), rpcPath(method), p.request(t, method), resp, grpc.Header(&header), grpc.Trailer(&trailer))
	out := told{status: status.Code(err).String(), headers: map[string]string{}}
	for _, h := range sameHeaders {
		if v := append(header.Get(h), trailer.Get(h)...); len(v) > 0 {
			out.headers[h] = v[0]
		}
	}
	if ids := header.Get(httpapi.HeaderRequestID); len(ids) != 1 || ids[0] == "" {
		t.Errorf("%s: request id %q", p.rpc, ids)
	}
	if err == nil {
		out.answer = normalized("", unwrapped(plain(resp.ProtoReflect())))
		return out
	}
	st := status.Convert(err)
	out.message = strings.ReplaceAll(st.Message(), grpcName, restName)
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.Domain != "akidb" || d.Metadata["request_id"] == "" || d.Metadata["write_applied"] != out.headers[httpapi.HeaderWriteApplied] {
				t.Errorf("%s: %v", p.rpc, d)
			}
			out.code, out.hint = d.Reason, strings.ReplaceAll(d.Metadata["hint"], grpcName, restName)
		case *errdetails.BadRequest:
			out.field = d.FieldViolations[0].Field
		case *errdetails.RetryInfo:
			out.retry = int(d.RetryDelay.AsDuration().Seconds())
		}
	}
	return out
}

func methodOf(t *testing.T, rpc string) protoreflect.MethodDescriptor {
	t.Helper()
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName("akidb.v1." + strings.Replace(rpc, "/", ".", 1)))
	if err != nil {
		t.Fatal(rpc, err)
	}
	return d.(protoreflect.MethodDescriptor)
}

func rpcPath(m protoreflect.MethodDescriptor) string {
	return fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name())
}

func newMessage(t *testing.T, d protoreflect.MessageDescriptor) proto.Message {
	t.Helper()
	kind, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		t.Fatal(err)
	}
	return kind.New().Interface()
}

// request is the message that says what the body of REST does.
func (p pair) request(t *testing.T, method protoreflect.MethodDescriptor) proto.Message {
	t.Helper()
	fields := map[string]json.RawMessage{}
	for _, text := range []string{p.body, p.message} {
		if text == "" {
			continue
		}
		if err := json.Unmarshal([]byte(strings.ReplaceAll(text, "{c}", grpcName)), &fields); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	if strings.Contains(p.path, "{c}") && fields["collection"] == nil {
		fields["collection"], _ = json.Marshal(grpcName)
	}
	text, err := json.Marshal(inMessages(t, fields))
	if err != nil {
		t.Fatal(err)
	}
	req := newMessage(t, method.Input())
	if err := protojson.Unmarshal(text, req); err != nil {
		t.Fatalf("%s: %s: %v", p.rpc, text, err)
	}
	return req
}

// inMessages writes fields as messages have them.
func inMessages(t *testing.T, fields map[string]json.RawMessage) map[string]any {
	out := map[string]any{}
	for name, raw := range fields {
		out[name] = raw
		switch name {
		case "metadata", "filter":
			out[name] = string(raw)
		case "as_of":
			out[name] = strings.Trim(string(raw), `"`)
		case "include":
			var names []string
			if err := json.Unmarshal(raw, &names); err != nil {
				t.Fatal(err)
			}
			switches := map[string]bool{}
			for _, n := range names {
				switches[n] = true
			}
			out[name] = switches
		case "vectors", "searches":
			var rows []map[string]json.RawMessage
			if err := json.Unmarshal(raw, &rows); err != nil {
				t.Fatal(err)
			}
			list := []any{}
			for _, row := range rows {
				list = append(list, inMessages(t, row))
			}
			out[name] = list
		}
	}
	return out
}

// jsonFields hold JSON in a string.
var jsonFields = []protoreflect.FullName{
	"akidb.v1.Row.metadata", "akidb.v1.Result.metadata", "akidb.v1.PatchVectorResponse.metadata", "akidb.v1.Group.group", "akidb.v1.FacetHit.value",
}

// plain is a message as JSON of REST would be.
func plain(m protoreflect.Message) map[string]any {
	out := map[string]any{}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if !f.IsList() {
			out[string(f.Name())] = plainValue(f, v)
			return true
		}
		list := []any{}
		for i := range v.List().Len() {
			list = append(list, plainValue(f, v.List().Get(i)))
		}
		out[string(f.Name())] = list
		return true
	})
	return out
}

func plainValue(f protoreflect.FieldDescriptor, v protoreflect.Value) any {
	switch f.Kind() {
	case protoreflect.MessageKind:
		if at, ok := v.Message().Interface().(*timestamppb.Timestamp); ok {
			return at.AsTime().String()
		}
		return plain(v.Message())
	case protoreflect.FloatKind: // as REST writes it: the shortest decimal
		x, _ := strconv.ParseFloat(strconv.FormatFloat(v.Float(), 'g', -1, 32), 64)
		return x
	case protoreflect.DoubleKind:
		return v.Float()
	case protoreflect.Int64Kind:
		return float64(v.Int())
	case protoreflect.Uint64Kind:
		return float64(v.Uint())
	case protoreflect.BoolKind:
		return v.Bool()
	}
	text := v.String()
	if slices.Contains(jsonFields, f.FullName()) {
		var value any
		if err := json.Unmarshal([]byte(text), &value); err != nil {
			return fmt.Sprintf("%q is no JSON", text)
		}
		return value
	}
	return strings.ReplaceAll(text, grpcName, restName)
}

// unwrapped takes what is described out of the response that holds nothing else.
func unwrapped(m map[string]any) map[string]any {
	for _, name := range []string{"collection", "vector", "snapshot"} {
		if inner, ok := m[name].(map[string]any); ok && len(m) == 1 {
			return inner
		}
	}
	return m
}

// differing are names of what two collections, or two moments, cannot have the
// same; that it is there is compared.
var differing = []string{"collection_id", "snapshot_id", "created_at", "since"}

// normalized leaves out what is zero, which messages do not tell from what is not
// there, and times that something took.
func normalized(name string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, x := range v {
			if n := normalized(k, x); n != nil && k != "took_ms" {
				out[k] = n
			}
		}
		if len(out) == 0 {
			return nil
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = normalized("", x)
		}
		if len(out) == 0 {
			return nil
		}
		return out
	case string:
		if slices.Contains(differing, name) && v != "" {
			return "there"
		}
		if v == "" {
			return nil
		}
	case float64:
		if v == 0 {
			return nil
		}
	case bool:
		if !v {
			return nil
		}
	}
	return v
}

// compare makes a request both ways and says where the answers differ.
func (p pair) compare(t *testing.T, s *server) (problems []string) {
	t.Helper()
	rest, rpc := p.overREST(t, s), p.overGRPC(t, s)
	if p.loose {
		rest.message, rest.hint = rpc.message, rpc.hint
	}
	return append(differ(rest, rpc), differ(told{code: p.code}, told{code: rest.code})...)
}

func differ(rest, rpc told) (problems []string) {
	a, b := reflect.ValueOf(rest), reflect.ValueOf(rpc)
	for i := range a.NumField() {
		x, y := fmt.Sprintf("%v", a.Field(i)), fmt.Sprintf("%v", b.Field(i)) // maps in order of their keys
		if x != y {
			problems = append(problems, fmt.Sprintf("%s: over REST, or wanted\n\t%s\nover gRPC, or got\n\t%s", a.Type().Field(i).Name, x, y))
		}
	}
	return problems
}

// TestBothAPIsAnswerAlike over one process, and over a query process that has the
// writer answer what is not its own.
func TestBothAPIsAnswerAlike(t *testing.T) {
	limits := httpapi.Limits{BatchRows: 6, BatchBytes: 4000, MetadataBytes: 200, FilterClauses: 3, FilterDepth: 3, K: 20, Searches: 3, IDBytes: 20}
	deployments := map[string]func(t *testing.T) *server{
		"dev": func(t *testing.T) *server { return startDev(t, setup{limits: limits}) },
		"query": func(t *testing.T) *server {
			s := setup{limits: limits}.withDefaults()
			ingest := startWriter(t, s)
			return startQueryOf(t, s, ingest.url, ingest.addr)
		},
	}
	for name, start := range deployments {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			called := map[string]bool{}
			for _, p := range pairs {
				called[p.rpc] = true
				for _, problem := range p.compare(t, s) {
					t.Errorf("%s %s %.200s | %s %.200s: %s", p.method, p.path, p.body, p.rpc, p.message, problem)
				}
			}
			for _, m := range methodsOfAll() {
				if !called[m] && m != "VectorService/StreamUpsert" {
					t.Errorf("%s is not compared", m)
				}
			}
		})
	}
}

func methodsOfAll() (out []string) {
	for _, f := range []protoreflect.FileDescriptor{
		akidbv1.File_akidb_v1_collections_proto, akidbv1.File_akidb_v1_vectors_proto, akidbv1.File_akidb_v1_search_proto, akidbv1.File_akidb_v1_admin_proto,
	} {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				out = append(out, fmt.Sprintf("%s/%s", s.Name(), s.Methods().Get(j).Name()))
			}
		}
	}
	return out
}

// TestPlanted_Differences: each kind of difference is found.
func TestPlanted_Differences(t *testing.T) {
	s := startDev(t, setup{})
	for _, p := range pairs[:4] {
		p.compare(t, s)
	}
	for _, p := range []pair{
		{method: "POST", path: "/collections/{c}/search", body: `{"vector": [1,0,0,0]}`, rpc: "SearchService/Search", message: `{"vector": [0,1,0,0]}`},
		{method: "POST", path: "/collections/{c}/search", body: `{"vector": [1,0,0,0], "k": 0}`, rpc: "SearchService/Search", message: `{"k": 1}`, code: "invalid_k"},
		{method: "POST", path: "/collections/{c}/search", body: `{"vector": [1,0,0,0], "k": 0}`, rpc: "SearchService/Search", code: "out_of_range"},
		{method: "GET", path: "/collections/{c}/vectors/a", rpc: "VectorService/GetVector", message: `{"id": "b"}`},
		{method: "GET", path: "/collections/{c}?consistency=eventual", rpc: "CollectionService/GetCollection"},
	} {
		if len(p.compare(t, s)) == 0 {
			t.Errorf("%v: nothing is found", p)
		}
	}
}

// TestWhatOnlyMessagesCanSay: floats that are no numbers, and bytes that are no
// message.
func TestWhatOnlyMessagesCanSay(t *testing.T) {
	s := startDev(t, setup{})
	for _, p := range pairs[:1] {
		p.compare(t, s)
	}
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	infinite := math.Inf(-1)
	vectors, searches := akidbv1.NewVectorServiceClient(s.grpc), akidbv1.NewSearchServiceClient(s.grpc)
	ctx := context.Background()
	upsert := func(rows ...*akidbv1.Vector) error {
		_, err := vectors.Upsert(ctx, &akidbv1.UpsertRequest{Collection: grpcName, Vectors: rows})
		return err
	}
	search := func(req *akidbv1.SearchRequest) error {
		req.Collection = grpcName
		_, err := searches.Search(ctx, req)
		return err
	}
	newer := &akidbv1.SearchRequest{Vector: []float32{1, 0, 0, 0}, Include: &akidbv1.Include{}}
	newer.Include.ProtoReflect().SetUnknown([]byte{0xf8, 0x3f, 1})
	for _, c := range []struct {
		name        string
		err         error
		code, field string
	}{
		{"upsert NaN", upsert(&akidbv1.Vector{Id: "a", Vector: []float32{1, nan, 0, 0}}), "not_finite", "vectors[0].vector[1]"},
		{"upsert Inf", upsert(&akidbv1.Vector{Id: "a", Vector: []float32{1, 0, 0, inf}}), "not_finite", "vectors[0].vector[3]"},
		{"search NaN", search(&akidbv1.SearchRequest{Vector: []float32{nan, 0, 0, 0}}), "not_finite", "vector[0]"},
		{"search in a batch", func() error {
			_, err := searches.SearchBatch(ctx, &akidbv1.SearchBatchRequest{Collection: grpcName, Searches: []*akidbv1.SearchRequest{{Vector: []float32{inf, 0, 0, 0}}}})
			return err
		}(), "not_finite", "searches[0].vector[0]"},
		{"collection in a batch", func() error {
			_, err := searches.SearchBatch(ctx, &akidbv1.SearchBatchRequest{Collection: grpcName, Searches: []*akidbv1.SearchRequest{{Collection: grpcName}}})
			return err
		}(), "ambiguous_body", "searches[0].collection"},
		{"threshold", search(&akidbv1.SearchRequest{Vector: []float32{1, 0, 0, 0}, ScoreThreshold: &infinite}), "not_finite", "score_threshold"},
		{"metadata that is null-ish", upsert(&akidbv1.Vector{Id: "a", Vector: []float32{1, 0, 0, 0}, Metadata: proto.String("nonsense")}), "malformed_json", "vectors[0].metadata"},
		{"filter that is no JSON", search(&akidbv1.SearchRequest{Vector: []float32{1, 0, 0, 0}, Filter: proto.String("{")}), "malformed_json", "filter"},
		{"field of a newer version", search(newer), "unknown_field", "include"},
		{"bytes", s.grpc.Invoke(ctx, akidbv1.VectorService_Upsert_FullMethodName, junk{}, &akidbv1.UpsertResponse{}, grpc.ForceCodec(junkCodec{})), "malformed_message", ""},
	} {
		st := status.Convert(c.err)
		var reason, field string
		for _, d := range st.Details() {
			switch d := d.(type) {
			case *errdetails.ErrorInfo:
				reason = d.Reason
			case *errdetails.BadRequest:
				field = d.FieldViolations[0].Field
			}
		}
		if st.Code() != grpccodes.InvalidArgument || reason != c.code || field != c.field {
			t.Errorf("%s: %v %s %q, want %s %q: %v", c.name, st.Code(), reason, field, c.code, c.field, c.err)
		}
	}
	if x := s.do(t, call{method: "POST", path: "/api/v1/collections/" + grpcName + "/vectors/count"}); x.status != http.StatusOK || !strings.Contains(string(x.received), `"count":0`) {
		t.Errorf("rows were written: %v", x)
	}
}

type junk struct{}

// junkCodec sends what is no message.
type junkCodec struct{}

func (junkCodec) Marshal(any) ([]byte, error)     { return []byte{0x12, 0xff, 0xff}, nil }
func (junkCodec) Unmarshal(b []byte, v any) error { return proto.Unmarshal(b, v.(proto.Message)) }
func (junkCodec) Name() string                    { return "proto" }
