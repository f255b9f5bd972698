package contract

import (
	"slices"
	"strings"
	"testing"
)

// served lists the routes of s that are for users, without the HEAD that every
// GET brings.
func served(s *server) []string {
	return slices.DeleteFunc(s.router.Routes(), func(r string) bool {
		return strings.HasPrefix(r, "HEAD ") || strings.Contains(r, " /internal/")
	})
}

func (d *document) routes() (out []string) {
	for _, op := range d.ops {
		out = append(out, op.method+" "+op.path)
	}
	slices.Sort(out)
	return out
}

// differences says which strings only one of two sets has.
func differences(a, b []string) (onlyA, onlyB []string) {
	lacks := func(set []string) func(string) bool {
		return func(s string) bool { return slices.Contains(set, s) }
	}
	return slices.DeleteFunc(slices.Clone(a), lacks(b)), slices.DeleteFunc(slices.Clone(b), lacks(a))
}

func TestRoutes(t *testing.T) {
	d := loadDocument(t)
	for role, s := range map[string]*server{"dev": startDev(t, setup{}), "query": startQuery(t, setup{}, "")} {
		missing, extra := differences(served(s), d.routes())
		if len(missing)+len(extra) > 0 {
			t.Errorf("%s: served and not in the document: %q; in the document and not served: %q", role, missing, extra)
		}
	}
	// A writer has no other routes, and lacks only reads.
	missing, extra := differences(served(startWriter(t, setup{})), d.routes())
	if len(missing) > 0 {
		t.Errorf("writer: served and not in the document: %q", missing)
	}
	reads := []string{
		"GET /api/v1/collections/{c}/vectors/{id}",
		"POST /api/v1/collections/{c}/facet", "POST /api/v1/collections/{c}/recall",
		"POST /api/v1/collections/{c}/search", "POST /api/v1/collections/{c}/search/batch",
		"POST /api/v1/collections/{c}/vectors/count", "POST /api/v1/collections/{c}/vectors/scroll", "POST /api/v1/collections/{c}/warm",
	}
	if !slices.Equal(extra, reads) {
		t.Errorf("writer: not served: %q, want %q", extra, reads)
	}
}

func TestPlanted_Routes(t *testing.T) {
	d := loadDocument(t)
	paths := d.root["paths"].(node)
	s := startDev(t, setup{})
	paths["/api/v1/planted"] = paths["/livez"]
	delete(paths, "/readyz")
	planted := newDocument(t, []byte(render(d.root)))
	missing, extra := differences(served(s), planted.routes())
	if !slices.Equal(missing, []string{"GET /readyz"}) || !slices.Equal(extra, []string{"GET /api/v1/planted"}) {
		t.Errorf("got %q and %q", missing, extra)
	}
}
