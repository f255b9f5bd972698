package chaos

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// What a client of a fleet waits between two requests, and after a write that
// was not acknowledged.
const (
	pace    = 12 * time.Millisecond
	backoff = 50 * time.Millisecond
)

// killClient writes rows that no other client writes, one write after the
// other, and knows what they are.
type killClient struct {
	*killing
	to     *Server // where it sends writes
	number int
	rng    *rand.Rand
	rows   map[string]Row // as they are; no entry or the zero Row: there is none
	made   int            // contents that were made
	moved  map[string]int // how often a row was left for another
	waits  time.Duration  // until the next request, in a fleet
}

func (c *killClient) run() {
	for c.goesOn() {
		c.waits = pace
		if c.shared != nil && c.rng.IntN(10) == 0 {
			c.writeShared()
		} else {
			c.write()
		}
		if id := c.anyID(); c.rng.IntN(4) == 0 {
			c.look(id)
		}
		if c.mortal {
			time.Sleep(c.waits) // a load, and no race of clients for two processors
		}
	}
}

func (c *killClient) anyID() string {
	id := fmt.Sprintf("client-%d-row-%d", c.number, c.rng.IntN(rowsEach))
	if n := c.moved[id]; n > 0 {
		id += fmt.Sprintf(".%d", n)
	}
	return id
}

// leave leaves rows for others with a new id: a write to them may be under way
// still, wherever requests wait, and come after whatever is done now.
func (c *killClient) leave(rows map[string]Row) {
	for id := range rows {
		delete(c.rows, id)
		base, _, _ := strings.Cut(id, ".")
		c.moved[base]++
	}
}

// attempt is a write on its way.
type attempt struct {
	method, path string
	body         any
	rows         map[string]Row // as they will be
	count        int            // of rows the answer has to speak of, if it does
	bad          bool           // it has to be refused
}

func (c *killClient) write() {
	var a attempt
	switch c.rng.IntN(10) {
	case 0, 1, 2:
		a = c.upsert(1)
	case 3, 4, 5:
		a = c.upsert(2 + c.rng.IntN(20))
	case 6:
		a = c.deleteOne()
	case 7:
		a = c.deleteSome()
	case 8:
		a = c.patch()
	default:
		a = c.wrong()
	}
	answer, err := c.to.Send(a.method, "/api/v1"+a.path, a.body)
	switch kind := outcome(answer, err); {
	case a.bad && kind == Acked, !a.bad && kind == Refused && err == nil && !overload[answer.Status]:
		c.t.Errorf("%s %s: %v", a.method, a.path, answer)
	case kind == "":
		c.t.Errorf("%s %s does not say whether it was applied: %v", a.method, a.path, answer)
	case kind == Acked:
		c.record(Acked, a.rows)
		maps.Copy(c.rows, a.rows)
		c.checkCount(a, answer)
	case kind == Refused:
		c.record(Refused, a.rows)
		if !a.bad {
			c.waits = backoff
			c.tally(refusal(answer, err))
			if strings.HasSuffix(a.path, "/vectors") {
				c.tally(upsertsRefused)
			}
		}
		c.gate.pass()
	case c.mortal:
		c.waits = backoff
		c.record(Unknown, a.rows)
		c.leave(a.rows)
	default:
		c.record(Unknown, a.rows)
		c.gate.pass()
		for _, id := range slices.Sorted(maps.Keys(a.rows)) {
			c.find(id)
		}
	}
}

// overload are the statuses with which a write is refused that is right.
var overload = map[int]bool{429: true, 503: true, 507: true}

const (
	noConnection   = "no connection"
	upsertsRefused = "upserts refused" // which need nothing but the log; others may have to read rows
)

// refusal is what a refused write is counted as.
func refusal(a Answer, err error) string {
	if err != nil {
		return noConnection
	}
	return fmt.Sprintf("refused with %d %s", a.Status, a.Problem().Code)
}

// outcome is what a client knows of its write; "" if it was not told.
func outcome(a Answer, err error) Kind {
	switch {
	case err != nil && neverConnected(err):
		return Refused
	case err != nil:
		return Unknown
	case a.Status >= 200 && a.Status <= 299:
		return Acked
	}
	return map[string]Kind{"false": Refused, "unknown": Unknown}[a.Header.Get(headerApplied)]
}

