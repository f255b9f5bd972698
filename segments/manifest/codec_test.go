package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akidb/segments/blob"
	"pgregory.net/rapid"
)

// example is a snapshot that has everything a snapshot can have.
func example() *Snapshot {
	at := time.Date(2026, 3, 14, 15, 9, 26, 535897932, time.UTC)
	id, full, live := "0b6e", "s1", "s2"
	return &Snapshot{
		Format: FormatVersion, Version: 2, Epoch: 3, CommitID: "c2",
		Parent:     &Link{Version: 1, Key: BodyKey(id, 1, "c1"), SHA256: strings.Repeat("ab", 32)},
		CreatedAt:  at,
		Collection: Collection{ID: id, Name: "movies", Dimension: 768, Metric: "cosine", CreatedAt: at.Add(-time.Hour)},
		FlushedSeq: 1<<60 + 1,
		Quantizers: []Quantizer{
			{ID: "q1", Ref: Ref{QuantizerKey(id, "q1"), 1 << 20, 0xfeedface}, Rows: 1<<33 + 1, Lists: 1 << 16},
			{ID: "q2", Ref: Ref{QuantizerKey(id, "q2"), 1, 0}, Rows: 0, Lists: 1},
		},
		Segments: []Segment{
			{
				ID: full, Rows: 1000, MinSeq: 1, MaxSeq: 1000,
				Data:      Ref{DataKey(id, full), 1 << 40, 0xdeadbeef},
				Index:     Ref{IndexKey(id, full), 1 << 30, 1},
				Footer:    Extent{1<<30 - 64, 64, 7},
				Quantizer: "q1",
				Deletes:   &DeleteVector{Ref{DeletesKey(id, full, "u1"), 20, 0xffffffff}, 10},
			},
			{
				ID: live, Rows: 1, MinSeq: 1001, MaxSeq: 1001,
				Data:   Ref{DataKey(id, live), 1, 0},
				Index:  Ref{IndexKey(id, live), 1, 0},
				Footer: Extent{0, 1, 0},
			},
		},
		Garbage:   []Garbage{{Key: DataKey(id, "s0"), Version: 2, RetiredAt: at}},
		Ancestors: []Ancestor{{Link{Version: 1, Key: BodyKey(id, 1, "c1"), SHA256: strings.Repeat("ab", 32)}, at.Add(-time.Minute)}},
		SetDigest: &SetDigest{1<<63 + 1, 1<<62 + 7},
		Placement: &Placement{Tier: Hot, Pinned: true, Since: at.Add(-time.Second)},
		Origins:   []string{"0a11"},
		Pins: []Pin{
			{ID: "p1", Name: "before the move", Manifest: Link{Version: 1, Key: BodyKey(id, 1, "c1"), SHA256: strings.Repeat("ab", 32)}, Rows: 3, CreatedAt: at},
			{ID: "p2", Manifest: Link{Version: 1, Key: BodyKey(id, 1, "c1"), SHA256: strings.Repeat("ab", 32)}, Branch: "0c22", CreatedAt: at},
		},
	}
}

func exampleCurrent() Current {
	return Current{
		Format: FormatVersion, Epoch: 3, Owner: "writer 1", CommitID: "c2",
		Manifest: Link{Version: 2, Key: BodyKey("0b6e", 2, "c2"), SHA256: strings.Repeat("cd", 32)},
	}
}

