package writer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/manifest"
	"github.com/akidb/akidb/segments/verify"
)

// A collection that a program of format 2 left behind has no digest and no
// links, and works: it is written, merged, kept, restored, branched and verified.
func TestCollectionOfFormat2(t *testing.T) {
	ctx := context.Background()
	v := newWorld(t, nil)
	v.open()
	c := v.create("c", 3, "l2")
	v.flushNew(c, some(0, 10))
	v.stop()
	v.downgrade(c)
	v.open()
	c = v.collection("c")
	if s := c.log.Snapshot(); s.SetDigest != nil || s.Format != manifest.FormatVersion {
		t.Fatalf("got %+v", s)
	}
	v.flushNew(c, some(5, 10))
	pin := v.snapshot(c, "", true)
	if _, err := c.deleteIDs(ctx, deletion{ids: []string{"row-1", "row-7"}}); err != nil {
		t.Fatal(err)
	}
	v.flush(c)
	if err := c.compactAll(); err != nil {
		t.Fatal(err)
	}
	b, err := v.w.branch(ctx, c, "b", &pin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.restore(ctx, pin); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*collection{c, b} {
		if err := compare(v.writerSees(c), some(0, 15)); err != nil {
			t.Error(err)
		}
	}
	report, err := verify.Store(ctx, v.store, verify.Options{Now: v.clock.now})
	if err != nil || len(report.Problems) > 0 {
		t.Errorf("verify: %+v, %v", report, err)
	}
}

// downgrade rewrites the newest version of a collection, which is not its first,
// as format 2 has it.
func (v *world) downgrade(c *collection) {
	v.t.Helper()
	ctx := context.Background()
	must := func(err error) {
		v.t.Helper()
		if err != nil {
			v.t.Fatal(err)
		}
	}
	edit := func(b []byte, change func(map[string]json.RawMessage)) []byte {
		var object map[string]json.RawMessage
		must(json.Unmarshal(b, &object))
		object["format"] = json.RawMessage("2")
		change(object)
		out, err := json.MarshalIndent(object, "", "  ")
		must(err)
		return out
	}
	put := func(key string, b []byte) {
		_, err := v.store.Put(ctx, key, strings.NewReader(string(b)), int64(len(b)), blob.Condition{})
		must(err)
	}
	current, _, err := v.store.Get(ctx, manifest.CurrentKey(c.meta.ID))
	must(err)
	link := c.log.Current().Manifest
	body, _, err := v.store.Get(ctx, link.Key)
	must(err)
	body = edit(body, func(o map[string]json.RawMessage) {
		delete(o, "set_digest")
		delete(o, "ancestors")
	})
	put(link.Key, body)
	must(v.store.Delete(ctx, c.log.Snapshot().Parent.Key)) // the rest of the chain was collected
	sum := sha256.Sum256(body)
	link.SHA256 = hex.EncodeToString(sum[:])
	current = edit(current, func(o map[string]json.RawMessage) {
		delete(o, "crc32c")
		o["manifest"], err = json.Marshal(link)
		must(err)
	})
	current = []byte(strings.TrimSuffix(string(current), "\n}"))
	put(manifest.CurrentKey(c.meta.ID), append(current, sealOf(current)...))
}
