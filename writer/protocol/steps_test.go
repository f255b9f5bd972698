package protocol

// bounds are what an exploration is limited to.
type bounds struct {
	name    string
	writes  uint8 // of the script
	objects uint8 // in the store at once, with those that something still refers to
	starts  uint8 // of processes, after the first
	merge   bool  // compaction
	subsets bool  // compaction takes any inputs, not only all
	foreign bool  // a takeover by another volume
	pin     bool  // one snapshot and one restore
}

// faults are mistakes that can be planted into the protocol.
type faults struct {
	versionedKeys       bool // a version is a key of its own, put if absent, collected when outdated
	collectUnreferenced bool // whatever its epoch
	collectPinned       bool
	deleteOnUnknown     bool // one's own object, when the outcome of its commit is unknown
	deleteOnRefused     bool // or when an answer, perhaps to a second copy, says that it lost
	reflushBlindly      bool // a repeated flush is planned on what was known before
	truncateEarly       bool
	ackDetached         bool
	ackUnconfirmed      bool
	outputWithoutEpoch  bool // compaction's keys look older than any epoch
	rebaseFenced        bool // a lost race is repeated without a look at the epoch
	claimKeepsEpoch     bool
	mergeForgets        bool // rows deleted during a compaction
	mergeAcrossRestore  bool
	restoreKeepsGarbage bool
	claimKeepsFlushed   bool // writes that the manifest has, in the memtable
}

// machine is the protocol within bounds, with faults.
type machine struct {
	bounds
	faults
	plain    bool // nothing is made canonical
	happened [kinds]int
}

// initial is a new collection and the process that created it.
func (m *machine) initial() state {
	s := state{starts: m.starts, current: content{epoch: 1}}
	s.writers[0] = process{phase: running, attached: true, fresh: true, epoch: 1}
	return s
}

// next emits what may follow s.
func (m *machine) next(s state, emit func(event, state)) {
	do := func(e event, n state) {
		n.forget()
		if !m.plain {
			n.canonical()
		}
		m.happened[e.kind]++
		emit(e, n)
	}
	for i := range s.writers {
		switch s.writers[i].phase {
		case off:
			m.start(s, i, do)
		case claiming:
			m.die(s, i, do)
			m.settle(s, i, do)
		case running:
			m.die(s, i, do)
			m.settle(s, i, do)
			m.write(s, i, do)
			m.flush(s, i, do)
			m.merge(s, i, do)
			m.snapshot(s, i, do)
		}
	}
	for i := range s.loose {
		if s.loose[i].epoch != 0 {
			n := s
			m.replace(&n, s.loose[i])
			e := event{kind: looseApplied, epoch: s.loose[i].epoch}
			if e.epoch > s.current.epoch {
				e.kind = looseClaimApplied
			}
			do(e, n)
		}
	}
	m.collect(s, do)
	if m.foreign {
		n := s
		for i := range n.writers {
			n.writers[i].fresh = false
		}
		n.ticked = s.current.owner != 0
		if n != s {
			do(event{kind: tick}, n)
		}
	}
}

func (p *process) event(k kind) event { return event{kind: k, epoch: p.epoch, volume: p.volume} }

// start opens a volume that is free, reads CURRENT and replays the log. A
// takeover is by the other volume, the log of which is empty or was shipped at
// some time.
func (m *machine) start(s state, i int, do func(event, state)) {
	other := &s.writers[1-i]
	if s.starts == 0 || i == 1 && other.phase == off { // two idle slots are one
		return
	}
	open := func(s state, p process) {
		if other.attached && other.volume == p.volume {
			return
		}
		s.starts--
		p.phase, p.attached, p.attempt = claiming, true, claim
		p.mem = s.wal[p.volume] &^ upTo(s.current.flushed)
		s.writers[i] = p
		e := p.event(started)
		e.set = s.wal[p.volume]
		do(e, s)
	}
	open(s, process{volume: s.current.owner})
	if m.foreign && s.current.owner == 0 {
		p := process{volume: 1, takeover: true}
		n := s
		n.opened = true
		open(n, p)
		if !s.opened && s.wal[0] != 0 {
			n.wal[1] = s.wal[0]
			open(n, p)
		}
	}
}

// die is a crash, at any time, or that the volume is taken away.
func (m *machine) die(s state, i int, do func(event, state)) {
	p := &s.writers[i]
	n := s
	n.writers[i] = process{}
	if p.attempt != noAttempt && !p.applied && p.behind == 0 {
		c := m.edit(&s, p)
		for j := range n.loose {
			if n.loose[j] == c {
				break
			}
			if n.loose[j].epoch == 0 {
				n.loose[j] = c
				break
			}
		}
	}
	do(p.event(crashed), n)
	if p.attached {
		n := s
		n.writers[i].attached = false
		do(p.event(detached), n)
	}
}

// write appends to the log, syncs, and acknowledges: one step, because a row
// that was logged and not acknowledged may be kept or lost.
func (m *machine) write(s state, i int, do func(event, state)) {
	p := &s.writers[i]
	if m.foreign && (!p.fresh || p.behind > 0) {
		n := s
		if m.mine(&s, p) {
			n.writers[i].fresh, n.writers[i].behind = true, 0
			do(p.event(confirmed), n)
		} else {
			n.writers[i] = process{}
			do(p.event(ackRefused), n)
		}
	}
	if s.written < m.writes && (p.attached || m.ackDetached) && (!m.foreign || p.fresh || m.ackUnconfirmed) {
		n := s
		n.written++
		w := writes(1) << s.written
		n.acked |= w
		n.writers[i].mem |= w
		if p.attached {
			n.wal[p.volume] |= w
		}
		if p.volume != s.current.owner {
			n.lost |= w // within the tick that a takeover accepts
			if s.ticked {
				n.wrong = zombieAcked
			}
		}
		e := p.event(acked)
		e.set = w
		do(e, n)
	}
	if cut := s.wal[p.volume] & upTo(p.known); p.attached && cut != 0 {
		n := s
		n.wal[p.volume] &^= cut
		e := p.event(truncated)
		e.set = cut
		do(e, n)
	}
}

