package protocol

// broken names the invariant that s violates.
func broken(s state) string {
	c := &s.current
	if c.named()&^s.existing() != 0 {
		return "I1: a manifest names an object that was deleted"
	}
	visible, twice := s.visible(&c.live, all)
	inLog := s.wal[c.owner] &^ upTo(c.flushed)
	valid := s.acked &^ s.lost &^ c.live.forgotten
	newest := valid &^ valid.superseded()
	if lost := newest &^ inLog; lost.rows()&^visible != 0 || lost&^lost.rows()&^upTo(c.flushed) != 0 {
		return "I2: an acknowledged write is lost"
	}
	if twice != 0 {
		return "I3: a row is visible twice"
	}
	if committed := valid & upTo(c.flushed); visible&(committed.superseded()|c.live.forgotten) != 0 {
		return "I4: a deleted row is visible again"
	}
	switch s.wrong {
	case epochWentBack:
		return "I5: a fenced writer's commit was applied"
	case zombieAcked:
		return "I6: a zombie acknowledged a write after the takeover"
	}
	return ""
}