func mustEncode(t testing.TB, v any) []byte {
	t.Helper()
	var b []byte
	var err error
	switch v := v.(type) {
	case Current:
		b, err = encodeCurrent(v)
	case *Snapshot:
		b, _, err = encodeBody(v)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRoundTrip(t *testing.T) {
	b := mustEncode(t, example())
	s, err := decodeBody(b)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(s, example()) {
		t.Errorf("got %+v, want %+v", s, example())
	}
	if again := mustEncode(t, s); !bytes.Equal(again, b) {
		t.Errorf("encoded again it is\n%s, want\n%s", again, b)
	}
	b = mustEncode(t, exampleCurrent())
	c, err := decodeCurrent(b)
	if err != nil || c != exampleCurrent() {
		t.Errorf("got %+v, %v; want %+v", c, err, exampleCurrent())
	}
	if !json.Valid(b) {
		t.Errorf("CURRENT is not JSON:\n%s", b)
	}
}

// CURRENT has nothing else that vouches for it, so every flipped bit must show.
func TestCurrentBitFlips(t *testing.T) {
	good := mustEncode(t, exampleCurrent())
	for bit := range 8 * len(good) {
		b := bytes.Clone(good)
		b[bit/8] ^= 1 << (bit % 8)
		if c, err := decodeCurrent(b); !errors.Is(err, blob.ErrCorrupt) {
			t.Fatalf("bit %d: got %+v, %v; want corrupt", bit, c, err)
		}
	}
	for n := range len(good) {
		if _, err := decodeCurrent(good[:n]); !errors.Is(err, blob.ErrCorrupt) {
			t.Fatalf("first %d bytes: got %v, want corrupt", n, err)
		}
	}
	if _, err := decodeCurrent(append(bytes.Clone(good), '\n')); !errors.Is(err, blob.ErrCorrupt) {
		t.Errorf("a byte more: got %v, want corrupt", err)
	}
}

// format1 is what of the example there was in format 1, and so on.
func format1() *Snapshot {
	s := format2()
	s.Format, s.Quantizers, s.Segments[0].Quantizer = 1, nil, ""
	return s
}

func format3() *Snapshot {
	s := example()
	s.Format, s.Placement = 3, nil
	return s
}

func format2() *Snapshot {
	s := format3()
	s.Format, s.Ancestors, s.SetDigest, s.Origins, s.Pins = 2, nil, nil, nil, nil
	return s
}

// Every name that a format does not have yet is refused in it, and is one that a
// later format does have.
func TestNamesOfLaterFormats(t *testing.T) {
	for _, c := range []struct {
		old     *Snapshot
		members []string
	}{
		{format2(), []string{`"pins": null`, `"origins": []`, `"set_digest": null`, `"ancestors": []`}},
		{format3(), []string{`"placement": null`, `"placement": {"tier": "cold", "since": "2026-03-14T15:09:26Z"}`}},
	} {
		format := c.old.Format
		text := string(mustEncode(t, c.old))
		if s, err := decodeBody([]byte(text)); err != nil || !reflect.DeepEqual(s, c.old) {
			t.Fatalf("got %+v, %v; want %+v", s, err, c.old)
		}
		for _, member := range c.members {
			body := strings.Replace(text, `"segments"`, member+`, "segments"`, 1)
			want := strings.Trim(strings.Fields(member)[0], `":`) + fmt.Sprintf(": unknown in format %d", format)
			if _, err := decodeBody([]byte(body)); !errors.Is(err, blob.ErrCorrupt) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want corrupt because %q", member, err, want)
			}
			newer := strings.Replace(body, fmt.Sprintf(`"format": %d`, format), fmt.Sprintf(`"format": %d`, format+1), 1)
			if _, err := decodeBody([]byte(newer)); err != nil {
				t.Errorf("%s in format %d: %v", member, format+1, err)
			}
		}
	}
}

// A name that came with a later format is as unknown as any other, even when it
// says nothing; the format it came with has it.
func TestFormat1HasNoQuantizers(t *testing.T) {
	one := string(mustEncode(t, format1()))
	if s, err := decodeBody([]byte(one)); err != nil || !reflect.DeepEqual(s, format1()) {
		t.Fatalf("got %+v, %v; want %+v", s, err, format1())
	}
	const list = `{"id": "q1", "key": "collections/0b6e/quantizers/q1.ivq", "size": 1, "crc32c": 0, "rows": 1, "lists": 1}`
	for name, c := range map[string]struct{ quantizers, segment, want string }{
		"a list":            {`"quantizers": [` + list + `], `, ``, "quantizers: unknown in format 1"},
		"an empty list":     {`"quantizers": [], `, ``, "quantizers: unknown in format 1"},
		"no list":           {`"quantizers": null, `, ``, "quantizers: unknown in format 1"},
		"an empty name":     {``, `"quantizer": "", `, "segments[1].quantizer: unknown in format 1"},
		"a list and a name": {`"quantizers": [` + list + `], `, `"quantizer": "q1", `, "segments[1].quantizer: unknown in format 1"},
	} {
		body := strings.Replace(one, `"segments"`, c.quantizers+`"segments"`, 1)
		body = strings.Replace(body, `"id": "s2"`, c.segment+`"id": "s2"`, 1)
		if _, err := decodeBody([]byte(body)); !errors.Is(err, blob.ErrCorrupt) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want corrupt because %q", name, err, c.want)
		}
		body = strings.Replace(body, `"format": 1`, `"format": 2`, 1)
		if _, err := decodeBody([]byte(body)); err != nil {
			t.Errorf("%s in format 2: %v", name, err)
		}
	}
}

