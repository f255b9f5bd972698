package writer

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	akidbv1 "github.com/akidb/akidb/api/akidb/v1"
)

// lacking are names that a struct has in JSON and a message does not.
func lacking(t reflect.Type, m protoreflect.MessageDescriptor) (names []string) {
	for f := range t.Fields() {
		if f.Anonymous {
			names = append(names, lacking(f.Type, m)...)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
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
		{createBody{}, &akidbv1.CreateCollectionRequest{}},
		{createBody{}.Config, &akidbv1.CollectionConfig{}},
		{rowBody{}, &akidbv1.Vector{}},
		{upserted{}, &akidbv1.UpsertResponse{}},
		{patchBody{}, &akidbv1.PatchVectorRequest{}},
		{patched{}, &akidbv1.PatchVectorResponse{}},
		{deleted{}, &akidbv1.DeleteVectorsResponse{}},
		{deleted{}, &akidbv1.DeleteByFilterResponse{}},
		{maintained{}, &akidbv1.FlushResponse{}},
		{maintained{}, &akidbv1.CompactResponse{}},
		{snapshotBody{}, &akidbv1.CreateSnapshotRequest{}},
		{snapshotInfo{}, &akidbv1.Snapshot{}},
		{restoreBody{}, &akidbv1.RestoreRequest{}},
		{restored{}, &akidbv1.RestoreResponse{}},
		{branchBody{}, &akidbv1.BranchRequest{}},
		{placementBody{}, &akidbv1.PromoteRequest{}},
		{placementBody{}, &akidbv1.DemoteRequest{}},
		{placedInfo{}, &akidbv1.PromoteResponse{}},
		{placedInfo{}, &akidbv1.DemoteResponse{}},
		{placedInfo{}, &akidbv1.PinResponse{}},
		{placedInfo{}, &akidbv1.UnpinResponse{}},
		{DeadLetter{}, &akidbv1.DeadLetter{}},
		{retried{}, &akidbv1.RetryAllDeadLettersResponse{}},
		{retried{}, &akidbv1.RetryDeadLetterResponse{}},
	} {
		kind, d := reflect.TypeOf(c.json), c.message.ProtoReflect().Descriptor()
		if names := lacking(kind, d); len(names) > 0 {
			t.Errorf("%s lacks %q of %v: add them to api/akidb/v1, `make generate`, and to writer/grpc.go", d.FullName(), names, kind)
		}
	}
	got := lacking(reflect.TypeFor[struct {
		condition
		New int `json:"new"`
	}](), (&akidbv1.Vector{}).ProtoReflect().Descriptor())
	if !slices.Equal(got, []string{"new"}) {
		t.Errorf("planted: %q", got)
	}
}
