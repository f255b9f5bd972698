package httpapi

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/valyala/fasthttp"

	"github.com/akidb/akidb/internal/nearest"
)

// WriteJSON answers with status and v as JSON. When v does not marshal it
// returns the error, for the handler to return.
func WriteJSON(ctx *fasthttp.RequestCtx, status int, v any) error {
	b, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		return fmt.Errorf("marshal response: %w", err)
	}
	ctx.Response.Header.SetContentType(TypeJSON)
	ctx.SetStatusCode(status)
	ctx.Response.SetBodyRaw(append(b, '\n'))
	return nil
}

// DecodeJSON decodes one JSON value into v. It refuses unknown and repeated
// names, invalid UTF-8 and trailing bytes, and says which value is at fault by
// its path, what it is and what was wanted. The error is an *Error: 400, or 422
// for a vector that is well-formed but not finite. v keeps no part of body.
//
// A type's own UnmarshalJSONFrom may return an *Error whose Field is relative to
// the value and whose Message begins with a verb (Field "[7]", Message "is not
// finite"): both are completed with the value's path.
func DecodeJSON(body []byte, v any) error {
	err := json.Unmarshal(body, v, json.RejectUnknownMembers(true))
	if err == nil {
		return nil
	}
	if own, ok := errors.AsType[*Error](err); ok { // from an UnmarshalJSONFrom of ours
		if sem, ok := errors.AsType[*json.SemanticError](err); ok {
			return locate(own, sem.JSONPointer)
		}
		return own
	}
	if syn, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return syntaxError(syn, len(body))
	}
	if sem, ok := errors.AsType[*json.SemanticError](err); ok {
		return semanticError(sem)
	}
	return fmt.Errorf("decode json: %w", err)
}

// DecodeValue returns the JSON value that a text field holds, such as one of a
// request that is not JSON itself, checked as in [DecodeJSON].
func DecodeValue(field, text string) (jsontext.Value, error) {
	var v jsontext.Value
	err := DecodeJSON([]byte(text), &v)
	if e, ok := errors.AsType[*Error](err); ok {
		located := *e.WithFieldPrefix(field)
		located.Message = field + ": " + e.Message
		return nil, &located
	}
	return v, err
}

// locate completes an error whose field is relative to the value at p and whose
// message begins with a verb: `[7] ` + `is not finite`.
func locate(e *Error, p jsontext.Pointer) *Error {
	if path := fieldPath(p); path != "" {
		e = e.WithFieldPrefix(path)
	}
	c := *e
	c.Message = subject(c.Field) + " " + c.Message
	return &c
}

func subject(field string) string {
	switch {
	case field == "":
		return "the body"
	case field[0] == '[':
		return "the body's " + field
	}
	return field
}

func syntaxError(syn *jsontext.SyntacticError, size int) *Error {
	field := fieldPath(syn.JSONPointer)
	switch {
	case errors.Is(syn.Err, jsontext.ErrDuplicateName):
		return BadRequest("duplicate_field", field, "%s is given twice", subject(field))
	case errors.Is(syn.Err, io.ErrUnexpectedEOF) && size == 0:
		return BadRequest("malformed_json", "", "the body is empty, want a JSON object")
	case errors.Is(syn.Err, io.ErrUnexpectedEOF):
		return BadRequest("malformed_json", field, "the JSON ends in the middle of %s, after %d bytes", subject(field), size)
	}
	return BadRequest("malformed_json", field, "malformed JSON at byte %d: %v", syn.ByteOffset, syn.Err)
}

func semanticError(sem *json.SemanticError) *Error {
	field := fieldPath(sem.JSONPointer)
	if errors.Is(sem.Err, json.ErrUnknownName) {
		return unknownField(field, sem.JSONPointer.LastToken(), sem.GoType)
	}
	if sem.Err != nil && !errors.Is(sem.Err, strconv.ErrRange) && !errors.Is(sem.Err, strconv.ErrSyntax) {
		return BadRequest("wrong_type", field, "%s is not valid: %v", subject(field), sem.Err)
	}
	got := kindName(sem.JSONKind)
	if len(sem.JSONValue) > 0 && len(sem.JSONValue) <= 40 {
		got = string(sem.JSONValue)
	}
	if errors.Is(sem.Err, strconv.ErrRange) {
		got += ", which is out of range"
	}
	return BadRequest("wrong_type", field, "%s is %s, want %s", subject(field), got, typeName(sem.GoType))
}

func unknownField(field, name string, t reflect.Type) *Error {
	e := BadRequest("unknown_field", field, "%s is not a known field", subject(field))
	known := fieldNames(t)
	if near := nearest.Name(name, known); near != "" {
		return e.WithHint("did you mean %q?", near)
	}
	if len(known) > 0 {
		return e.WithHint("known fields: %s", strings.Join(known, ", "))
	}
	return e
}

// fieldNames lists the JSON names of a struct, embedded ones included.
func fieldNames(t reflect.Type) []string {
	if t == nil || t.Kind() != reflect.Struct {
		return nil
	}
	var names []string
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-":
		case name == "" && (f.Anonymous || options == "embed"):
			names = append(names, fieldNames(f.Type)...)
		case !f.IsExported():
		case name == "":
			names = append(names, f.Name)
		default:
			names = append(names, name)
		}
	}
	return names
}

// fieldPath writes a JSON pointer the way people do: vectors[17].vector. Names
// that are not plain words are quoted.
func fieldPath(p jsontext.Pointer) string {
	var b strings.Builder
	for token := range p.Tokens() {
		_, notNumber := strconv.ParseUint(token, 10, 64)
		switch {
		case notNumber == nil:
			fmt.Fprintf(&b, "[%s]", token)
		case !plainName(token):
			fmt.Fprintf(&b, "[%q]", printable([]byte(token)))
		case b.Len() > 0:
			b.WriteString("." + token)
		default:
			b.WriteString(token)
		}
	}
	return b.String()
}

func plainName(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-'
	})
}

func kindName(k jsontext.Kind) string {
	switch k {
	case 'n':
		return "null"
	case 't', 'f':
		return "a boolean"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case '{', '}':
		return "an object"
	case '[', ']':
		return "an array"
	}
	return "something else"
}

func typeName(t reflect.Type) string {
	if t == nil {
		return "something else"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeName(t.Elem())
	case reflect.Bool:
		return "a boolean"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "an integer"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "an integer of at least 0"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.String:
		return "a string"
	case reflect.Slice, reflect.Array:
		return "an array"
	}
	return "an object"
}
