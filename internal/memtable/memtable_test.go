package memtable

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

const dim = 3

func makeOp(seq uint64, id string, del bool) Op {
	op := Op{Seq: seq, ID: id, Delete: del}
	if !del {
		op.Vector = []float32{float32(seq), -1, 0.5}
		if seq%2 == 0 {
			op.Metadata = fmt.Appendf(nil, `{"seq":%d}`, seq)
		}
	}
	return op
}

func sameOp(a, b Op) bool {
	return a.Seq == b.Seq && a.ID == b.ID && a.Delete == b.Delete && slices.Equal(a.Vector, b.Vector) && bytes.Equal(a.Metadata, b.Metadata)
}

// model is what a snapshot must show: the newest operation by id.
type model map[string]Op

func (m model) live() []string {
	var ids []string
	for id, op := range m {
		if !op.Delete {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func check(t interface {
	Helper()
	Fatalf(string, ...any)
}, s Snapshot, want model) {
	t.Helper()
	got := model{}
	s.Newest(0, func(op Op) bool {
		if _, twice := got[op.ID]; twice {
			t.Fatalf("id %q is newest twice", op.ID)
		}
		got[op.ID] = op
		return true
	})
	if !maps.EqualFunc(got, want, sameOp) {
		t.Fatalf("newest operations\n got %v\nwant %v", got, want)
	}
	for id, op := range want {
		if g, ok := s.Get(id); !ok || !sameOp(g, op) {
			t.Fatalf("Get(%q) = %v, %v, want %v", id, g, ok, op)
		}
	}
	var live []string
	for _, b := range s.Blocks() {
		for i := range b.Count {
			op, ok := b.Live(i)
			if !op.Delete && !slices.Equal(b.Vectors[i*dim:(i+1)*dim], op.Vector) {
				t.Fatalf("block has vector %v for %v", b.Vectors[i*dim:(i+1)*dim], op)
			}
			if ok {
				live = append(live, op.ID)
			}
		}
	}
	slices.Sort(live)
	if !slices.Equal(live, want.live()) {
		t.Fatalf("live rows %v, want %v", live, want.live())
	}
}

// TestSnapshotsStayWhatTheyWere takes snapshots along random operations and
// compares each with the model of its moment, then and at the end.
func TestSnapshotsStayWhatTheyWere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := New(dim, 100)
		now := model{}
		var snaps []Snapshot
		var models []model
		seq := uint64(100)
		for range rapid.IntRange(0, 40).Draw(t, "batches") {
			var ops []Op
			for range rapid.IntRange(1, 30).Draw(t, "ops") {
				seq++
				op := makeOp(seq, fmt.Sprintf("id%d", rapid.IntRange(0, 40).Draw(t, "id")), rapid.Bool().Draw(t, "delete"))
				ops = append(ops, op)
				now[op.ID] = op
			}
			table.Apply(ops)
			snaps, models = append(snaps, table.Snapshot()), append(models, maps.Clone(now))
			check(t, snaps[len(snaps)-1], now)
		}
		for i, s := range snaps {
			check(t, s, models[i])
		}
	})
}

// TestReplicaFollowsDeltas applies deltas between random moments to a replica
// and wants it to show what the table shows.
func TestReplicaFollowsDeltas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table, replica := New(dim, 7), New(dim, 7)
		seq := uint64(7)
		now := model{}
		for range rapid.IntRange(1, 20).Draw(t, "rounds") {
			for range rapid.IntRange(0, 15).Draw(t, "ops") {
				seq++
				op := makeOp(seq, fmt.Sprintf("id%d", rapid.IntRange(0, 9).Draw(t, "id")), rapid.Bool().Draw(t, "delete"))
				table.Apply([]Op{op})
				now[op.ID] = op
			}
			d := table.Snapshot().Delta(3, 9, replica.Snapshot().Last())
			got, err := DecodeDelta(AppendDelta(nil, dim, d), dim)
			if err != nil {
				t.Fatal(err)
			}
			if got.Epoch != 3 || got.Version != 9 || got.After != d.After || got.Upto != seq || !slices.EqualFunc(got.Ops, d.Ops, sameOp) {
				t.Fatalf("delta %+v came back as %+v", d, got)
			}
			replica.Apply(got.Ops)
			replica.AdvanceTo(got.Upto)
			check(t, replica.Snapshot(), now)
			if last := replica.Snapshot().Last(); last != seq {
				t.Fatalf("replica reflects %d, want %d", last, seq)
			}
		}
	})
}

