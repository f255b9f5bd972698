package writer

import (
	"encoding/json"
	"testing"

	"github.com/akidb/akidb/segments/manifest"
)

// A placement is a walk on four states; whoever asks for what is so commits
// nothing. Snapshots, restores, flushes, compactions and restarts leave it as
// it is, and a branch begins without one.
func TestPlacement(t *testing.T) {
	s := newSite(t, neverByItself)
	s.want(s.do("POST", "/collections", `{"name": "c", "dimension": 3, "metric": "l2"}`), 201)
	s.want(s.do("POST", "/collections/c/vectors", `{"id": "a", "vector": [1, 2, 3]}`), 200)
	version := uint64(0)
	ask := func(path, body, tier string, pinned, commits bool) {
		t.Helper()
		var out placedInfo
		if err := json.Unmarshal(s.want(s.do("POST", "/admin/collections/c/"+path, body), 200).raw, &out); err != nil {
			t.Fatal(err)
		}
		if out.Tier != tier || out.Pinned != pinned || (out.ManifestVersion > version) != commits {
			t.Errorf("%s %s: got %+v after version %d, want %s, pinned %v, committed %v", path, body, out, version, tier, pinned, commits)
		}
		version = out.ManifestVersion
	}
	ask("unpin", "", byUse, false, true) // that there is a version at all
	ask("unpin", "", byUse, false, false)
	ask("demote", "", manifest.Warm, false, true)
	ask("demote", "", manifest.Cold, false, true)
	ask("demote", "", manifest.Cold, false, false)
	ask("promote", "", manifest.Warm, false, true)
	ask("pin", "", manifest.Warm, true, true)
	ask("pin", "anything", manifest.Warm, true, false)
	s.want(s.do("POST", "/admin/collections/c/demote", `{"tier": "cold"}`), 409)
	ask("promote", "{}", manifest.Hot, true, true)
	ask("promote", `{"tier": "hot"}`, manifest.Hot, true, false)
	s.want(s.do("POST", "/admin/collections/c/promote", `{"tier": "cold"}`), 422)
	s.want(s.do("POST", "/admin/collections/c/demote", `{"tier": "tepid"}`), 422)
	s.want(s.do("POST", "/admin/collections/nobody/pin", ""), 404)

	want := func(name string, p *manifest.Placement) {
		t.Helper()
		c, err := s.w.catalog.find(name)
		if err != nil {
			t.Fatal(err)
		}
		got := c.log.Snapshot().Placement
		if got == nil && p == nil {
			return
		}
		if got == nil || p == nil || got.Tier != p.Tier || got.Pinned != p.Pinned || got.Since.IsZero() {
			t.Errorf("%s is placed as %+v, want %+v", name, got, p)
		}
	}
	hot := &manifest.Placement{Tier: manifest.Hot, Pinned: true}
	want("c", hot)
	s.want(s.do("POST", "/admin/collections/c/snapshots", `{"name": "then"}`), 201)
	ask("unpin", "", byUse, false, true)
	s.want(s.do("POST", "/admin/collections/c/restore", `{"snapshot_id": "then"}`), 200)
	want("c", nil)
	ask("pin", "", manifest.Hot, true, true)
	s.want(s.do("POST", "/collections/c/vectors", `{"id": "b", "vector": [1, 2, 3]}`), 200)
	s.want(s.do("POST", "/admin/collections/c/flush", ""), 200)
	s.want(s.do("POST", "/admin/collections/c/compact", ""), 200)
	s.want(s.do("POST", "/admin/collections/c/branch", `{"name": "d"}`), 201)
	want("c", hot)
	want("d", nil)
	var seen struct {
		Placement *struct {
			Tier   string
			Pinned bool
		}
	}
	if err := json.Unmarshal(s.want(s.do("GET", "/collections/c", nil), 200).raw, &seen); err != nil {
		t.Fatal(err)
	}
	if seen.Placement == nil || seen.Placement.Tier != manifest.Hot || !seen.Placement.Pinned {
		t.Errorf("shown as %+v", seen.Placement)
	}
	s.kill()
	s.serve()
	want("c", hot)
	want("d", nil)
}
