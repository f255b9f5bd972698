package cache

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/akidb/akidb/segments/blob"
)

// DiskConfig is a directory for the disk tier.
type DiskConfig struct {
	Dir string // "": no disk tier
	// Bytes that the files may take. A file system that has less to give gets
	// less: of that a twentieth is left free.
	Bytes int64
	// Logger is told when the tier cannot work, once. nil: nobody is.
	Logger *slog.Logger

	slabBytes int64 // 0: what suits Bytes
}

// disk is the tier below memory: blocks that were read from the store, in files
// of fixed size that are only appended to. What it promises:
//
//   - It never fails and is never wrong. Whatever happens to the files or the
//     file system, a block is found and is right, or is not found.
//   - Nobody waits for a write, nor longer than a second for reads. Blocks are written by one goroutine, from a queue
//     that is bounded; what finds no room in it is not kept.
//   - It outlives the process, killed or not. What is there is known from the
//     headers of records; nothing is ever synced, as nothing needs to be.
//
// The oldest file goes when room is needed. Blocks in it that were asked for
// since they were written are written once more.
//
// A disk wears out by writing. One with room takes everything. A full one takes
// a block at the second time it has to come from the store, and at once only
// routing data: a scan of what is never read again writes nothing.
type disk struct {
	fs        diskFS
	lock      io.Closer
	log       *slog.Logger
	count     *counters
	seed      maphash.Seed
	budget    int64
	slabBytes int64

	queue       chan blockToWrite
	queuedBytes atomic.Int64
	stop        chan struct{} // closed when known slabs need not be looked at any more
	scanned     chan struct{} // closed when they were
	done        chan struct{} // closed when the writer has ended

	mu     sync.Mutex
	places map[uint64]place // by hash; about 50 bytes a block with its hash in slab, and no pointers for the collector to follow
	slabs  []*slab          // by number: the oldest first
	full   bool             // something had to go the last time room was needed
	known  []uint32         // of blocks that came from the store, by hash; a few bits are enough
	state  diskState

	readMisery, writeMisery atomic.Int32 // errors in a row

	current *slab  // appended to; the writer's
	scratch []byte // the writer's
}

type blockToWrite struct {
	of      blob.Range
	bytes   []byte
	settled chan<- struct{} // closed when the writer gets here; of no block
}

// place is where a record is.
type place struct {
	slab, at uint32
	asked    uint8 // how often since it was written, as far as it matters
}

// muchAsked is as often as it matters.
const muchAsked = 2

func (p place) askedAgain() place {
	p.asked = min(p.asked+1, muchAsked)
	return p
}

// slab is one file.
type slab struct {
	number uint32
	file   slabFile
	size   int64
	hashes []uint64 // of its records; some may have another place by now
}

// diskState is what a disk tier still does.
type diskState int

const (
	diskOff diskState = iota
	diskReadOnly
	diskOn
)

const (
	leastDiskBytes = 16 << 20
	// slabsWhenFull is how many slabs the budget has: dropping one costs little,
	// and there is one file handle for each.
	slabsWhenFull = 32
	leastSlab     = 1 << 20
	maxSlabBytes  = 256 << 20
	// maxSlabs bounds the files; it is reached at a terabyte.
	maxSlabs = 8192
	// maxQueuedBytes and maxQueued bound what waits to be written.
	maxQueuedBytes = 32 << 20
	maxQueued      = 4096
	// diskReserve is the part of the file system that is left free.
	diskReserve = 20
	// maxMisery is how many errors in a row turn the tier off.
	maxMisery = 16
	// diskReads is how many blocks one caller reads from the disk at the same time.
	diskReads = 8
	// diskSlow is how long a caller waits for the disk before he goes to the store.
	// A disk that is that slow is about to fail.
	diskSlow = time.Second
	// diskCloses is how long closing waits for what is still to be written.
	diskCloses = 5 * time.Second
	// diskPatience is how long New waits for what a former process left to be
	// known. Blocks it is not done with by then are found later.
	diskPatience = time.Second / 2
)

var errSlowDisk = fmt.Errorf("no answer in %v", diskSlow)

// openDisk starts the tier. It cannot fail: one that cannot work is off.
func openDisk(config DiskConfig, fs diskFS, count *counters) *disk {
	log := config.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	d := &disk{
		fs: fs, log: log.With("dir", config.Dir), count: count, seed: maphash.MakeSeed(),
		budget:    config.Bytes,
		slabBytes: config.slabBytes,
		queue:     make(chan blockToWrite, maxQueued),
		stop:      make(chan struct{}), scanned: make(chan struct{}), done: make(chan struct{}),
		places: map[uint64]place{},
		known:  make([]uint32, min(max(config.Bytes>>14, 1<<10), 1<<20)),
		state:  diskOn,
	}
	if d.slabBytes == 0 {
		d.slabBytes = min(max(d.budget/slabsWhenFull, leastSlab), maxSlabBytes)
	}
	var err error
	if d.lock, err = fs.Lock(); err != nil {
		d.log.Warn("disk cache is off", "err", err)
		count.diskErrors.Add(1)
		d.state = diskOff
		close(d.scanned)
		close(d.done)
		return d
	}
	go d.writeAll()
	return d
}

// close writes what waits, and gives the directory back. No call may follow. A
// disk that hangs is left to hang.
func (d *disk) close() {
	close(d.stop)
	close(d.queue)
	select {
	case <-d.done:
	case <-time.After(diskCloses):
		return
	}
	for _, s := range d.slabs {
		_ = s.file.Close()
	}
	if d.lock != nil {
		_ = d.lock.Close()
	}
}

