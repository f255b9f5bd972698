package chaos

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"
)

// churner creates and drops collections under few names, again and again. To
// its history a collection is a row whose id is its name, told from others of
// the same name by its dimension.
type churner struct {
	*killing
	history History
	rng     *rand.Rand
	exists  map[string]bool
	made    int
}

func (c *churner) run() {
	for c.goesOn() {
		name := fmt.Sprintf("churn-%d", c.rng.IntN(3))
		via := []*Server{c.writer, c.query}[c.rng.IntN(2)]
		method, path, body, after := "DELETE", "/collections/"+name, any(nil), map[string]Row{name: {}}
		if !c.exists[name] {
			c.made++
			method, path, body = "POST", "/collections", map[string]any{"name": name, "dimension": c.made, "metric": "dot"}
			after[name] = ofDimension(name, c.made)
		}
		a, err := via.Send(method, "/api/v1"+path, body)
		switch kind := outcome(a, err); {
		case kind == "", kind == Refused && err == nil && a.Status != 503:
			c.t.Errorf("%s %s: %v", method, path, a)
		case kind == Acked:
			c.history.Add(kind, after)
			c.exists[name] = !c.exists[name]
		case kind == Refused:
			c.history.Add(kind, after)
			c.gate.pass()
		default:
			c.history.Add(kind, after)
			c.gate.pass()
			c.find(name)
		}
	}
}

func ofDimension(name string, dimension int) Row {
	return Row{ID: name, Metadata: jsontext.Value(fmt.Sprint(dimension))}
}

// find learns what became of a collection.
func (c *churner) find(name string) {
	for c.goesOn() {
		a, err := c.query.Send("GET", "/api/v1/collections/"+name+"?consistency=strong", nil)
		var got Collection
		switch {
		case err != nil:
			c.t.Error(err) // the query process is never killed
			return
		case a.Status == 503:
			c.gate.pass()
			continue
		case a.Status == 404:
			c.history.Add(Read, map[string]Row{name: {}})
		case a.Status == 200 && decode(a.Body, &got) == nil:
			c.history.Add(Read, map[string]Row{name: ofDimension(name, got.Dimension)})
		default:
			c.t.Errorf("collection %q: %v", name, a)
		}
		c.exists[name] = a.Status == 200
		return
	}
}

// audit demands that a server has the collections there have to be.
func (c *churner) audit(t *testing.T, s *Server) {
	t.Helper()
	var got struct{ Collections []Collection }
	s.OK(t, "GET", "/collections", nil, &got)
	var rows []Row
	for _, found := range got.Collections {
		if found.Name != "points" {
			rows = append(rows, ofDimension(found.Name, found.Dimension))
		}
	}
	require.Equal(t, len(got.Collections)-1, len(rows), "the collection that is never dropped")
	require.NoError(t, c.history.Audit(rows))
	for _, problem := range Check(c.history.Events()) {
		t.Errorf("collections: %v", problem)
	}
}