// A newer format is told from damage even if it shares no field but "format".
func TestUnsupported(t *testing.T) {
	payload := fmt.Appendf(nil, "{\n  \"format\": %d,\n  \"shape\": {\"new\": [1]}", FormatVersion+1)
	newer := sealed(payload)
	if _, err := decodeCurrent(newer); !errors.Is(err, ErrUnsupported) || errors.Is(err, blob.ErrCorrupt) {
		t.Errorf("CURRENT: got %v, want unsupported", err)
	}
	if _, err := decodeBody(append(payload, '}')); !errors.Is(err, ErrUnsupported) || errors.Is(err, blob.ErrCorrupt) {
		t.Errorf("body: got %v, want unsupported", err)
	}
}

// sealed returns payload, which lacks its closing brace, as a CURRENT.
func sealed(payload []byte) []byte {
	return fmt.Appendf(bytes.Clone(payload), sealFormat, crc32.Checksum(payload, blob.Castagnoli))
}

func TestStrictDecoding(t *testing.T) {
	good := string(mustEncode(t, example()))
	for name, bad := range map[string]string{
		"unknown name":    strings.Replace(good, `"epoch"`, `"more": 1, "epoch"`, 1),
		"duplicate name":  strings.Replace(good, `"epoch"`, `"epoch": 9, "epoch"`, 1),
		"other case":      strings.Replace(good, `"epoch"`, `"Epoch"`, 1),
		"trailing bytes":  good + "{}",
		"invalid UTF-8":   strings.Replace(good, "movies", "m\xffvies", 1),
		"negative number": strings.Replace(good, `"rows": 1000`, `"rows": -1`, 1),
		"too large":       strings.Replace(good, `"rows": 1000`, `"rows": 4294967296`, 1),
		"fraction":        strings.Replace(good, `"rows": 1000`, `"rows": 1.5`, 1),
		"not JSON":        "manifest",
		"nothing":         "",
		"null":            "null",
	} {
		if bad == good {
			t.Fatalf("%s: nothing was replaced", name)
		}
		if s, err := decodeBody([]byte(bad)); !errors.Is(err, blob.ErrCorrupt) {
			t.Errorf("%s: got %+v, %v; want corrupt", name, s, err)
		}
	}
	if _, err := decodeBody(make([]byte, MaxBodyBytes+1)); !errors.Is(err, blob.ErrCorrupt) {
		t.Errorf("a body too large: got %v, want corrupt", err)
	}
}

