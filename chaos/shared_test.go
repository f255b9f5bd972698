package chaos

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// shared is what is known of rows that many clients write at once. Who was last
// is the database's to say, and it did: the sequence number in the token that
// came with the acknowledgement. In the end such a row is what the write with
// the greatest number made it, or what one of unknown fate did; for every reader
// and for good.
type shared struct {
	mu   sync.Mutex
	rows map[string]*sharedRow
	seqs map[uint64]string // of acknowledged writes
}

type sharedRow struct {
	seq     uint64 // the greatest
	content string // of that write
	unknown []string
	seen    *string // by the audit
}

const (
	sharedRows   = 8
	sharedPrefix = "shared-"
)

func newShared() *shared { return &shared{rows: map[string]*sharedRow{}, seqs: map[uint64]string{}} }

// owned are the rows that one client writes.
func owned(rows []Row) []Row {
	return slices.DeleteFunc(slices.Clone(rows), func(r Row) bool { return strings.HasPrefix(r.ID, sharedPrefix) })
}

// writeShared writes a row that others write, too.
func (c *killClient) writeShared() {
	row := c.row(fmt.Sprint(sharedPrefix, c.rng.IntN(sharedRows)))
	a, err := c.to.Send("POST", "/api/v1/collections/points/vectors", row)
	kind := outcome(a, err)
	switch {
	case kind == Acked:
		if err := c.shared.acked(row, a); err != nil {
			c.t.Error(err)
		}
	case kind == Unknown:
		c.shared.unknown(row)
	case kind == "", err == nil && !overload[a.Status]:
		c.t.Errorf("upsert of %q: %v", row.ID, a)
	default:
		c.tally(refusal(a, err))
	}
	c.count(kind)
}

func (s *shared) row(id string) *sharedRow {
	if s.rows[id] == nil {
		s.rows[id] = &sharedRow{}
	}
	return s.rows[id]
}

func (s *shared) acked(row Row, a Answer) error {
	var got struct{ Token string }
	if err := decode(a.Body, &got); err != nil {
		return fmt.Errorf("upsert of %q: %w: %v", row.ID, err, a)
	}
	_, text, _ := strings.Cut(got.Token, ".")
	seq, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return fmt.Errorf("upsert of %q: %w: %v", row.ID, err, a)
	}
	return s.add(row, seq)
}

func (s *shared) add(row Row, seq uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if other, taken := s.seqs[seq]; taken {
		return fmt.Errorf("writes to %q and %q were both acknowledged with sequence number %d", other, row.ID, seq)
	}
	s.seqs[seq] = row.ID
	if r := s.row(row.ID); seq > r.seq {
		r.seq, r.content = seq, row.content()
	}
	return nil
}

func (s *shared) unknown(row Row) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.row(row.ID)
	r.unknown = append(r.unknown, row.content())
}

// audit holds what a reader of everything found against what has to be there.
func (s *shared) audit(t *testing.T, when string, rows []Row) {
	t.Helper()
	if s != nil {
		require.NoError(t, s.check(rows), when)
	}
}

func (s *shared) check(rows []Row) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := map[string]string{}
	for _, row := range rows {
		if !strings.HasPrefix(row.ID, sharedPrefix) {
			continue
		}
		if found[row.ID] != "" {
			return &Fault{Duplicated, fmt.Sprintf("row %q is there twice", row.ID)}
		}
		found[row.ID] = row.content()
		if s.rows[row.ID] == nil {
			return &Fault{Invented, fmt.Sprintf("row %q, which nobody wrote", row.ID)}
		}
	}
	for id, r := range s.rows {
		is := found[id]
		switch {
		case r.seen != nil && *r.seen != is:
			return &Fault{Resurrected, fmt.Sprintf("row %q was %s and now is %s", id, *r.seen, is)}
		case is != r.content && is == "":
			return &Fault{Lost, fmt.Sprintf("row %q, of write %d", id, r.seq)}
		case is != r.content && !slices.Contains(r.unknown, is):
			return &Fault{Resurrected, fmt.Sprintf("row %q is %s, not that of write %d: %s", id, is, r.seq, r.content)}
		}
		r.seen = &is
	}
	return nil
}

func TestShared(t *testing.T) {
	one, two, three := small("shared-1", 1), small("shared-1", 2), small("shared-1", 3)
	written := func() *shared {
		s := newShared()
		require.NoError(t, s.add(two, 7))
		require.NoError(t, s.add(one, 5))
		s.unknown(three)
		return s
	}
	require.ErrorContains(t, written().add(three, 5), "both acknowledged")
	require.NoError(t, written().check([]Row{two, small("other", 1)}))
	require.NoError(t, written().check([]Row{three}))
	for problem, rows := range map[string][]Row{
		"lost: ":        nil,
		"resurrected: ": {one},
		"duplicated: ":  {two, two},
		"invented: ":    {two, small("shared-2", 1)},
	} {
		require.ErrorContains(t, written().check(rows), problem)
	}
	s := written()
	require.NoError(t, s.check([]Row{three}))
	require.ErrorContains(t, s.check([]Row{two}), "and now is")
}
