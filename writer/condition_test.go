package writer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/akidb/akidb/internal/httpapi"
)

// write sends a body as a request would.
func (c *collection) write(mediaType, body string) (answer, error) {
	b := newBatch(c.w.cfg.Limits, c.meta)
	if err := b.parse(mediaType, []byte(body)); err != nil {
		return answer{}, err
	}
	return c.upsert(context.Background(), b, request{})
}

// stored is what an id stands for now.
func (v *world) stored(c *collection, id string) row {
	v.t.Helper()
	rows, err := c.state().rows(context.Background(), []string{id}, want{vector: true, version: true})
	if err != nil {
		v.t.Fatal(err)
	}
	return rows[0]
}

func codeOf(err error) string {
	e, ok := errors.AsType[*httpapi.Error](err)
	if !ok {
		return ""
	}
	return e.Code
}

// increment adds one to a counter row until it succeeds, and says which version
// it replaced.
func increment(v *world, c *collection, id, condition string) (replaced uint64, err error) {
	for {
		r := v.stored(c, id)
		if !r.found {
			_, err = c.write(httpapi.TypeJSON, fmt.Sprintf(`{"id":%q,"vector":[1,0,0],"if_absent":true}`, id))
		} else {
			body := fmt.Sprintf(`{"id":%q,"vector":[%v,0,0]%s}`, id, r.vector[0]+1, strings.ReplaceAll(condition, "N", fmt.Sprint(r.version)))
			_, err = c.write(httpapi.TypeJSON, body)
		}
		if codeOf(err) != "condition_failed" {
			return r.version, err
		}
	}
}

