package akidbv1

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// compile reads .proto files below the folder api, changed by edit.
func compile(t *testing.T, edit func(string) string, names ...string) []protoreflect.FileDescriptor {
	t.Helper()
	c := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{
		Accessor: func(path string) (io.ReadCloser, error) {
			b, err := os.ReadFile(filepath.Join("../..", path))
			return io.NopCloser(strings.NewReader(edit(string(b)))), err
		},
	})}
	files, err := c.Compile(t.Context(), names...)
	if err != nil {
		t.Fatal(err)
	}
	var out []protoreflect.FileDescriptor
	for _, f := range files {
		out = append(out, f)
	}
	return out
}

// differences says where the generated code is not what a .proto file says.
func differences(compiled protoreflect.FileDescriptor) (out []string) {
	generated, err := protoregistry.GlobalFiles.FindFileByPath(compiled.Path())
	if err != nil {
		return []string{err.Error()}
	}
	want, got := protodesc.ToFileDescriptorProto(compiled), protodesc.ToFileDescriptorProto(generated)
	want.SourceCodeInfo = nil // comments
	if !proto.Equal(want, got) {
		out = append(out, compiled.Path()+": the generated code is for\n"+prototext.Format(got)+"\nnot for\n"+prototext.Format(want))
	}
	return out
}

var services = []grpc.ServiceDesc{CollectionService_ServiceDesc, VectorService_ServiceDesc, SearchService_ServiceDesc, AdminService_ServiceDesc}

// TestGeneratedCodeIsThatOfTheFiles: `make generate` was run after the last
// change.
func TestGeneratedCodeIsThatOfTheFiles(t *testing.T) {
	paths, err := filepath.Glob("*.proto")
	if err != nil || len(paths) == 0 {
		t.Fatalf("%v, %v", paths, err)
	}
	for i := range paths {
		paths[i] = "akidb/v1/" + paths[i]
	}
	methods := map[string]bool{}
	for _, f := range compile(t, func(s string) string { return s }, paths...) {
		for _, d := range differences(f) {
			t.Error(d)
		}
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				methods["/"+string(s.FullName())+"/"+string(s.Methods().Get(j).Name())] = true
			}
		}
	}
	for _, s := range services {
		for _, m := range s.Methods {
			delete(methods, "/"+s.ServiceName+"/"+m.MethodName)
		}
		for _, m := range s.Streams {
			delete(methods, "/"+s.ServiceName+"/"+m.StreamName)
		}
	}
	for m := range methods {
		t.Errorf("the generated code has no %s", m)
	}
	planted := compile(t, func(s string) string { return strings.Replace(s, "uint64 count = 1;", "uint64 count = 2;", 1) }, "akidb/v1/vectors.proto")
	if differences(planted[0]) == nil {
		t.Error("a number that was changed is not found")
	}
}
