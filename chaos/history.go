package chaos

import (
	"fmt"
	"maps"
	"slices"
	"sync"
)

// Kind is what an Event is about.
type Kind string

// The kinds of events. What became of a write is what its client was told.
const (
	Acked   Kind = "acked"   // acknowledged: it has to be there
	Refused Kind = "refused" // certainly not applied: it must never be there
	Unknown Kind = "unknown" // may or may not have been applied, as a whole
	Read    Kind = "read"    // rows as somebody saw them
	Stale   Kind = "stale"   // rows as somebody saw them who was told that they may have changed since
)

// Event is one write, or one look at rows, after the answer was there. Rows are
// contents by id; "" means there is none: a delete, or nothing found.
type Event struct {
	Kind Kind
	Rows map[string]string
}

// History is what happened, in an order that is right for every single row:
// each has one client that writes it, one write after the other. A read tells
// what all writes before it came to, so nothing may be under way to its rows.
type History struct {
	mu     sync.Mutex
	events []Event
}

// Add appends an event. Rows are by id; the zero Row is none.
func (h *History) Add(kind Kind, rows map[string]Row) {
	contents := make(map[string]string, len(rows))
	for id, row := range rows {
		contents[id] = row.content()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, Event{kind, contents})
}

// Events is what happened until now.
func (h *History) Events() []Event {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.events)
}

// IDs are all rows that were ever written, in order.
func (h *History) IDs() []string {
	ids := map[string]bool{}
	for _, e := range h.Events() {
		for id := range e.Rows {
			ids[id] = true
		}
	}
	return slices.Sorted(maps.Keys(ids))
}

// Audit adds what a reader of everything found. Repeats are reported at once;
// rows that nobody wrote come out in Check.
func (h *History) Audit(rows []Row) error {
	seen := map[string]Row{}
	for _, id := range h.IDs() {
		seen[id] = Row{}
	}
	for _, r := range rows {
		if seen[r.ID].ID != "" {
			return &Fault{Duplicated, fmt.Sprintf("row %q is there twice", r.ID)}
		}
		seen[r.ID] = r
	}
	h.Add(Read, seen)
	return nil
}

// Class is what is wrong with a row.
type Class string

// The classes of faults.
const (
	Lost        Class = "lost"        // a row that has to be there is not
	Resurrected Class = "resurrected" // a row is as it was before a write that counts, or back
	Duplicated  Class = "duplicated"  // a row is there twice
	Invented    Class = "invented"    // a row is as no write that counts ever made it
	Torn        Class = "torn"        // of one write some rows are there and some are not
)

// Fault is something that a database must not do.
type Fault struct {
	Class Class
	What  string
}

func (f *Fault) Error() string { return string(f.Class) + ": " + f.What }

// candidate is a state a row may be in, and the event that would have made it.
type candidate struct {
	event   int // -1: before all events
	content string
}

// checker goes through a history and keeps, for every row, the states it may be
// in, oldest first. A write that is acknowledged leaves one, an unknown one adds
// one, a read leaves those that were seen. Contents are unique, so what was seen
// tells which writes of unknown fate came through; for one write, all of its
// rows have to tell the same.
type checker struct {
	rows     map[string][]candidate
	was      map[[2]string]bool // id and content of states that acknowledged and unknown writes made
	applied  map[int]bool       // by event, once it is known
	problems []*Fault
}

// Check returns everything in a history that a database must not do.
func Check(events []Event) []*Fault {
	c := checker{rows: map[string][]candidate{}, was: map[[2]string]bool{}, applied: map[int]bool{}}
	for i, e := range events {
		for _, id := range slices.Sorted(maps.Keys(e.Rows)) {
			if c.rows[id] == nil {
				c.rows[id] = []candidate{{event: -1}}
			}
			content := e.Rows[id]
			if e.Kind == Acked || e.Kind == Unknown {
				c.was[[2]string{id, content}] = true
			}
			switch e.Kind {
			case Acked:
				c.applied[i] = true
				c.rows[id] = []candidate{{i, content}}
			case Unknown:
				c.rows[id] = append(c.rows[id], candidate{i, content})
			case Read:
				c.read(i, id, content, events)
			case Stale:
				c.stale(i, id, content, events)
			}
		}
	}
	return c.problems
}

func (c *checker) read(at int, id, content string, events []Event) {
	var matching []candidate
	last := 0
	for i, may := range c.rows[id] {
		if may.content == content {
			matching, last = append(matching, may), i
		}
	}
	if len(matching) == 0 {
		class, what := describe(content, id, events[:at])
		c.fault(class, "event %d: row %q is %s; want %s", at, id, what, c.wanted(id))
		return
	}
	if len(matching) == 1 {
		c.resolve(at, id, matching[0].event, true)
	}
	for _, later := range c.rows[id][last+1:] {
		c.resolve(at, id, later.event, false)
	}
	c.rows[id] = matching
}

// resolve records what became of a write, as one of its rows tells.
func (c *checker) resolve(at int, id string, event int, applied bool) {
	if event < 0 {
		return
	}
	if before, known := c.applied[event]; known && before != applied {
		c.fault(Torn, "event %d: row %q shows that write %d was applied: %v; another of its rows showed the opposite", at, id, event, applied)
		return
	}
	c.applied[event] = applied
}

func (c *checker) fault(class Class, format string, args ...any) {
	c.problems = append(c.problems, &Fault{class, fmt.Sprintf(format, args...)})
}

// stale is read for one who was promised no more than a state that there once
// was: no row, or what a write made it that may have been applied.
func (c *checker) stale(at int, id, content string, events []Event) {
	if content != "" && !c.was[[2]string{id, content}] {
		class, what := describe(content, id, events[:at])
		c.fault(class, "event %d: row %q is %s, and never was", at, id, what)
	}
}

// describe says where a content that should not be there comes from.
func describe(content, id string, events []Event) (Class, string) {
	if content == "" {
		return Lost, "not there"
	}
	for i, e := range slices.Backward(events) {
		if e.Kind != Read && e.Kind != Stale && e.Rows[id] == content {
			class := Resurrected
			if e.Kind == Refused {
				class = Invented
			}
			return class, fmt.Sprintf("what write %d (%s) made it: %s", i, e.Kind, content)
		}
	}
	return Invented, "what nobody wrote: " + content
}

func (c *checker) wanted(id string) string {
	text := ""
	for i, may := range c.rows[id] {
		if i > 0 {
			text += " or "
		}
		switch {
		case may.event < 0:
			text += "no row, as in the beginning"
		case may.content == "":
			text += fmt.Sprintf("no row, by write %d", may.event)
		default:
			text += fmt.Sprintf("that of write %d: %s", may.event, may.content)
		}
	}
	return text
}
