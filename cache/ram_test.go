package cache

import (
	"fmt"
	"testing"
	"time"

	"github.com/akidb/akidb/segments/blob"
)

// blockOf is a made-up block of n bytes.
func blockOf(role blob.Role, name string, n int) (blob.Range, []byte) {
	return blob.Range{Key: name, Length: n, Role: role}, make([]byte, n)
}

func newTestRAM(t *testing.T, budget int64, now func() time.Time) *ram {
	m, err := newRAM(Config{Bytes: budget, BlockBytes: 4096}.withDefaults(), &counters{}, now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.close)
	return m
}

// kept counts which of n blocks called prefix are in memory.
func kept(m *ram, role blob.Role, prefix string, n int) (count int) {
	for i := range n {
		if _, ok := m.get(blob.Range{Key: fmt.Sprint(prefix, i), Length: 4096, Role: role}); ok {
			count++
		}
	}
	return count
}

// A scan of ten times the memory, each block of it asked for again and again,
// leaves all routing data where it was. As posting lists the same blocks do not
// survive it: that is what the shelf of their own is for.
func TestScanLeavesRouting(t *testing.T) {
	const budget, blockBytes = 1 << 20, 4096
	routing := int(budget / routingShare / costOf(blockBytes))
	for _, role := range []blob.Role{blob.Routing, blob.Posting} {
		m := newTestRAM(t, budget, time.Now)
		for i := range routing {
			m.put(blockOf(role, fmt.Sprint("r", i), blockBytes))
			m.settle()
		}
		if got := kept(m, role, "r", routing); got != routing {
			t.Fatalf("%s: %d of %d blocks are in memory before the scan", role, got, routing)
		}
		for i := range 10 * budget / blockBytes {
			r, b := blockOf(blob.Role(i%2), fmt.Sprint("scan", i), blockBytes) // lists and columns
			for range 4 {
				m.get(r)
			}
			m.put(r, b)
			m.settle()
			if used := m.used(); used > budget {
				t.Fatalf("%d bytes kept, want at most %d", used, budget)
			}
		}
		got := kept(m, role, "r", routing)
		if all := got == routing; all != (role == blob.Routing) {
			t.Errorf("%s: %d of %d blocks are in memory after the scan", role, got, routing)
		}
	}
}

// What routing does not use is lent to the blocks, and given back at once; what
// it does not need any more is lent again.
func TestLending(t *testing.T) {
	const budget, blockBytes = 1 << 20, 4096
	var now time.Time
	m := newTestRAM(t, budget, func() time.Time { return now })
	fill := func() {
		for i := range 2 * budget / blockBytes {
			m.put(blockOf(blob.Posting, fmt.Sprint("p", i), blockBytes))
			m.settle()
		}
	}
	least := func(what string, want int64) {
		t.Helper()
		if used := m.used(); used > budget || used < want {
			t.Errorf("%s: %d bytes kept, want %d to %d", what, used, want, budget)
		}
	}
	const slack = budget/lendingSteps + 2*(blockBytes+blockOverhead)
	fill()
	least("no routing", budget-slack)
	for i := range 1000 {
		m.put(blockOf(blob.Routing, fmt.Sprint("r", i), blockBytes))
		m.settle()
		least("routing grows", budget-budget/8-2*slack)
	}
	by := m.byRole()
	if by[blob.Routing] < budget/routingShare-slack || by[blob.Routing]+by[blob.Posting]+by[blob.Column] != m.used() {
		t.Errorf("got %v by role, %d in all", by, m.used())
	}
	now = now.Add(2 * routingIdle)
	m.put(blockOf(blob.Routing, "new", blockBytes))
	if used := m.routing.used(); used != costOf(blockBytes) {
		t.Errorf("%d bytes of routing are kept, want the new block's only", used)
	}
	fill()
	least("routing was left alone", budget-slack)
}

// Routing data that finds no room on its shelf competes for the other.
func TestRoutingOverflows(t *testing.T) {
	const budget, blockBytes = 1 << 20, 4096
	m := newTestRAM(t, budget, time.Now)
	const count = budget / blockBytes / 2 // twice its share
	for i := range count {
		m.put(blockOf(blob.Routing, fmt.Sprint("r", i), blockBytes))
		m.settle()
	}
	if got := kept(m, blob.Routing, "r", count); got != count {
		t.Errorf("%d of %d blocks are in memory, and nothing else is", got, count)
	}
	big, b := blockOf(blob.Routing, "big", budget/routingShare)
	m.put(big, b)
	if got := m.routing.used(); got > budget/routingShare {
		t.Errorf("%d bytes on the shelf", got)
	}
}

// A role is no part of what a range is.
func TestRoleIsAHint(t *testing.T) {
	c, store, content := setup(t, Config{Bytes: 1 << 20})
	defer c.Close()
	r := rangeOf("a", content, 100, 1000)
	mustRead(t, c, r, content[100:1100])
	c.ram.settle()
	for role := range blob.Role(blob.RoleCount) {
		r.Role = role
		mustRead(t, c, r, content[100:1100])
	}
	if store.count() != 1 {
		t.Errorf("got %d reads, want 1", store.count())
	}
}
