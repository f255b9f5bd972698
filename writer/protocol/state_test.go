package protocol

import (
	"fmt"
	"math/bits"
	"strings"
)

// script is what clients write, in this order: write k has sequence number k.
// Write 3 supersedes write 1, write 4 deletes what write 2 brought.
var script = [...]struct {
	id     byte
	delete bool
}{{id: 'a'}, {id: 'b'}, {id: 'a'}, {id: 'b', delete: true}}

// writes is a set of writes, and of the rows they brought: bit k-1 is write k.
type writes uint8

func (w writes) has(k int) bool { return w>>(k-1)&1 == 1 }

// upTo is the set of the first k writes.
func upTo(k uint8) writes { return 1<<k - 1 }

// last is the highest sequence number in the set, 0 if it is empty.
func (w writes) last() uint8 { return uint8(bits.Len8(uint8(w))) }

// rows are the writes of a set that brought a row.
func (w writes) rows() writes { return w &^ deletions }

// older are all writes before k to the same id.
func older(k int) writes { return olderWrites[k-1] }

// superseded are all writes to whose ids there is a later one in the set.
func (w writes) superseded() writes {
	var out writes
	for k := 1; k <= len(script); k++ {
		if w.has(k) {
			out |= older(k)
		}
	}
	return out
}

var (
	deletions   writes
	olderWrites [len(script)]writes
	sameID      [len(script)]writes
)

func init() {
	for i, w := range script {
		if w.delete {
			deletions |= 1 << i
		}
		for j, other := range script {
			if other.id == w.id {
				sameID[i] |= 1 << j
			}
		}
		olderWrites[i] = sameID[i] & upTo(uint8(i))
	}
}

func (w writes) String() string {
	var ks []string
	for k := 1; k <= len(script); k++ {
		if w.has(k) {
			ks = append(ks, fmt.Sprint(k))
		}
	}
	return "{" + strings.Join(ks, ",") + "}"
}

// maxObjects is how many objects a state has room for: those that exist, and
// those that something still refers to.
const maxObjects = 7

// objects is a set of them: bit i is slot i.
type objects uint8

func (o objects) has(i int) bool { return o>>i&1 == 1 }

// none is the slot of no object.
const none = 0xff

// object is a segment in the store. Its key was made by a process of an epoch,
// was never used before and never will be again.
type object struct {
	exists bool
	epoch  uint8
	rows   writes
}

// tree is the part of a manifest that a snapshot pins and a restore brings back.
type tree struct {
	segments  objects
	hidden    [maxObjects]writes // delete vectors
	forgotten writes             // what restores undid: not in any manifest, but for the invariants
}

// content of a manifest.
type content struct {
	epoch   uint8
	owner   uint8 // the volume whose log may commit
	flushed uint8 // every write up to it is in the tree
	live    tree
	garbage objects

	pinning       pinning
	pin           tree
	pinnedFlushed uint8
	restored      bool
}

type pinning uint8

const (
	unpinned pinning = iota
	pinned
	released // the one snapshot there may be is gone again
)

// named are the objects that readers of a manifest may ask for.
func (c *content) named() objects { return c.live.segments | c.pin.segments }

// attempt is what a process has sent to replace CURRENT and not yet heard of.
type attempt uint8

const (
	noAttempt attempt = iota
	claim
	flush
	merge
	pin
	unpin
	restore
)

type phase uint8

const (
	off phase = iota
	claiming
	running
)

type step uint8

const (
	idle step = iota
	reading
	uploaded
)

// process is one incarnation of a writer: from start to crash.
type process struct {
	phase    phase
	volume   uint8
	takeover bool  // its claim need not find its own log as owner
	attached bool  // has the volume; without it it is a zombie
	fresh    bool  // saw within this tick that it is the owner
	epoch    uint8 // claimed; 0 before
	known    uint8 // flushed, as far as it knows
	mem      writes

	// behind says that CURRENT was replaced by others since the version that
	// this process knows: that of its own attempt, if that was applied, else
	// the one it was based on. It counts to 1, to 2 where keys are versioned.
	// Copies of an attempt may arrive at any time while it is 0. That is all
	// there is to versions: they are compared, never counted.
	behind  uint8
	attempt attempt
	applied bool

	flushing struct {
		step  step
		slot  uint8
		batch writes // the frozen memtable
		stale bool   // planned on an older version (a planted fault)
	}
	merging struct {
		step   step
		inputs objects
		rows   writes // that it read in them
		slot   uint8  // of the output
	}
}

// state is everything there is.
type state struct {
	current content
	objects [maxObjects]object
	writers [2]process
	// loose are attempts of processes that crashed: on their way, based on what
	// CURRENT is now.
	loose   [2]content
	chosen  objects   // to be deleted, at any time
	wal     [2]writes // per volume
	written uint8
	acked   writes
	lost    writes // accepted as lost by a takeover
	starts  uint8  // still allowed
	opened  bool   // the other volume: what was to be shipped to it is there
	ticked  bool   // a tick has ended since the takeover
	wrong   wrong  // what a single step violated
}

