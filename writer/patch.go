package writer

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/internal/memtable"
)

// patch merges change, a JSON object, into the metadata of a row: its members
// replace those of the same name, null removes one. Members it does not name
// stay to the letter, nested objects are replaced as a whole.
func (c *collection) patch(ctx context.Context, id string, change []byte, req request) (answer, error) {
	return c.update(ctx, []string{id}, want{vector: true, metadata: true}, func(rows []row) (*write, error) {
		r := rows[0]
		if !r.found {
			return nil, httpapi.NotFound("vector_not_found", "collection %q has no vector %q", c.meta.Name, id)
		}
		merged, err := mergeMetadata(r.metadata, change)
		if err != nil {
			return nil, fmt.Errorf("merge metadata of %q: %w", id, err)
		}
		if e := c.w.cfg.Limits.CheckMetadata("metadata", len(merged)); e != nil {
			return nil, e.WithHint("the limit is on the metadata that results")
		}
		return &write{
			kind: kindPatch, affected: 1, key: req.key, digest: req.digest,
			ops: []memtable.Op{{ID: id, Vector: r.vector, Metadata: merged}},
		}, nil
	})
}

// member is one name and value of an object, both as they were written.
type member struct{ name, value jsontext.Value }

// mergeMetadata returns old with change merged in. Old members keep their
// places, new ones follow.
func mergeMetadata(old, change []byte) ([]byte, error) {
	if old == nil {
		old = []byte("{}")
	}
	was, err := members(old)
	if err != nil {
		return nil, err
	}
	with, err := members(change)
	if err != nil {
		return nil, err
	}
	changes := map[string]jsontext.Value{}
	for _, m := range with {
		changes[unquoted(m.name)] = m.value
	}
	var out []member
	for _, m := range was {
		name := unquoted(m.name)
		value, changed := changes[name]
		delete(changes, name)
		switch {
		case !changed:
			out = append(out, m)
		case value.Kind() != 'n':
			out = append(out, member{m.name, value})
		}
	}
	for _, m := range with {
		if _, isNew := changes[unquoted(m.name)]; isNew && m.value.Kind() != 'n' {
			out = append(out, m)
		}
	}
	return appendObject(nil, out), nil
}

func appendObject(b []byte, ms []member) []byte {
	b = append(b, '{')
	for i, m := range ms {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, m.name...), ':'), m.value...)
	}
	return append(b, '}')
}

func unquoted(name jsontext.Value) string {
	b, err := jsontext.AppendUnquote(nil, name)
	if err != nil {
		panic(fmt.Sprintf("BUG: validated name %q: %v", name, err))
	}
	return string(b)
}

// members splits a JSON object that was validated when it was written.
func members(object []byte) ([]member, error) {
	d := jsontext.NewDecoder(bytes.NewReader(object))
	if open, err := d.ReadToken(); err != nil || open.Kind() != '{' {
		return nil, fmt.Errorf("not an object: %w", err)
	}
	var out []member
	for d.PeekKind() == '"' {
		name, err := d.ReadValue()
		if err != nil {
			return nil, err
		}
		name = name.Clone()
		value, err := d.ReadValue()
		if err != nil {
			return nil, err
		}
		out = append(out, member{name, value.Clone()})
	}
	if _, err := d.ReadToken(); err != nil && err != io.EOF {
		return nil, err
	}
	return out, nil
}