// TestNoIncrementIsLost: many read a counter, add one and write it back if it
// is still at the version they read, from before the row is there, while it is
// flushed and merged. The counter says how often; no version is replaced twice.
func TestNoIncrementIsLost(t *testing.T) {
	const writers, each = 6, 12
	v := newWorld(t, inLists)
	v.open()
	c := v.create("c", 3, "l2")
	var mu sync.Mutex
	var replaced []uint64
	var group sync.WaitGroup
	for range writers {
		group.Go(func() {
			for j := range each {
				version, err := increment(v, c, "n", `,"if_version":N`)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				replaced = append(replaced, version)
				mu.Unlock()
				if j%4 == 1 {
					if err := errors.Join(c.flushTo(context.Background(), c.state().seq), c.compactAll()); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	group.Wait()
	slices.Sort(replaced)
	if n := len(slices.Compact(slices.Clone(replaced))); n != len(replaced) {
		t.Errorf("%d writes replaced %d versions: %v", len(replaced), n, replaced)
	}
	if got := v.stored(c, "n").vector[0]; got != writers*each {
		t.Errorf("the counter is at %v, want %d", got, writers*each)
	}
}

// TestPlanted_LostIncrement: without the condition the same two clients lose one.
func TestPlanted_LostIncrement(t *testing.T) {
	for condition, want := range map[string]float32{"": 2, `,"if_version":N`: 3} {
		v := newWorld(t, nil)
		v.open()
		c := v.create("c", 3, "l2")
		if _, err := increment(v, c, "n", condition); err != nil {
			t.Fatal(err)
		}
		stale := v.stored(c, "n")
		if _, err := increment(v, c, "n", condition); err != nil {
			t.Fatal(err)
		}
		body := fmt.Sprintf(`{"id":"n","vector":[%v,0,0]%s}`, stale.vector[0]+1, strings.ReplaceAll(condition, "N", fmt.Sprint(stale.version)))
		if _, err := c.write(httpapi.TypeJSON, body); codeOf(err) == "condition_failed" {
			_, err = increment(v, c, "n", condition)
			if err != nil {
				t.Fatal(err)
			}
		}
		if got := v.stored(c, "n").vector[0]; got != want {
			t.Errorf("condition %q: the counter is at %v, want %v", condition, got, want)
		}
	}
}

// TestVersionsSurvive holds the version of every row against a model, across
// flushes, merges and restarts, and every kind of condition with it.
func TestVersionsSurvive(t *testing.T) {
	v := newWorld(t, inLists)
	v.open()
	c := v.create("c", 3, "l2")
	r := rand.New(rand.NewPCG(7, 8))
	model := map[string]uint64{}
	ids := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	check := func(what string) {
		t.Helper()
		rows, err := c.state().rows(context.Background(), ids, want{version: true})
		if err != nil {
			t.Fatal(err)
		}
		for i, id := range ids {
			if version, ok := model[id]; ok != rows[i].found || version != rows[i].version {
				t.Fatalf("after %s %q is at version %d, %v; want %d, %v", what, id, rows[i].version, rows[i].found, version, ok)
			}
		}
	}
	wrote := func(what string, a answer, err error, ids ...string) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		for i, id := range ids {
			model[id] = a.token.Seq - uint64(len(ids)-1-i)
		}
	}
	ctx := context.Background()
	for range 300 {
		id := ids[r.IntN(len(ids))]
		version, there := model[id]
		what := ""
		switch r.IntN(9) {
		case 0, 1:
			what = "an upsert"
			other := ids[(slices.Index(ids, id)+1)%len(ids)]
			a, err := c.write(httpapi.TypeNDJSON, fmt.Sprintf("{\"id\":%q,\"vector\":[1,2,3]}\n{\"id\":%q,\"vector\":[1,2,3]}\n", id, other))
			wrote(what, a, err, id, other)
		case 2, 3:
			what = "a conditional upsert"
			body := `{"if_absent":true,"vectors":[{"id":%q,"vector":[3,2,1]}]}`
			if there {
				body = `{"vectors":[{"id":%q,"vector":[3,2,1],"if_version":` + fmt.Sprint(version) + `}]}`
			}
			a, err := c.write(httpapi.TypeJSON, fmt.Sprintf(body, id))
			wrote(what, a, err, id)
		case 4:
			what = "a refused upsert"
			seq := c.state().seq
			condition := fmt.Sprintf(`"if_version":%d`, version+1)
			if there && r.IntN(2) == 0 {
				condition = `"if_absent":true`
			}
			// The row before it has no condition; nothing of it may be written.
			_, err := c.write(httpapi.TypeJSON, fmt.Sprintf(`{"vectors":[{"id":"other","vector":[1,1,1]},{"id":%q,"vector":[1,1,1],%s}]}`, id, condition))
			if codeOf(err) != "condition_failed" || c.state().seq != seq || v.stored(c, "other").found {
				t.Fatalf("%s: %v, sequence %d after %d", what, err, c.state().seq, seq)
			}
		case 5:
			what = "a patch"
			a, err := c.patch(ctx, id, []byte(`{"x":1}`), request{})
			if !there {
				if codeOf(err) != "vector_not_found" {
					t.Fatal(err)
				}
				break
			}
			wrote(what, a, err, id)
		case 6:
			what = "a delete"
			if _, err := c.deleteIDs(ctx, deletion{ids: []string{id}}); err != nil {
				t.Fatal(err)
			}
			delete(model, id)
		case 7:
			what = "a flush"
			v.flush(c)
			if r.IntN(2) == 0 {
				what = "a merge"
				if err := c.compactAll(); err != nil {
					t.Fatal(err)
				}
			}
		case 8:
			what = "a restart"
			v.kill()
			v.open()
			c = v.collection("c")
		}
		check(what)
	}
	if len(model) == 0 || len(slices.Compact(slices.Sorted(maps.Values(model)))) != len(model) {
		t.Errorf("versions %v", model)
	}
}

func TestConditionsOverHTTP(t *testing.T) {
	s := newSite(t, nil)
	s.movies("l2")
	post := func(body string, headers ...string) reply {
		return s.do("POST", "/collections/movies/vectors", body, headers...)
	}
	const path = "/collections/movies/vectors/a"
	s.want(post(`{"id":"a","vector":[1,1,1],"if_absent":true}`), 200)
	s.want(post(`{"id":"z","vector":[1,1,1],"if_absent":false,"if_version":null}`), 200)
	if r := s.want(s.do("PATCH", path, `{"metadata":{"x":1}}`), 200); r.body["version"] != 3.0 {
		t.Errorf("patch: %s", r.raw)
	}
	for _, refusal := range []struct {
		body, contentType    string
		status               int
		code, field, message string
	}{
		{`{"id":"a","vector":[1,1,1],"if_absent":true}`, "", 409, "condition_failed", "if_absent", `if_absent is true, but "a" is there, at version 3`},
		{`{"vectors":[{"id":"b","vector":[1,1,1]},{"id":"a","vector":[1,1,1],"if_version":2}]}`, "", 409, "condition_failed", "vectors[1].if_version", `vectors[1].if_version is 2, but "a" is at version 3`},
		{`{"vectors":[{"id":"b","vector":[1,1,1],"if_version":3}]}`, "", 409, "condition_failed", "vectors[0].if_version", `vectors[0].if_version is 3, but there is no "b"`},
		{`{"vectors":[{"id":"b","vector":[1,1,1]},{"id":"a","vector":[1,1,1]}],"if_absent":true}`, "", 409, "condition_failed", "vectors[1].if_absent", ""},
		{"{\"id\":\"b\",\"vector\":[1,1,1]}\n{\"id\":\"a\",\"vector\":[1,1,1],\"if_version\":0}", httpapi.TypeNDJSON, 409, "condition_failed", "vectors[1].if_version", `vectors[1].if_version is 0, but "a" is at version 3`},
		{`{"id":"a","vector":[1,1,1],"if_absent":true,"if_version":3}`, "", 422, "ambiguous_condition", "if_version", "if_version is given beside if_absent"},
		{`{"if_absent":true,"vectors":[{"id":"a","vector":[1,1,1],"if_version":3}]}`, "", 422, "ambiguous_condition", "vectors[0].if_version", ""},
		{`{"if_version":3,"vectors":[{"id":"a","vector":[1,1,1]}]}`, "", 422, "ambiguous_body", "vectors", ""},
		{`{"vectors":[{"id":"a","vector":[1,1,1],"if_version":3},{"id":"a","vector":[2,2,2]}]}`, "", 422, "ambiguous_condition", "vectors[1].id", `vectors[1].id is "a", which is in the batch twice and has a condition`},
		{`{"vectors":[{"id":"a","vector":[1,1,1]},{"id":"a","vector":[2,2,2],"if_version":3}]}`, "", 422, "ambiguous_condition", "vectors[1].id", ""},
		{"{\"id\":\"a\",\"vector\":[1,1,1],\"if_version\":3}\n{\"id\":\"a\",\"vector\":[1,1,1]}", httpapi.TypeNDJSON, 422, "ambiguous_condition", "vectors[1].id", ""},
		{`{"id":"a","vector":[1,1,1],"if_version":"3"}`, "", 400, "wrong_type", "if_version", ""},
		{`{"id":"a","vector":[1,1,1],"if_version":-1}`, "", 400, "wrong_type", "if_version", ""},
		{`{"id":"a","vector":[1,1,1],"if_absent":1}`, "", 400, "wrong_type", "if_absent", ""},
	} {
		headers := []string{"Content-Type", httpapi.TypeJSON}
		if refusal.contentType != "" {
			headers[1] = refusal.contentType
		}
		r := post(refusal.body, headers...)
		if r.status != refusal.status || r.errorField("code") != refusal.code || r.errorField("field") != refusal.field ||
			refusal.message != "" && r.errorField("message") != refusal.message || r.header.Get("X-AkiDB-Write-Applied") != "false" {
			t.Errorf("%s: %d %s, applied %q; want %d %s at %q: %s", refusal.body, r.status, r.raw, r.header.Get("X-AkiDB-Write-Applied"), refusal.status, refusal.code, refusal.field, refusal.message)
		}
	}
	if seq := s.collection("movies").state().seq; seq != 3 {
		t.Errorf("refused writes took the sequence to %d", seq)
	}
	// The same request again is told the same, though its condition no longer holds.
	body := `{"vectors":[{"id":"a","vector":[2,2,2],"if_version":3},{"id":"b","vector":[2,2,2],"if_absent":true},{"id":"z","vector":[2,2,2]}]}`
	first := s.want(post(body, "Idempotency-Key", "k"), 200)
	for _, restart := range []bool{false, true} {
		if restart {
			s.kill()
			s.serve()
		}
		if again := s.want(post(body, "Idempotency-Key", "k"), 200); string(again.raw) != string(first.raw) {
			t.Errorf("again %s, first %s", again.raw, first.raw)
		}
		s.want(post(body, "Idempotency-Key", "other"), 409)
	}
	s.check(s.collection("movies"), map[string]item{
		"a": {[]float32{2, 2, 2}, ""}, "b": {[]float32{2, 2, 2}, ""}, "z": {[]float32{2, 2, 2}, ""},
	})
}