func (d *disk) hash(r blob.Range) uint64 { return maphash.Comparable(d.seed, r.Bytes()) }

// has reports whether a block may be found, without reading it.
func (d *disk) has(r blob.Range) bool {
	h := d.hash(r)
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.places[h]
	return ok && d.state != diskOff
}

// get reads a block and checks it.
func (d *disk) get(r blob.Range) ([]byte, bool) {
	h := d.hash(r)
	d.mu.Lock()
	p, ok := d.places[h]
	s := d.slab(p.slab)
	if !ok || s == nil || d.state == diskOff {
		d.mu.Unlock()
		return nil, false
	}
	d.places[h] = p.askedAgain()
	size := s.size
	d.mu.Unlock()

	at := payloadAt(int64(p.at), r)
	if at+int64(r.Length) > size { // a record of another range with the same hash
		return nil, false
	}
	b := make([]byte, r.Length)
	_, err := s.file.ReadAt(b, at)
	if err == nil {
		if err = r.Verify(b); err == nil {
			d.readMisery.Store(0)
			return b, true
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.slab(p.slab) != s {
		return nil, false // it was dropped meanwhile
	}
	if now, ok := d.places[h]; ok && now.slab == p.slab && now.at == p.at {
		delete(d.places, h)
	}
	if errors.Is(err, blob.ErrCorrupt) || errors.Is(err, io.EOF) {
		d.count.diskCorrupt.Add(1)
	} else {
		d.failed(&d.readMisery, diskOff, err)
	}
	return nil, false
}

// getAll reads those of rs[missing] that are there into out and returns the
// others. It does not wait longer than diskSlow.
func (d *disk) getAll(ctx context.Context, rs []blob.Range, missing []int, out [][]byte) (still []int) {
	type answer struct {
		to    int // into out
		bytes []byte
	}
	var to []int
	var here []blob.Range // not rs, which is the caller's again when he does not wait any more
	for _, i := range missing {
		if d.has(rs[i]) {
			to, here = append(to, i), append(here, rs[i])
		}
	}
	if len(here) == 0 {
		return missing
	}
	answers := make(chan answer, len(here))
	var next atomic.Int64
	for range min(diskReads, len(here)) {
		go func() {
			for n := next.Add(1) - 1; n < int64(len(here)); n = next.Add(1) - 1 {
				b, _ := d.get(here[n])
				answers <- answer{to[n], b}
			}
		}()
	}
	slow := time.NewTimer(diskSlow)
	defer slow.Stop()
	for range here {
		select {
		case a := <-answers:
			out[a.to] = a.bytes
			continue
		case <-slow.C:
			d.mu.Lock()
			d.failed(&d.readMisery, diskOff, errSlowDisk)
			d.mu.Unlock()
		case <-ctx.Done():
		}
		next.Add(int64(len(here))) // nobody begins another one
		break
	}
	for _, i := range missing {
		if out[i] == nil {
			still = append(still, i)
		}
	}
	return still
}

// put offers a block that was read from the store and verified.
func (d *disk) put(r blob.Range, bytes []byte) { d.offer(r, bytes, r.Role == blob.Routing) }

// touch says that a block is asked for often where it is found before anybody
// looks here. It is as good as reading it here, or having missed it twice.
func (d *disk) touch(r blob.Range, bytes []byte) { d.offer(r, bytes, true) }

func (d *disk) offer(r blob.Range, bytes []byte, wanted bool) {
	h := d.hash(r)
	if !d.admit(r, h, wanted) {
		return
	}
	size := int64(len(bytes))
	// One block may always wait, however large.
	if d.queuedBytes.Add(size) > maxQueuedBytes && d.queuedBytes.Load() != size {
		d.queuedBytes.Add(-size)
		d.count.diskRejections.Add(1)
		return
	}
	select {
	case d.queue <- blockToWrite{of: r, bytes: bytes}:
	default:
		d.queuedBytes.Add(-size)
		d.count.diskRejections.Add(1)
	}
}

// admit decides whether a block is worth being written.
func (d *disk) admit(r blob.Range, h uint64, wanted bool) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p, have := d.places[h]; have {
		if wanted {
			d.places[h] = p.askedAgain()
		}
		return false
	}
	if d.state != diskOn {
		return false
	}
	seen := &d.known[h%uint64(len(d.known))]
	again := *seen == uint32(h>>32)
	*seen = uint32(h >> 32)
	if d.full && !wanted && !again || recordSize(r) > d.slabBytes-slabHeaderSize || len(r.Key) > maxRecordKey {
		d.count.diskRejections.Add(1)
		return false
	}
	return true
}

// failed counts an error and, if there were only such errors for a while, turns
// off what does not work. mu is held.
func (d *disk) failed(misery *atomic.Int32, to diskState, err error) {
	d.count.diskErrors.Add(1)
	if misery.Add(1) >= maxMisery && d.state > to {
		d.state = to
		d.log.Warn("disk cache does not work and is "+to.String(), "err", err)
	}
}

// slab finds a slab by number. mu is held.
func (d *disk) slab(number uint32) *slab {
	i, ok := slices.BinarySearchFunc(d.slabs, number, func(s *slab, n uint32) int { return int(int64(s.number) - int64(n)) })
	if !ok {
		return nil
	}
	return d.slabs[i]
}

// stats are what the tier holds.
func (d *disk) stats() (blocks, bytes int64, state string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return int64(len(d.places)), d.held(), d.state.String()
}

func (s diskState) String() string {
	switch s {
	case diskOn:
		return "on"
	case diskReadOnly:
		return "read-only"
	}
	return "off"
}
