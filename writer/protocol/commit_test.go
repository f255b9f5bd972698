package protocol

// edit is what the attempt of p makes of CURRENT. It holds only while p is not
// behind: CURRENT is then what the attempt was based on.
func (m *machine) edit(s *state, p *process) content {
	c := s.current
	if p.attempt != claim {
		c.epoch = p.epoch
	}
	switch p.attempt {
	case claim:
		if !m.claimKeepsEpoch {
			c.epoch++
		}
		c.owner = p.volume
	case flush:
		f := &p.flushing
		if !f.stale {
			c.hide(s, f.batch)
		}
		if f.slot != none {
			c.live.segments |= 1 << f.slot
		}
		c.flushed = max(c.flushed, f.batch.last())
	case merge:
		g := &p.merging
		visible, _ := s.visible(&c.live, g.inputs)
		for i := range s.objects {
			if (g.inputs & c.live.segments).has(i) {
				c.retire(i)
			}
		}
		gone := g.rows &^ visible
		if m.mergeForgets {
			gone = 0
		}
		c.live.segments |= 1 << g.slot
		c.live.hidden[g.slot] = gone
		if gone == g.rows {
			c.retire(int(g.slot))
		}
	case pin:
		c.pinning, c.pin, c.pinnedFlushed = pinned, c.live, c.flushed
	case unpin:
		c.pinning, c.pin, c.pinnedFlushed = released, tree{}, 0
	case restore:
		c.restored = true
		c.garbage |= c.live.segments
		c.live = c.pin
		c.live.forgotten |= upTo(c.flushed) &^ upTo(c.pinnedFlushed)
		if !m.restoreKeepsGarbage {
			c.garbage &^= c.live.segments
		}
	}
	return c
}

// hide marks in c's segments all rows with the ids of a batch. A segment that
// shows no row any more is retired.
func (c *content) hide(s *state, batch writes) {
	var ids writes // every write, of any time, to one of the ids
	for k := 1; k <= len(script); k++ {
		if batch.has(k) {
			ids |= sameID[k-1]
		}
	}
	for i, o := range s.objects {
		if c.live.segments.has(i) {
			c.live.hidden[i] |= o.rows & ids
			if c.live.hidden[i] == o.rows {
				c.retire(i)
			}
		}
	}
}

// retire takes a segment out of c and lists it as garbage.
func (c *content) retire(i int) {
	c.live.segments &^= 1 << i
	c.live.hidden[i] = 0
	c.garbage |= 1 << i
}

// replace swaps CURRENT to c. Everybody's attempts but c's own are lost by it.
func (m *machine) replace(s *state, c content) {
	if c.epoch < s.current.epoch {
		s.wrong = epochWentBack
	}
	if c.owner != s.current.owner {
		s.lost |= s.acked &^ upTo(c.flushed) &^ s.wal[c.owner]
	}
	s.current = c
	most := uint8(1)
	if m.versionedKeys {
		most = 2
	}
	for i := range s.writers {
		if p := &s.writers[i]; p.phase != off {
			p.behind = min(p.behind+1, most)
		}
	}
	s.loose = [2]content{}
}

// mine reports whether CURRENT names the log and the epoch of p.
func (m *machine) mine(s *state, p *process) bool {
	return s.current.owner == p.volume && s.current.epoch == p.epoch
}

