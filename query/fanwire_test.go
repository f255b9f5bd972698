package query

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"reflect"
	"testing"
	"time"

	"github.com/akidb/akidb/cache"
	"github.com/akidb/akidb/query/pods"
)

func someQuestion() *question {
	return &question{
		number: 3, version: 7, commit: "c7", remaining: 1500 * time.Millisecond, memory: true, dim: 2,
		segments: []askedSegment{{"S1", nil}, {"S2", []byte("rows")}},
		searches: []askedSearch{
			{vector: []float32{1, -2}, k: 10, targetRecall: 0.95, flags: flagExact | flagThreshold, threshold: 3},
			{vector: []float32{0, 1e30}, k: 1, targetRecall: 1, nprobe: 4, filter: []byte(`{"must":[]}`)},
		},
	}
}

func someAnswer() *answered {
	return &answered{
		question: 0xfeed, dim: 2, took: cache.Taken{Hits: 1, DiskHits: 7, Misses: 2, Joined: 3, StoreGets: 4, StoreBytes: 5, Rounds: 6},
		found: []foundOne{
			{
				usage: usage{Segments: 1, ListsProbed: 2, CodesScanned: 3, Reranked: 4}, stages: []stage{{"scan", 1.234, reads{1, 2, 300}, "3 codes"}},
				hits: []hit{{distance: -1, id: "a", version: 9, metadata: []byte(`{"x":1}`), vector: []float32{1, 2}}, {distance: 2, id: "b"}},
			},
			{},
		},
	}
}

func TestMessagesOfPods(t *testing.T) {
	q := someQuestion()
	if got, err := decodeQuestion(q.encode()); err != nil || !reflect.DeepEqual(got, q) {
		t.Errorf("%+v, %v, want %+v", got, err, q)
	}
	a := someAnswer()
	if got, err := decodeAnswer(a.encode()); err != nil || !reflect.DeepEqual(got, a) {
		t.Errorf("%+v, %v, want %+v", got, err, a)
	}
}

// TestMessagesAreOfThisProtocol: what pods say to each other may only change with
// the number that keeps pods of different programs apart.
func TestMessagesAreOfThisProtocol(t *testing.T) {
	got := [3]uint32{pods.Protocol, sumOf(someQuestion().encode()), sumOf(someAnswer().encode())}
	if want := [3]uint32{1, 0xe3c33336, 0xf00f0357}; got != want {
		t.Errorf("protocol and messages are %#x, want %#x: another encoding takes another pods.Protocol", got, want)
	}
}

// TestDamagedMessagesAreRefused: every byte counts, and so does the end.
func TestDamagedMessagesAreRefused(t *testing.T) {
	for name, m := range map[string]struct {
		b      []byte
		decode func([]byte) error
	}{
		"question": {someQuestion().encode(), func(b []byte) error { _, err := decodeQuestion(b); return err }},
		"answer":   {someAnswer().encode(), func(b []byte) error { _, err := decodeAnswer(b); return err }},
	} {
		for i := range m.b {
			bad := bytes.Clone(m.b)
			bad[i] ^= 1
			if m.decode(bad) == nil {
				t.Errorf("%s: byte %d is wrong and nobody minds", name, i)
			}
			if m.decode(m.b[:i]) == nil {
				t.Errorf("%s: %d of %d bytes are enough", name, i, len(m.b))
			}
		}
		if m.decode(append(bytes.Clone(m.b), 0)) == nil {
			t.Errorf("%s: a byte too many", name)
		}
	}
	if _, err := decodeAnswer(someQuestion().encode()); err == nil {
		t.Error("a question is read as an answer")
	}
}

// resealed gives bytes a right checksum, so that what reads them sees them.
func resealed(magic string, b []byte) []byte {
	b = append([]byte(magic), b...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func FuzzDecodeQuestion(f *testing.F) {
	b := someQuestion().encode()
	f.Add(b[len(questionMagic) : len(b)-4])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		b = resealed(questionMagic, b)
		q, err := decodeQuestion(b)
		if err == nil && !bytes.Equal(q.encode(), b) {
			t.Errorf("%+v is encoded as %x, was %x", q, q.encode(), b)
		}
		if err != nil {
			return
		}
		for _, s := range q.segments {
			if rows, err := decodeRows(s.masked, 1000); err == nil && !rows.IsEmpty() && rows.Maximum() >= 1000 {
				t.Errorf("row %d of 1000", rows.Maximum())
			}
		}
	})
}

func FuzzDecodeAnswer(f *testing.F) {
	b := someAnswer().encode()
	f.Add(b[len(answerMagic) : len(b)-4])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		b = resealed(answerMagic, b)
		a, err := decodeAnswer(b)
		if err != nil {
			return
		}
		again, err := decodeAnswer(a.encode())
		if err != nil || !reflect.DeepEqual(again, a) {
			t.Errorf("%+v is read again as %+v, %v", a, again, err)
		}
	})
}

func FuzzDecodeRows(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0x3a, 0x30, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 5, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		rows, err := decodeRows(b, 100)
		if err != nil {
			return
		}
		n := 0
		for it := rows.Iterator(); it.HasNext(); n++ {
			if r := it.Next(); r >= 100 {
				t.Fatalf("row %d of 100", r)
			}
		}
		if n > 100 {
			t.Errorf("%d rows of 100", n)
		}
	})
}