func TestDeltaBeginsAtTheBaseWhenAskedForMore(t *testing.T) {
	table := New(dim, 50)
	table.Apply([]Op{makeOp(51, "a", false)})
	if d := table.Snapshot().Delta(1, 2, 10); d.After != 50 || d.Upto != 51 || len(d.Ops) != 1 {
		t.Fatalf("delta after 10 from base 50: %+v", d)
	}
	if d := table.Snapshot().Delta(1, 2, 51); d.After != 51 || d.Upto != 51 || len(d.Ops) != 0 {
		t.Fatalf("delta after the last: %+v", d)
	}
}

func TestBatchRoundTrip(t *testing.T) {
	ops := []Op{makeOp(5, "a", false), makeOp(6, "", true), makeOp(7, "b\x00ü", false), makeOp(8, "a", true)}
	got, err := DecodeBatch(AppendBatch(nil, dim, ops), dim, 5)
	if err != nil || !slices.EqualFunc(got, ops, sameOp) {
		t.Fatalf("got %v, %v, want %v", got, err, ops)
	}
	if _, err := DecodeBatch(AppendBatch(nil, dim, ops), dim+1, 5); !errors.Is(err, ErrMalformed) {
		t.Fatalf("batch of another dimension: %v", err)
	}
}

// TestDeltaDetectsEveryFlippedBit: a delta crosses a network.
func TestDeltaDetectsEveryFlippedBit(t *testing.T) {
	b := AppendDelta(nil, dim, Delta{Epoch: 1, Version: 2, After: 3, Upto: 9, Ops: []Op{makeOp(4, "a", false), makeOp(9, "b", true)}})
	for i := range len(b) * 8 {
		bad := bytes.Clone(b)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := DecodeDelta(bad, dim); !errors.Is(err, ErrMalformed) {
			t.Fatalf("bit %d flipped: %v", i, err)
		}
	}
}

// TestReadersWhileApplying is for the race detector; what is read must be one
// of the states there were.
func TestReadersWhileApplying(t *testing.T) {
	table := New(dim, 0)
	const rounds = 2000
	var readers sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				// Every operation replaces the one row, so each state but the
				// first shows exactly one, and it is the last one applied.
				s := table.Snapshot()
				n := 0
				s.Newest(0, func(op Op) bool {
					n++
					if op.Seq != s.Last() {
						t.Errorf("newest is %d in a state of %d", op.Seq, s.Last())
					}
					return true
				})
				if op, ok := s.Get("x"); ok != (s.Last() > 0) || ok && op.Seq != s.Last() {
					t.Errorf("Get = %v, %v in a state of %d", op, ok, s.Last())
				}
				if want := min(s.Last(), 1); uint64(n) != want {
					t.Errorf("%d rows in a state of %d", n, s.Last())
				}
			}
		})
	}
	for seq := uint64(1); seq <= rounds; seq++ {
		table.Apply([]Op{makeOp(seq, "x", false)})
	}
	close(done)
	readers.Wait()
}

func FuzzDecode(f *testing.F) {
	f.Add(AppendBatch(nil, dim, []Op{makeOp(1, "a", false), makeOp(2, "b", true)}))
	f.Add(AppendDelta(nil, dim, Delta{Upto: 4, Ops: []Op{makeOp(4, "a", false)}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if ops, err := DecodeBatch(b, dim, 1); err == nil {
			if again := AppendBatch(nil, dim, ops); !bytes.Equal(again, b) {
				t.Fatalf("%x decodes and encodes to %x", b, again)
			}
		}
		if d, err := DecodeDelta(b, dim); err == nil {
			if again := AppendDelta(nil, dim, d); !bytes.Equal(again, b) {
				t.Fatalf("%x decodes and encodes to %x", b, again)
			}
		}
	})
}