// flush uploads the frozen memtable and sends the commit. Its deletes need no
// object.
func (m *machine) flush(s state, i int, do func(event, state)) {
	p := &s.writers[i]
	switch p.flushing.step {
	case idle:
		if p.mem == 0 {
			return
		}
		n := s
		f := &n.writers[i].flushing
		f.step, f.slot, f.batch = uploaded, none, p.mem
		rows := p.mem.rows() &^ p.mem.superseded()
		if rows != 0 {
			slot, ok := m.upload(&n, object{exists: true, epoch: p.epoch, rows: rows})
			if !ok {
				return
			}
			f.slot = slot
		}
		if m.truncateEarly {
			n.writers[i].known = p.mem.last()
		}
		e := p.event(flushUploaded)
		e.set = rows
		do(e, n)
	case uploaded:
		if p.attempt == noAttempt {
			n := s
			n.writers[i].attempt = flush
			do(p.event(flushSent), n)
		}
	}
}

func (m *machine) upload(s *state, o object) (slot uint8, ok bool) {
	used := s.existing() | s.referenced()
	for i := range m.objects {
		if !used.has(int(i)) {
			s.objects[i] = o
			return i, true
		}
	}
	return 0, false
}

// merge reads inputs, uploads an output and sends the commit.
func (m *machine) merge(s state, i int, do func(event, state)) {
	p := &s.writers[i]
	if !m.bounds.merge {
		return
	}
	switch p.merging.step {
	case idle:
		// A process that is behind would only make what is never committed, and
		// its flush does so already.
		if p.behind > 0 || p.applied {
			return
		}
		live := s.current.live.segments
		for inputs := live; inputs != 0; inputs = (inputs - 1) & live {
			hidden := false
			for j := range s.objects {
				hidden = hidden || inputs.has(j) && s.current.live.hidden[j] != 0
			}
			if inputs&(inputs-1) != 0 || hidden {
				n := s
				g := &n.writers[i].merging
				g.step, g.inputs = reading, inputs
				g.rows, _ = s.visible(&s.current.live, inputs)
				e := p.event(mergeRead)
				e.set = g.rows
				do(e, n)
			}
			if !m.subsets {
				break
			}
		}
		return
	case reading:
		n := s
		o := object{exists: true, epoch: p.epoch, rows: p.merging.rows}
		if m.outputWithoutEpoch {
			o.epoch = 0
		}
		if slot, ok := m.upload(&n, o); ok {
			g := &n.writers[i].merging
			g.step, g.slot = uploaded, slot
			e := p.event(mergeUploaded)
			e.set = o.rows
			do(e, n)
		}
	case uploaded:
		if p.attempt == noAttempt && (p.behind > 0 || m.mergeAcrossRestore || !s.uncovered(p)) {
			n := s
			n.writers[i].attempt = merge
			do(p.event(mergeSent), n)
		}
	}
	if p.attempt != merge {
		n := s
		if p.merging.step == uploaded { // not sent, so it never will be
			n.chosen |= 1 << p.merging.slot
		}
		n.writers[i].merging = process{}.merging
		do(p.event(mergeAbandoned), n)
	}
}

// uncovered reports that the inputs of p's compaction show a row that they did
// not when they were read: a restore brought it back.
func (s *state) uncovered(p *process) bool {
	now, _ := s.visible(&s.current.live, p.merging.inputs)
	return now&^p.merging.rows != 0
}

// snapshot sends pins, restores and unpins.
func (m *machine) snapshot(s state, i int, do func(event, state)) {
	p := &s.writers[i]
	if !m.bounds.pin || p.attempt != noAttempt || p.behind > 0 {
		return
	}
	send := func(a attempt, k kind) {
		n := s
		n.writers[i].attempt = a
		do(p.event(k), n)
	}
	switch s.current.pinning {
	case unpinned:
		send(pin, pinSent)
	case pinned:
		if !s.current.restored {
			send(restore, restoreSent)
		}
		send(unpin, unpinSent)
	}
}

// collect chooses what may go by the newest manifest, and deletes it at any
// later time.
func (m *machine) collect(s state, do func(event, state)) {
	c := &s.current
	garbage, old := c.garbage, objects(0)
	for i, o := range s.objects {
		if o.exists && !c.named().has(i) && (o.epoch < c.epoch || m.collectUnreferenced) {
			old |= 1 << i
		}
	}
	if !m.collectPinned {
		garbage &^= c.pin.segments
	}
	if choice := s.chosen | (garbage|old)&s.existing(); choice != s.chosen {
		n := s
		n.chosen = choice
		do(event{kind: chosen, epoch: c.epoch}, n)
	}
	for i, o := range s.objects {
		if !s.chosen.has(i) {
			continue
		}
		n := s
		n.objects[i].exists = false
		e := event{kind: orphanDeleted, epoch: o.epoch}
		switch {
		case c.garbage.has(i):
			e.kind = garbageDeleted
		case o.epoch == c.epoch:
			e.kind = abandonedDeleted
		}
		do(e, n)
	}
}
