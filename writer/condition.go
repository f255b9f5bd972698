package writer

import (
	"context"

	"github.com/akidb/akidb/internal/httpapi"
)

// condition is what a row in a body asks of the row it is to replace. A row's
// version is the sequence number of its last write.
type condition struct {
	IfAbsent  bool    `json:"if_absent"`
	IfVersion *uint64 `json:"if_version"`
}

func (c condition) given() bool { return c.IfAbsent || c.IfVersion != nil }

// claim is a condition and the row of a batch that makes it.
type claim struct {
	condition
	id     string
	prefix string // of the row's fields
}

// claim takes note of a row's condition. An id with one comes once: after the
// first row of a batch nobody could say which version the second one means.
func (b *batch) claim(prefix, id string, c condition) error {
	if !c.given() && b.claimed == nil {
		return nil
	}
	if c.IfAbsent && c.IfVersion != nil {
		return httpapi.Unprocessable("ambiguous_condition", prefix+"if_version", "%sif_version is given beside if_absent", prefix)
	}
	_, claimed := b.claimed[id]
	if _, repeated := b.at[id]; repeated && (claimed || c.given()) {
		return httpapi.Unprocessable("ambiguous_condition", prefix+"id", "%sid is %q, which is in the batch twice and has a condition", prefix, id)
	}
	if c.given() {
		if b.claimed == nil {
			b.claimed = map[string]struct{}{}
		}
		b.claimed[id] = struct{}{}
		b.claims = append(b.claims, claim{c, id, prefix})
	}
	return nil
}

// check holds the claim against the row that is there.
func (c *claim) check(r row) error {
	var e *httpapi.Error
	switch {
	case c.IfAbsent && r.found:
		e = httpapi.Conflict("condition_failed", "%sif_absent is true, but %q is there, at version %d", c.prefix, c.id, r.version).
			WithFieldPrefix(c.prefix + "if_absent")
	case c.IfAbsent || r.found && r.version == *c.IfVersion:
		return nil
	case r.found:
		e = httpapi.Conflict("condition_failed", "%sif_version is %d, but %q is at version %d", c.prefix, *c.IfVersion, c.id, r.version).
			WithFieldPrefix(c.prefix + "if_version")
	default:
		e = httpapi.Conflict("condition_failed", "%sif_version is %d, but there is no %q", c.prefix, *c.IfVersion, c.id).
			WithFieldPrefix(c.prefix + "if_version")
	}
	return e.WithHint("nothing was written; read the row and decide again")
}

// upsert is what writes the batch to c.
func (b *batch) upsert(c *collection) mutation {
	return func(ctx context.Context, r request) (answer, error) { return c.upsert(ctx, b, r) }
}

// upsert writes a batch if all its conditions hold at one point in the order of
// writes, which then is the batch's own.
func (c *collection) upsert(ctx context.Context, b *batch, req request) (answer, error) {
	fresh := func() *write {
		return &write{kind: kindUpsert, affected: uint64(b.rows), ops: b.ops, key: req.key, digest: req.digest}
	}
	if len(b.claims) == 0 {
		t, err := c.apply(ctx, fresh())
		return answer{kind: kindUpsert, affected: uint64(b.rows), token: t}, err
	}
	ids := make([]string, len(b.claims))
	for i := range b.claims {
		ids[i] = b.claims[i].id
	}
	return c.update(ctx, ids, want{version: true}, func(rows []row) (*write, error) {
		for i := range b.claims {
			if err := b.claims[i].check(rows[i]); err != nil {
				return nil, err
			}
		}
		return fresh(), nil
	})
}
