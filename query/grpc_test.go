package query

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	akidbv1 "github.com/akidb/akidb/api/akidb/v1"
	"github.com/akidb/akidb/internal/info"
)

// members are the names a struct has in JSON, those of embedded ones too.
func members(t reflect.Type) (names []string) {
	for f := range t.Fields() {
		if f.Anonymous {
			names = append(names, members(f.Type)...)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

// lacking are names that a struct has and a message does not.
func lacking(t reflect.Type, m protoreflect.MessageDescriptor) (names []string) {
	for _, name := range members(t) {
		if m.Fields().ByName(protoreflect.Name(name)) == nil {
			names = append(names, name)
		}
	}
	return names
}

// TestMessagesHaveWhatJSONHas: what REST is given a new field for, gRPC has too.
func TestMessagesHaveWhatJSONHas(t *testing.T) {
	for _, c := range []struct {
		json    any
		message proto.Message
	}{
		{SearchRequest{}, &akidbv1.SearchRequest{}},
		{SearchResponse{}, &akidbv1.SearchResponse{}},
		{Result{}, &akidbv1.Result{}},
		{Group{}, &akidbv1.Group{}},
		{usage{}, &akidbv1.Usage{}},
		{stage{}, &akidbv1.Stage{}},
		{RecallRequest{}, &akidbv1.RecallRequest{}},
		{RecallResponse{}, &akidbv1.RecallResponse{}},
		{Row{}, &akidbv1.Row{}},
		{ScrollRequest{}, &akidbv1.ScrollRequest{}},
		{OrderBy{}, &akidbv1.OrderBy{}},
		{ScrollResponse{}, &akidbv1.ScrollResponse{}},
		{CountRequest{}, &akidbv1.CountRequest{}},
		{CountResponse{}, &akidbv1.CountResponse{}},
		{FacetRequest{}, &akidbv1.FacetRequest{}},
		{FacetResponse{}, &akidbv1.FacetResponse{}},
		{FacetHit{}, &akidbv1.FacetHit{}},
		{WarmRequest{}, &akidbv1.WarmRequest{}},
		{WarmResponse{}, &akidbv1.WarmResponse{}},
		{info.Collection{}, &akidbv1.Collection{}},
		{info.Placement{}, &akidbv1.Placement{}},
	} {
		kind, d := reflect.TypeOf(c.json), c.message.ProtoReflect().Descriptor()
		if names := lacking(kind, d); len(names) > 0 {
			t.Errorf("%s lacks %q of %v: add them to api/akidb/v1, `make generate`, and to query/grpc.go", d.FullName(), names, kind)
		}
	}
	got := lacking(reflect.TypeFor[struct {
		usage
		New int `json:"new"`
	}](), (&akidbv1.Usage{}).ProtoReflect().Descriptor())
	if !slices.Equal(got, []string{"new"}) {
		t.Errorf("planted: %q", got)
	}
}
