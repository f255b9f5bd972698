package writer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/akidb/akidb/internal/memtable"
	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/manifest"
	"github.com/akidb/akidb/writer/wal"
)

// TestNoPatchIsLost: many at once on one row, with flushes in between, each
// adding a member of its own; and deletes, each of which counts a row once.
func TestNoPatchIsLost(t *testing.T) {
	const writers, each = 6, 15
	v := newWorld(t, smallTiers)
	v.open()
	c := v.create("c", 3, "l2")
	v.mustUpsert(c, some(0, 2))
	var group sync.WaitGroup
	for i := range writers {
		group.Go(func() {
			for j := range each {
				change := fmt.Appendf(nil, `{"m%d_%d":true}`, i, j)
				if _, err := c.patch(context.Background(), "row-0", change, request{}); err != nil {
					t.Error(err)
				}
				if j%5 == 0 {
					if err := c.flushTo(context.Background(), c.state().seq); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	group.Wait()
	var got map[string]bool
	if err := json.Unmarshal([]byte(v.writerSees(c)["row-0"].metadata), &got); err != nil || len(got) != writers*each {
		t.Errorf("%d members, want %d: %v", len(got), writers*each, err)
	}
	var mu sync.Mutex
	total := uint64(0)
	for range writers {
		group.Go(func() {
			a, err := c.deleteIDs(context.Background(), deletion{ids: []string{"row-0", "row-1"}})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			total += a.affected
		})
	}
	group.Wait()
	if total != 2 {
		t.Errorf("%d rows were counted as deleted, want 2", total)
	}
	v.check(c, nil)
}

// TestMergeMetadata compares with a merge of decoded maps, and checks that what
// is kept is kept to the letter.
func TestMergeMetadata(t *testing.T) {
	value := rapid.SampledFrom([]string{`null`, `1`, `1.50`, `"x"`, `"\u0041\/"`, `[1, 2]`, `{"a": {"b":null}}`, `true`})
	object := rapid.Custom(func(t *rapid.T) string {
		names := rapid.SliceOfDistinct(rapid.SampledFrom([]string{"a", "b", "c", `d.e`, `quo\"te`, `ü`, ``}), rapid.ID).Draw(t, "names")
		s := "{"
		for i, n := range names {
			if i > 0 {
				s += ", "
			}
			s += fmt.Sprintf(`"%s" : %s`, n, value.Draw(t, "value"))
		}
		return s + "}"
	})
	rapid.Check(t, func(t *rapid.T) {
		old, change := object.Draw(t, "old"), object.Draw(t, "change")
		merged, err := mergeMetadata([]byte(old), []byte(change))
		if err != nil {
			t.Fatal(err)
		}
		if err := columns.ValidateMetadata(merged, len(merged)); err != nil {
			t.Fatalf("merged %s: %v", merged, err)
		}
		parse := func(s []byte) map[string]json.RawMessage {
			var m map[string]json.RawMessage
			if err := json.Unmarshal(s, &m); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
			return m
		}
		want := parse([]byte(old))
		for k, raw := range parse([]byte(change)) {
			if string(raw) == "null" {
				delete(want, k)
			} else {
				want[k] = raw
			}
		}
		if got := parse(merged); !reflect.DeepEqual(got, want) {
			t.Fatalf("%s with %s is %s", old, change, merged)
		}
	})
	if got, err := mergeMetadata(nil, []byte(`{"a":1,"b":null}`)); err != nil || string(got) != `{"a":1}` {
		t.Errorf("onto nothing: %s, %v", got, err)
	}
}

// FuzzDecodeRecord: bytes of a record are never trusted.
func FuzzDecodeRecord(f *testing.F) {
	w := &write{kind: kindUpsert, affected: 2, ops: []memtable.Op{{Seq: 5, ID: "a", Vector: []float32{1, 2}, Metadata: []byte("{}")}, {Seq: 6, ID: "b", Delete: true}}}
	f.Add(encodePayload(2, w), uint8(kindUpsert), uint32(2))
	f.Add([]byte{}, uint8(9), uint32(1))
	f.Fuzz(func(t *testing.T, payload []byte, kind uint8, count uint32) {
		rec := &wal.Record{Seq: 5, Count: count, Kind: kind, Payload: payload}
		got, err := decodeRecord(rec, manifest.Collection{Dimension: 2})
		if err != nil {
			return
		}
		if again := encodePayload(2, got); string(again) != string(payload) {
			t.Fatalf("%x decodes and encodes as %x", payload, again)
		}
		if len(got.ops) > 0 {
			answerOf(1, got)
		}
	})
}

func TestDecodeRecordRefusesKinds(t *testing.T) {
	w := &write{kind: kindUpsert, affected: 1, ops: []memtable.Op{{Seq: 1, ID: "a", Delete: true}}}
	rec := &wal.Record{Seq: 1, Count: 1, Kind: 5, Payload: encodePayload(2, w)}
	if _, err := decodeRecord(rec, manifest.Collection{Dimension: 2}); !errors.Is(err, wal.ErrVersion) {
		t.Errorf("kind 5: %v", err)
	}
	if rec.Kind = kindMark; !refused(rec) {
		t.Error("a mark with a row was accepted")
	}
	if rec.Payload = encodePayload(2, &write{}); refused(rec) {
		t.Error("a mark was refused")
	}
	if rec.Count = 2; !refused(rec) {
		t.Error("a mark of two sequence numbers was accepted")
	}
}

func refused(rec *wal.Record) bool {
	_, err := decodeRecord(rec, manifest.Collection{Dimension: 2})
	return err != nil
}

// FuzzBody: whatever a client sends is refused or gives rows that are sound.
func FuzzBody(f *testing.F) {
	f.Add([]byte(`{"vectors":[{"id":"a","vector":[1,2],"metadata":{"x":1}}]}`), uint8(0))
	f.Add([]byte("{\"id\":\"a\",\"vector\":\"AACAPwAAgD8=\"}\n{\"id\":\"b\",\"vector\":[1,2]}"), uint8(1))
	f.Add([]byte("PAR1PAR1"), uint8(2))
	f.Fuzz(func(t *testing.T, body []byte, form uint8) {
		meta := manifest.Collection{Name: "c", Dimension: 2, Metric: "cosine"}
		b := newBatch(Config{}.withDefaults().Limits, meta)
		if err := b.parse(writableTypes[int(form)%len(writableTypes)], body); err != nil {
			if e := asWriteError(err); e.Status < 400 || e.Status >= 500 {
				t.Fatalf("a client's fault is answered %d: %v", e.Status, err)
			}
			return
		}
		if len(b.ops) == 0 || b.rows < len(b.ops) {
			t.Fatalf("%d operations of %d rows", len(b.ops), b.rows)
		}
		for _, op := range b.ops {
			if op.ID == "" || len(op.Vector) != 2 || op.Vector[0] == 0 && op.Vector[1] == 0 || columns.ValidateMetadata(op.Metadata, 64<<10) != nil {
				t.Fatalf("accepted %+v", op)
			}
		}
		memtable.AppendBatch(nil, 2, b.ops)
	})
}