// Every rule of a sane snapshot, broken one at a time.
func TestChecks(t *testing.T) {
	for want, spoil := range map[string]func(*Snapshot){
		"format: got 0":                           func(s *Snapshot) { s.Format = 0 },
		"format: got 5":                           func(s *Snapshot) { s.Format = FormatVersion + 1 },
		"version: got 0":                          func(s *Snapshot) { s.Version = 0 },
		"epoch: got 0":                            func(s *Snapshot) { s.Epoch = 0 },
		"commit_id: invalid id":                   func(s *Snapshot) { s.CommitID = "a/b" },
		"parent: missing":                         func(s *Snapshot) { s.Parent = nil },
		"parent: got version 1 in version 3":      func(s *Snapshot) { s.Version = 3 },
		"parent: version: got 0":                  func(s *Snapshot) { s.Parent.Version = 0 },
		"parent: key: empty":                      func(s *Snapshot) { s.Parent.Key = "" },
		"parent: sha256":                          func(s *Snapshot) { s.Parent.SHA256 = strings.Repeat("AB", 32) },
		"collection.id":                           func(s *Snapshot) { s.Collection.ID = "../x" },
		"collection.name":                         func(s *Snapshot) { s.Collection.Name = "" },
		"collection.dimension":                    func(s *Snapshot) { s.Collection.Dimension = 0 },
		"collection.metric":                       func(s *Snapshot) { s.Collection.Metric = "L2" },
		"segments[1].id: \"s1\" is there twice":   func(s *Snapshot) { s.Segments[1].ID = "s1" },
		"segments[0].id: invalid id":              func(s *Snapshot) { s.Segments[0].ID = "" },
		"segments[0].rows":                        func(s *Snapshot) { s.Segments[0].Rows = 0 },
		"min_seq 1001 is past max_seq 1000":       func(s *Snapshot) { s.Segments[0].MinSeq = 1001 },
		"segments[0].data.key: got \"elsewhere\"": func(s *Snapshot) { s.Segments[0].Data.Key = "elsewhere" },
		"s1/data.parquet\" is named twice":        func(s *Snapshot) { s.Segments[1].Data.Key = s.Segments[0].Data.Key },
		"segments[0].data.size":                   func(s *Snapshot) { s.Segments[0].Data.Size = 0 },
		"segments[0].index.size":                  func(s *Snapshot) { s.Segments[0].Index.Size = -1 },
		"segments[0].footer: got offset -1":       func(s *Snapshot) { s.Segments[0].Footer.Offset = -1 },
		"and length 65 in":                        func(s *Snapshot) { s.Segments[0].Footer.Length = 65 },
		"footer: got offset 9223372036854775807":  func(s *Snapshot) { s.Segments[0].Footer.Offset = 1<<63 - 1 },
		"quantizers[0].id: invalid id":            func(s *Snapshot) { s.Quantizers[0].ID = "q/1" },
		"quantizers[1].id: \"q1\" is there twice": func(s *Snapshot) { s.Quantizers[1].ID = "q1" },
		"quantizers[1].key: got \"collections/other/quantizers/q2.ivq\"":              func(s *Snapshot) { s.Quantizers[1].Key = QuantizerKey("other", "q2") },
		"quantizers[1].key: \"collections/0b6e/quantizers/q1.ivq\" is named twice":    func(s *Snapshot) { s.Quantizers[1].Key = s.Quantizers[0].Key },
		"segments[0].data.key: \"collections/0b6e/quantizers/q1.ivq\" is named twice": func(s *Snapshot) { s.Segments[0].Data.Key = s.Quantizers[0].Key },
		"garbage[0].key: \"collections/0b6e/quantizers/q2.ivq\" is named twice":       func(s *Snapshot) { s.Garbage[0].Key = s.Quantizers[1].Key },
		"quantizers[0].size: got 0":                                 func(s *Snapshot) { s.Quantizers[0].Size = 0 },
		"quantizers[1].lists: got 0":                                func(s *Snapshot) { s.Quantizers[1].Lists = 0 },
		"segments[1].quantizer: \"q3\" is not in":                   func(s *Snapshot) { s.Segments[1].Quantizer = "q3" },
		"segments[0].quantizer: \"q1\" is not in":                   func(s *Snapshot) { s.Quantizers = s.Quantizers[1:] },
		"segments[0].deletes.size":                                  func(s *Snapshot) { s.Segments[0].Deletes.Size = 0 },
		"deletes.count: got 0":                                      func(s *Snapshot) { s.Segments[0].Deletes.Count = 0 },
		"deletes.count: got 1001 of 1000 rows":                      func(s *Snapshot) { s.Segments[0].Deletes.Count = 1001 },
		"s2/index.ivf\" is named twice":                             func(s *Snapshot) { s.Garbage[0].Key = s.Segments[1].Index.Key },
		"garbage[0].version: got 3":                                 func(s *Snapshot) { s.Garbage[0].Version = 3 },
		`placement.tier: got "tepid"`:                               func(s *Snapshot) { s.Placement.Tier = "tepid" },
		"placement.tier: got \"\"":                                  func(s *Snapshot) { s.Placement.Tier = "" },
		"ancestors[0]: version: got 0":                              func(s *Snapshot) { s.Ancestors[0].Version = 0 },
		"ancestors[0]: got {Version:1 Key:else":                     func(s *Snapshot) { s.Ancestors[0].Key = "elsewhere" },
		"ancestors[1]: got version 1 behind 1":                      func(s *Snapshot) { s.Ancestors = append(s.Ancestors, s.Ancestors[0]) },
		"pins[1].id: \"p1\" is there twice":                         func(s *Snapshot) { s.Pins[1].ID = "p1" },
		"pins[0].id: invalid id":                                    func(s *Snapshot) { s.Pins[0].ID = "" },
		"pins[1].branch: invalid id":                                func(s *Snapshot) { s.Pins[1].Branch = "/" },
		"pins[0].manifest: got version 2 in version 2":              func(s *Snapshot) { s.Pins[0].Manifest.Version = 2 },
		"pins[0].manifest: key: empty":                              func(s *Snapshot) { s.Pins[0].Manifest.Key = "" },
		"origins[0]: invalid id":                                    func(s *Snapshot) { s.Origins[0] = "" },
		"origins[0]: \"0b6e\" is there twice":                       func(s *Snapshot) { s.Origins[0] = "0b6e" },
		"segments[0].data.key: got \"collections/0a12":              func(s *Snapshot) { s.Segments[0].Data.Key = DataKey("0a12", "s1") },
		"garbage[0].key: got \"collections/0a11/segments/s0/data.p": func(s *Snapshot) { s.Garbage[0].Key = DataKey("0a11", "s0") },
	} {
		s := example()
		spoil(s)
		if err := s.check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if err := example().check(); err != nil {
		t.Errorf("the example itself: %v", err)
	}
	branched := example()
	branched.Segments[0].Data.Key = DataKey("0a11", "s1")
	if err := branched.check(); err != nil {
		t.Errorf("with an object of its origin: %v", err)
	}
}

func TestFollows(t *testing.T) {
	for want, spoil := range map[string]func(*Snapshot){
		"version: got 2 after 2":     func(s *Snapshot) { s.Version = 2 },
		"epoch: got 2 after 3":       func(s *Snapshot) { s.Epoch = 2 },
		"flushed_seq: got 5":         func(s *Snapshot) { s.FlushedSeq = 5 },
		"created_at: got 2026":       func(s *Snapshot) { s.CreatedAt = s.CreatedAt.Add(-1) },
		"set_digest: missing":        func(s *Snapshot) { s.SetDigest = nil },
		"cannot return":              func(s *Snapshot) { s.Dropped = false },
		"collection: got {ID:0b6e N": func(s *Snapshot) { s.Collection.Dimension++ },
		"for ever":                   func(s *Snapshot) { s.Collection.CreatedAt = time.Time{} },
		"quantizers[0]: got {ID:q1":  func(s *Snapshot) { s.Quantizers[0].CRC32C++ },
		"quantizers[1]: got {ID:q2 Ref:{Key:collections/0b6e/quantizers/q3.ivq": func(s *Snapshot) { s.Quantizers[1].Key = QuantizerKey("0b6e", "q3") },
		"Rows:1 Lists:1}, want {ID:q2":                                          func(s *Snapshot) { s.Quantizers[1].Rows = 1 },
	} {
		base := example()
		base.Dropped = true
		next := base.clone()
		next.Version++
		if err := next.follows(base); err != nil {
			t.Fatal(err)
		}
		spoil(next)
		if err := next.follows(base); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// Quantizers come and go; only what stays has to stay as it is.
func TestFollowsWithOtherQuantizers(t *testing.T) {
	base := example()
	next := base.clone()
	next.Version++
	next.Quantizers = append(next.Quantizers[:1], Quantizer{ID: "q3", Ref: Ref{QuantizerKey("0b6e", "q3"), 1, 0}, Lists: 1})
	if err := next.follows(base); err != nil {
		t.Error(err)
	}
}

func TestQuantizer(t *testing.T) {
	s := example()
	if q, ok := s.Quantizer("q2"); !ok || q != s.Quantizers[1] {
		t.Errorf("q2: got %+v, %v; want %+v", q, ok, s.Quantizers[1])
	}
	if q, ok := s.Quantizer(""); ok || q != (Quantizer{}) {
		t.Errorf("none: got %+v, %v", q, ok)
	}
}

func TestBytes(t *testing.T) {
	if got, want := example().Bytes(), int64(1<<40+1<<30+20+1+1+1<<20+1); got != want {
		t.Errorf("got %d, want %d", got, want)
	}
}

func TestCloneSharesNothing(t *testing.T) {
	s := example()
	c := s.clone()
	c.Segments[0].Deletes.Count++
	c.Segments[1].Rows++
	c.Quantizers[0].Lists++
	c.Garbage[0].Key = ""
	c.SetDigest.Add("x", 1)
	c.Pins[0].Name, c.Origins[0], c.Placement.Tier = "", "", Cold
	if !reflect.DeepEqual(s, example()) {
		t.Errorf("changing the copy changed the original: %+v", s)
	}
}

func TestCurrentRoundTripProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := exampleCurrent()
		c.Epoch = rapid.Uint64Min(1).Draw(t, "epoch")
		c.Owner = rapid.StringN(1, 100, 400).Draw(t, "owner")
		c.CommitID = rapid.StringMatching(idPattern.String()).Draw(t, "commit")
		c.Manifest.Version = rapid.Uint64Min(1).Draw(t, "version")
		b, err := encodeCurrent(c)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decodeCurrent(b); err != nil || got != c {
			t.Fatalf("got %+v, %v; want %+v", got, err, c)
		}
	})
}