// settle is all that can become of an attempt. A copy of it may arrive at any
// time; only the first that finds CURRENT where it was does something, so lost
// and repeated copies need no steps of their own. Of answers only a yes means
// something; without one the process reads CURRENT, and when that has not moved
// it sends the same again, which changes nothing here.
func (m *machine) settle(s state, i int, do func(event, state)) {
	p := &s.writers[i]
	if p.attempt == noAttempt {
		return
	}
	if !p.applied && p.behind == 0 {
		n := s
		c := m.edit(&s, p)
		m.replace(&n, c)
		q := &n.writers[i]
		q.applied, q.behind = true, 0
		if p.attempt == claim {
			q.epoch, q.known = c.epoch, c.flushed
		}
		e := q.event(applied[p.attempt])
		if p.attempt == merge {
			switch {
			case !c.live.segments.has(int(p.merging.slot)):
				e.kind = mergeAppliedEmpty
			case c.live.hidden[p.merging.slot] != 0:
				e.kind = mergeAppliedRemapped
			}
		}
		if p.attempt == claim && !p.attached {
			e.kind = zombieClaimed
		}
		do(e, n)
	}
	if m.versionedKeys && !p.applied && p.behind == 2 && p.attempt != claim {
		n := s
		n.writers[i].applied, n.writers[i].behind = true, 1
		do(p.event(keyCreatedAgain), n)
	}
	if p.applied {
		n := s
		m.conclude(&n.writers[i])
		do(p.event(answered), n)
	}
	m.reread(s, i, do)
	m.wrongly(s, i, do)
}

// reread is what a process does that has no answer, or a no.
func (m *machine) reread(s state, i int, do func(event, state)) {
	p := &s.writers[i]
	n := s
	q := &n.writers[i]
	switch {
	case p.applied && p.behind == 0:
		m.conclude(q)
		q.fresh = true
		do(p.event(foundApplied), n)
	case p.applied:
		*q = process{}
		do(p.event(foundAppliedAndFenced), n)
	case p.behind == 0: // nothing is known
	case p.attempt == claim && (p.takeover || s.current.owner == p.volume):
		q.behind = 0
		do(p.event(claimRepeated), n)
	case m.rebaseFenced || p.attempt != claim && m.mine(&s, p):
		q.behind = 0
		do(p.event(rebased), n)
	default:
		e := p.event(foundRefused)
		if p.attempt == claim {
			e.kind = claimRefused
		}
		*q = process{}
		do(e, n)
	}
}

// conclude is what a process does with the news that its attempt was applied.
func (m *machine) conclude(p *process) {
	switch p.attempt {
	case claim:
		p.phase, p.takeover = running, false
		if p.known >= p.mem.last() || !m.claimKeepsFlushed {
			p.mem &^= upTo(p.known)
		}
	case flush:
		last := p.flushing.batch.last()
		p.known = max(p.known, last)
		p.mem &^= upTo(last)
		p.flushing = process{}.flushing
	case merge:
		p.merging = process{}.merging
	}
	p.attempt, p.applied = noAttempt, false
}

// wrongly is what only planted faults do with an attempt.
func (m *machine) wrongly(s state, i int, do func(event, state)) {
	p := &s.writers[i]
	unknown := p.attempt == flush || p.attempt == merge
	refused := unknown && (p.applied || p.behind > 0) // by the answer to a second copy
	if m.deleteOnUnknown && unknown || m.deleteOnRefused && refused {
		n := s
		q := &n.writers[i]
		slot := p.flushing.slot
		q.flushing = process{}.flushing
		if p.attempt == merge {
			slot = p.merging.slot
			q.flushing, q.merging = p.flushing, process{}.merging
		}
		q.attempt, q.applied = noAttempt, false
		e := p.event(ownDeleted)
		if slot != none {
			e.set = s.objects[slot].rows
			n.objects[slot].exists = false
		}
		do(e, n)
	}
	if m.reflushBlindly && p.attempt == flush {
		n := s
		q := &n.writers[i]
		q.attempt, q.applied = noAttempt, false
		slot := uint8(none)
		if rows := p.mem.rows() &^ p.mem.superseded(); rows != 0 {
			var ok bool
			if slot, ok = m.upload(&n, object{exists: true, epoch: p.epoch, rows: rows}); !ok {
				return
			}
		}
		q.flushing.batch, q.flushing.slot, q.flushing.stale = p.mem, slot, true
		e := p.event(flushUploadedAgain)
		e.set = p.mem
		do(e, n)
	}
}
