package main

import "testing"

func TestHeapLimit(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct{ memory, arenas, want int64 }{
		{10 * gib, 0, 9 * gib},
		{10 * gib, 3 * gib, 6 * gib},      // the default: 60 % for the cache, half of it for segments
		{10 * gib, 9 * gib, 10 * gib / 4}, // more than there is
	} {
		if got := heapLimit(c.memory, c.arenas); got != c.want {
			t.Errorf("%d of memory, %d of arenas: got %d, want %d", c.memory, c.arenas, got, c.want)
		}
	}
	if n := heapBytes(); n <= 0 {
		t.Errorf("the heap has %d bytes", n)
	}
}