type wrong uint8

const (
	nothing wrong = iota
	epochWentBack
	zombieAcked
)

// visible are the rows that the segments of t in which hold, and those that two
// of them do.
func (s *state) visible(t *tree, which objects) (once, twice writes) {
	for i, o := range s.objects {
		if (t.segments & which).has(i) {
			rows := o.rows &^ t.hidden[i]
			twice |= once & rows
			once |= rows
		}
	}
	return once, twice
}

const all objects = 1<<maxObjects - 1

func (s *state) existing() objects {
	var out objects
	for i, o := range s.objects {
		if o.exists {
			out |= 1 << i
		}
	}
	return out
}

// referenced are the objects that something may still look at or commit.
func (s *state) referenced() objects {
	out := s.current.named()
	for i := range s.loose {
		out |= s.loose[i].named()
	}
	for i := range s.writers {
		w := &s.writers[i]
		out |= w.merging.inputs
		if w.flushing.step == uploaded && w.flushing.slot != none {
			out |= 1 << w.flushing.slot
		}
		if w.merging.step == uploaded {
			out |= 1 << w.merging.slot
		}
	}
	return out
}

// forget strikes deleted objects off the lists of what to delete, so that their
// slots can hold others.
func (s *state) forget() {
	exists := s.existing()
	s.chosen &= exists
	s.current.garbage &= exists
	for i := range s.loose {
		s.loose[i].garbage &= exists
	}
}

// canonical makes equal what differs in nothing that can matter: which slot an
// object or a process is in, and what is known of objects that nothing refers
// to any more.
func (s *state) canonical() {
	referenced := s.referenced()
	for i := range s.objects {
		o := &s.objects[i]
		switch bit := objects(1) << i; {
		case referenced&bit != 0:
		case !o.exists:
			*o = object{}
		case s.current.garbage&bit != 0:
			*o = object{exists: true} // it may be deleted, whatever it is
		default:
			o.rows = 0
		}
	}
	if s.writers[0].rank() < s.writers[1].rank() {
		s.writers[0], s.writers[1] = s.writers[1], s.writers[0]
	}
	s.sortObjects()
}

func (p *process) rank() uint64 {
	b := func(v bool) uint64 {
		if v {
			return 1
		}
		return 0
	}
	r := uint64(p.phase)
	for _, f := range [...]uint64{uint64(p.epoch), uint64(p.volume), b(p.attached), uint64(p.behind), uint64(p.mem), uint64(p.attempt), b(p.applied)} {
		r = r<<8 | f
	}
	return r
}

// sortObjects puts the objects into the order of what is said of them.
func (s *state) sortObjects() {
	var rank [maxObjects]uint32
	for i, o := range s.objects {
		if o == (object{}) {
			continue
		}
		r := uint32(o.epoch)<<8 | uint32(o.rows)
		for _, set := range [...]objects{
			s.existing(), s.current.live.segments, s.current.pin.segments, s.current.garbage, s.chosen,
			s.writers[0].merging.inputs, s.writers[1].merging.inputs,
		} {
			r = r<<1 | uint32(set>>i&1)
		}
		rank[i] = r<<1 | 1
	}
	var from [maxObjects]uint8 // from[i] is where what goes to slot i is now
	sorted := true
	for i := range from {
		j := i
		for ; j > 0 && rank[from[j-1]] < rank[i]; j-- {
			from[j], sorted = from[j-1], false
		}
		from[j] = uint8(i)
	}
	if sorted {
		return
	}
	set := func(o *objects) {
		if was := *o; was != 0 {
			*o = 0
			for i, f := range from {
				*o |= (was >> f & 1) << i
			}
		}
	}
	slot := func(n *uint8) {
		for i, f := range from {
			if *n == f {
				*n = uint8(i)
				return
			}
		}
	}
	inTree := func(t *tree) {
		set(&t.segments)
		was := t.hidden
		for i, f := range from {
			t.hidden[i] = was[f]
		}
	}
	inContent := func(c *content) {
		inTree(&c.live)
		inTree(&c.pin)
		set(&c.garbage)
	}
	was := s.objects
	for i, f := range from {
		s.objects[i] = was[f]
	}
	inContent(&s.current)
	for i := range s.loose {
		inContent(&s.loose[i])
	}
	for i := range s.writers {
		w := &s.writers[i]
		if w.flushing.step == uploaded {
			slot(&w.flushing.slot)
		}
		if w.merging.step == uploaded {
			slot(&w.merging.slot)
		}
		set(&w.merging.inputs)
	}
	set(&s.chosen)
}