// The checksum is recomputed, so that the fuzzer gets past it.
func FuzzDecodeCurrent(f *testing.F) {
	good := mustEncode(f, exampleCurrent())
	f.Add(good[:len(good)-sealBytes])
	f.Add(bytes.Replace(good[:len(good)-sealBytes], []byte(`"format": 2`), []byte(`"format": 1`), 1))
	f.Add([]byte(`{"format": 3`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, b := range [][]byte{payload, sealed(payload)} {
			c, err := decodeCurrent(b)
			if err != nil {
				if !errors.Is(err, blob.ErrCorrupt) && !errors.Is(err, ErrUnsupported) {
					t.Errorf("got %v, want corrupt or unsupported", err)
				}
				continue
			}
			if again, err := decodeCurrent(mustEncode(t, c)); err != nil || again != c {
				t.Errorf("got %+v, %v; want %+v", again, err, c)
			}
		}
	})
}

func FuzzDecodeBody(f *testing.F) {
	f.Add(mustEncode(f, example()))
	f.Add(mustEncode(f, format1()))
	damaged := example() // names of format 2 in format 1
	damaged.Format = 1
	f.Add(mustEncode(f, damaged))
	f.Add([]byte(`{"format": 2, "quantizers": [{"id": "q1"}], "segments": [{"quantizer": "q1"}]}`))
	f.Add([]byte(`{"format": 3}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeBody(b)
		if err != nil {
			if !errors.Is(err, blob.ErrCorrupt) && !errors.Is(err, ErrUnsupported) {
				t.Errorf("got %v, want corrupt or unsupported", err)
			}
			return
		}
		again, err := decodeBody(mustEncode(t, s))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(mustEncode(t, again), mustEncode(t, s)) {
			t.Errorf("got %+v, want %+v", again, s)
		}
	})
}