func (c *killClient) checkCount(a attempt, answer Answer) {
	var got struct {
		Upserted, Deleted *int
	}
	if err := decode(answer.Body, &got); err != nil {
		c.t.Errorf("%s %s: %v: %v", a.method, a.path, err, answer)
	}
	for _, n := range []*int{got.Upserted, got.Deleted} {
		if n != nil && *n != a.count {
			c.t.Errorf("%s %s: %v, want %d", a.method, a.path, answer, a.count)
		}
	}
}

// find learns what a write of unknown fate came to. Nothing else is done with
// the row before that is known.
func (c *killClient) find(id string) {
	for c.goesOn() {
		row, served, err := get(c.query, id, "strong")
		if err != nil {
			c.t.Error(err) // the query process is never killed
			return
		}
		if served != "" {
			c.history.Add(Read, map[string]Row{id: row})
			c.rows[id] = row
			return
		}
		c.gate.pass()
	}
}

// look reads a row, which has to be as it was left.
func (c *killClient) look(id string) {
	via := c.from[c.rng.IntN(len(c.from))]
	level := "latest"
	if c.mortal && c.rng.IntN(4) == 0 {
		level = "strong"
	}
	row, served, err := get(via, id, level)
	switch {
	case c.mortal && err != nil && !errors.Is(err, errWrong):
		c.tally(readFailed)
	case err != nil:
		c.t.Error(err)
	case served == "":
		c.tally(readFailed)
	case served == "eventual":
		c.tally(readStale)
		c.history.Add(Stale, map[string]Row{id: row})
	default:
		c.tally(readFresh)
		c.history.Add(Read, map[string]Row{id: row})
	}
}

// What reads are counted as.
const (
	readFresh  = "read as of now"
	readStale  = "read as of earlier"
	readFailed = "reads failed"
)

// row makes a row with a content that there is only once.
func (c *killClient) row(id string) Row {
	v := make([]float32, killDim)
	for i := range v {
		v[i] = float32(c.rng.NormFloat64())
	}
	return Row{id, v, c.metadata()}
}

func (c *killClient) metadata() jsontext.Value {
	c.made++
	return jsontext.Value(fmt.Sprintf(`{"made":"%d-%d","pad":"%s"}`, c.number, c.made, strings.Repeat("x", c.pad)))
}

func (c *killClient) upsert(n int) attempt {
	a := attempt{method: "POST", path: "/collections/points/vectors", rows: map[string]Row{}, count: n}
	var rows []Row
	for range n {
		row := c.row(c.anyID()) // of the same id twice the later counts
		rows, a.rows[row.ID] = append(rows, row), row
	}
	a.body = map[string]any{"vectors": rows}
	return a
}

// wrong is a batch whose last row is refused, and all of it with that.
func (c *killClient) wrong() attempt {
	a := c.upsert(1 + c.rng.IntN(10))
	rows := a.body.(map[string]any)["vectors"].([]Row)
	rows[len(rows)-1].Vector = []float32{1}
	a.bad = true
	return a
}

// patch changes the metadata of a row, which it needs to know.
func (c *killClient) patch() attempt {
	row := c.rows[c.anyID()]
	if row.ID == "" {
		return c.upsert(1)
	}
	row.Metadata = c.metadata()
	return attempt{
		method: "PATCH", path: vectorPath("points", row.ID), rows: map[string]Row{row.ID: row},
		body: map[string]any{"metadata": row.Metadata},
	}
}

func (c *killClient) deleteOne() attempt {
	id := c.anyID()
	return c.deletion(attempt{method: "DELETE", path: vectorPath("points", id), rows: map[string]Row{id: {}}})
}

func (c *killClient) deleteSome() attempt {
	rows := map[string]Row{}
	for range 1 + c.rng.IntN(10) {
		rows[c.anyID()] = Row{}
	}
	ids := slices.Sorted(maps.Keys(rows))
	return c.deletion(attempt{method: "POST", path: "/collections/points/vectors/delete", body: map[string]any{"ids": ids}, rows: rows})
}

func (c *killClient) deletion(a attempt) attempt {
	for id := range a.rows {
		if c.rows[id].ID != "" {
			a.count++
		}
	}
	return a
}
