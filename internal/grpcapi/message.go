package grpcapi

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/gzip" // requests may be compressed, as over REST
	encodingproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/akidb/akidb/internal/httpapi"
)

// Frame is an encoded message. It is decoded only once it is known what that
// takes, and not at all where it is passed on.
type Frame struct{ Bytes []byte }

// Codec is gRPC's protobuf codec, which takes and gives a *Frame as it is.
var Codec encoding.CodecV2 = frameCodec{encoding.GetCodecV2(encodingproto.Name)}

type frameCodec struct{ encoding.CodecV2 }

func (c frameCodec) Marshal(v any) (mem.BufferSlice, error) {
	if f, ok := v.(*Frame); ok {
		return mem.BufferSlice{mem.SliceBuffer(f.Bytes)}, nil
	}
	return c.CodecV2.Marshal(v)
}

func (c frameCodec) Unmarshal(data mem.BufferSlice, v any) error {
	if f, ok := v.(*Frame); ok {
		f.Bytes = data.Materialize()
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}

// Bound bounds a repeated field of a request, which takes a hundred times its
// size when it is decoded: Check is asked with the field's name and the number
// of its elements, if there are any, before.
type Bound struct {
	Field string
	Check func(field string, count int) *httpapi.Error
}

type decoder[Req proto.Message] func(Frame) (Req, error)

// decoderOf makes what decodes the requests of a method. It panics if a repeated
// field has no bound, or one that is not at the top: nothing counts those.
func decoderOf[Req proto.Message](m protoreflect.MethodDescriptor, bounds []Bound) decoder[Req] {
	var none Req
	d := m.Input()
	if none.ProtoReflect().Descriptor() != d {
		panic(fmt.Sprintf("BUG: %s takes %s", m.FullName(), d.FullName()))
	}
	checks := map[protowire.Number]Bound{}
	for _, b := range bounds {
		f := d.Fields().ByName(protoreflect.Name(b.Field))
		if f == nil || !multiplies(f) {
			panic(fmt.Sprintf("BUG: %s.%s needs no bound", d.FullName(), b.Field))
		}
		checks[f.Number()] = b
	}
	mustBeBounded(d, checks)
	return func(f Frame) (Req, error) {
		if err := count(f.Bytes, checks); err != nil {
			return none, err
		}
		req := none.ProtoReflect().New()
		if err := proto.Unmarshal(f.Bytes, req.Interface()); err != nil {
			return none, malformed(err)
		}
		if where, found := unknown(req); found {
			return none, httpapi.BadRequest("unknown_field", where, "the message has a field that this version does not know, in %s", orTop(where)).
				WithHint("it was made for a newer version")
		}
		return req.Interface().(Req), nil
	}
}

func malformed(err error) error {
	return httpapi.BadRequest("malformed_message", "", "the message is not well-formed: %v", err)
}

// multiplies tells fields of which a few bytes make an element of many.
func multiplies(f protoreflect.FieldDescriptor) bool {
	switch f.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind, protoreflect.StringKind, protoreflect.BytesKind:
		return f.IsList() || f.IsMap()
	}
	return f.IsMap()
}

func mustBeBounded(d protoreflect.MessageDescriptor, checks map[protowire.Number]Bound) {
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		if _, bounded := checks[f.Number()]; multiplies(f) && !bounded {
			panic(fmt.Sprintf("BUG: %s has no bound", f.FullName()))
		}
		if f.Message() != nil {
			mustBeBounded(f.Message(), nil)
		}
	}
}

// count checks how many elements the fields of a message have.
func count(b []byte, checks map[protowire.Number]Bound) error {
	if len(checks) == 0 {
		return nil
	}
	counts := map[protowire.Number]int{}
	for len(b) > 0 {
		number, _, n := protowire.ConsumeField(b)
		if n < 0 {
			return malformed(protowire.ParseError(n))
		}
		if _, ok := checks[number]; ok {
			counts[number]++
		}
		b = b[n:]
	}
	for number, n := range counts {
		if err := checks[number].Check(checks[number].Field, n); err != nil {
			return err
		}
	}
	return nil
}

// unknown finds a field that the message's description does not have: ignored, it
// would make an answer to another question. where is the message that has it.
func unknown(m protoreflect.Message) (where string, found bool) {
	if len(m.GetUnknown()) > 0 {
		return "", true
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if f.Message() == nil || !m.Has(f) {
			continue
		}
		if !f.IsList() {
			if below, found := unknown(m.Get(f).Message()); found {
				return joined(string(f.Name()), below), true
			}
			continue
		}
		list := m.Get(f).List()
		for j := range list.Len() {
			if below, found := unknown(list.Get(j).Message()); found {
				return joined(fmt.Sprintf("%s[%d]", f.Name(), j), below), true
			}
		}
	}
	return "", false
}

func joined(field, below string) string {
	if below == "" {
		return field
	}
	return field + "." + below
}

func orTop(where string) string {
	if where == "" {
		return "its top"
	}
	return where
}
