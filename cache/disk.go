package cache

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"
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
//   - Nobody waits for a write. Blocks are written by one goroutine, from a queue
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
	places map[uint64]place // by hash; no pointers, or the collector would look at all of them
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
	// diskPatience is how long New waits for what a former process left to be
	// known. Blocks it is not done with by then are found later.
	diskPatience = time.Second
)

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
	go func() {
		defer close(d.done)
		d.scan()
		close(d.scanned)
		for b := range d.queue {
			if b.settled != nil {
				close(b.settled)
				continue
			}
			d.write(b)
			d.queuedBytes.Add(-int64(len(b.bytes)))
		}
	}()
	return d
}

// close writes what waits, and gives the directory back. No call may follow.
func (d *disk) close() {
	close(d.stop)
	close(d.queue)
	<-d.done
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
// others.
func (d *disk) getAll(ctx context.Context, rs []blob.Range, missing []int, out [][]byte) (still []int) {
	var here []int
	for _, i := range missing {
		if d.has(rs[i]) {
			here = append(here, i)
		}
	}
	read := func(part []int) {
		for _, i := range part {
			if ctx.Err() == nil {
				out[i], _ = d.get(rs[i])
			}
		}
	}
	if len(here) == 0 {
		return missing
	}
	share := (len(here) + diskReads - 1) / diskReads
	var group sync.WaitGroup
	for part := range slices.Chunk(here[min(share, len(here)):], share) {
		group.Go(func() { read(part) })
	}
	read(here[:min(share, len(here))])
	group.Wait()
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

// write appends a block. The writer alone calls it, and what it calls.
func (d *disk) write(b blockToWrite) {
	h := d.hash(b.of)
	d.mu.Lock()
	_, have := d.places[h]
	on := d.state == diskOn
	d.mu.Unlock()
	if have || !on {
		return
	}
	if d.current == nil || d.current.size+recordSize(b.of) > d.slabBytes {
		if !d.turn() {
			d.count.diskRejections.Add(1)
			return
		}
	}
	if d.append(b, h) {
		d.count.diskWrites.Add(1)
		d.count.diskWrittenBytes.Add(recordSize(b.of))
	}
}

// append writes a record to the current slab, which has room for it.
func (d *disk) append(b blockToWrite, h uint64) bool {
	s := d.current
	d.scratch = appendRecord(d.scratch[:0], s.number, s.size, b.of, b.bytes)
	if _, err := s.file.WriteAt(d.scratch, s.size); err != nil {
		// What was written of it has no valid record after it, ever.
		_ = s.file.Truncate(s.size)
		d.current = nil
		d.mu.Lock()
		defer d.mu.Unlock()
		d.failed(&d.writeMisery, diskReadOnly, err)
		return false
	}
	d.writeMisery.Store(0)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.places[h] = place{slab: s.number, at: uint32(s.size)}
	s.hashes = append(s.hashes, h)
	s.size += recordSize(b.of)
	return true
}

// turn begins a new slab. It drops the oldest until the budget has room for it
// and one more: so there is always somewhere to write what is to outlive its
// slab. While the file system is short of room, every turn gives back one slab
// more than it takes.
func (d *disk) turn() bool {
	d.current = nil
	free, total := d.free()
	short := free < d.slabBytes+total/diskReserve
	dropped := 0
	for len(d.slabs) > 0 && (short && dropped < 2 || d.held()+d.slabBytes > d.budget || len(d.slabs) >= maxSlabs) {
		d.drop(d.slabs[0], false)
		dropped++
	}
	if short {
		free, _ = d.free()
	}
	begun := free >= d.slabBytes && d.create()
	for begun && len(d.slabs) > 1 && d.held()+2*d.slabBytes > d.budget {
		d.drop(d.slabs[0], true)
		dropped++
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.full = short || dropped > 0
	return d.current != nil
}

// free is how many bytes the file system has for us, and how many it has.
func (d *disk) free() (free, total int64) {
	free, total, err := d.fs.Free()
	if err != nil {
		d.count.diskErrors.Add(1)
		return math.MaxInt64, 0 // the write will tell
	}
	return free, total
}

// held is how many bytes the slabs have.
func (d *disk) held() (n int64) {
	for _, s := range d.slabs {
		n += s.size
	}
	return n
}

func (d *disk) create() bool {
	number := uint32(1)
	if n := len(d.slabs); n > 0 {
		number = d.slabs[n-1].number + 1
	}
	name := slabName(number)
	file, err := d.fs.Create(name)
	if err == nil {
		if _, err = file.WriteAt(slabHeader(number), 0); err == nil {
			d.current = &slab{number: number, file: file, size: slabHeaderSize}
			d.mu.Lock()
			defer d.mu.Unlock()
			d.slabs = append(d.slabs, d.current)
			return true
		}
		_ = file.Close()
	}
	_ = d.fs.Remove(name) // or it would be in the way of the next try
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed(&d.writeMisery, diskReadOnly, err)
	return false
}

// drop removes a slab. With keep, what was asked for since it was written is
// appended to the current one: what was asked for more than once until that is
// half full, what was asked for once until it is a quarter full.
func (d *disk) drop(s *slab, keep bool) {
	for asked := uint8(muchAsked); keep && asked > 0; asked-- {
		for _, h := range s.hashes {
			d.mu.Lock()
			p, ok := d.places[h]
			d.mu.Unlock()
			if ok && p.slab == s.number && p.asked >= asked && d.current != nil {
				d.again(s, p, h, d.slabBytes*int64(asked)/(2*muchAsked))
			}
		}
	}
	d.mu.Lock()
	for _, h := range s.hashes {
		if p, ok := d.places[h]; ok && p.slab == s.number {
			delete(d.places, h)
			d.count.diskEvictions.Add(1)
		}
	}
	d.slabs = slices.DeleteFunc(d.slabs, func(other *slab) bool { return other == s })
	d.mu.Unlock()
	_ = s.file.Close()
	if err := d.fs.Remove(slabName(s.number)); err != nil {
		d.count.diskErrors.Add(1)
	}
}

// again writes a record of s to the current slab, if it can be read and that
// does not get larger than most.
func (d *disk) again(s *slab, p place, h uint64, most int64) {
	head := make([]byte, min(recordHeaderSize+maxRecordKey, s.size-int64(p.at)))
	if _, err := s.file.ReadAt(head, int64(p.at)); err != nil {
		return
	}
	r, ok := decodeRecord(head, s.number, int64(p.at))
	if !ok || d.current.size+recordSize(r) > most {
		return
	}
	payload := make([]byte, r.Length)
	if _, err := s.file.ReadAt(payload, payloadAt(int64(p.at), r)); err != nil || r.Verify(payload) != nil {
		return
	}
	d.append(blockToWrite{of: r, bytes: payload}, h)
}

// scan learns what a former process left, the newest first.
func (d *disk) scan() {
	names, err := d.fs.List()
	if err != nil {
		d.mu.Lock()
		d.failed(&d.writeMisery, diskReadOnly, err)
		d.mu.Unlock()
		return
	}
	var numbers []uint32
	for _, name := range names {
		if n, ok := slabNumber(name); ok {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	for _, n := range slices.Backward(numbers) {
		select {
		case <-d.stop:
			return
		default:
			d.learn(n)
		}
	}
	for len(d.slabs) > 1 && d.held() > d.budget {
		d.drop(d.slabs[0], false)
	}
	if n := len(d.slabs); n > 0 { // go on where the last process was
		last := d.slabs[n-1]
		if size, err := last.file.Size(); err == nil && size >= last.size && last.size < d.slabBytes && last.file.Truncate(last.size) == nil {
			d.current = last
		}
	}
}

// learn adds a slab that is older than all that are known. What is none is
// removed: it has a name of ours.
func (d *disk) learn(number uint32) {
	name := slabName(number)
	file, err := d.fs.Open(name)
	if err != nil {
		d.count.diskErrors.Add(1)
		return
	}
	s := &slab{number: number, file: file}
	size, err := file.Size()
	if err == nil && size > maxSlabBytes {
		err = fmt.Errorf("%d bytes: %w", size, blob.ErrCorrupt)
	}
	if err == nil {
		err = checkSlabHeader(file, number)
	}
	if err != nil {
		if errors.Is(err, blob.ErrCorrupt) || errors.Is(err, io.EOF) {
			d.count.diskCorrupt.Add(1)
			_ = d.fs.Remove(name)
		} else {
			d.count.diskErrors.Add(1)
		}
		_ = file.Close()
		return
	}
	found := map[uint64]place{}
	end, gaps, err := scanSlab(file, number, size, func(r blob.Range, at int64) {
		h := d.hash(r)
		if _, twice := found[h]; !twice {
			s.hashes = append(s.hashes, h)
		}
		found[h] = place{slab: number, at: uint32(at)}
	})
	if err != nil {
		d.count.diskErrors.Add(1) // what was found is still good
	}
	d.count.diskCorrupt.Add(int64(gaps))
	s.size = end
	d.mu.Lock()
	defer d.mu.Unlock()
	for h, p := range found {
		if _, newer := d.places[h]; !newer {
			d.places[h] = p
		}
	}
	d.slabs = slices.Insert(d.slabs, 0, s)
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

const (
	slabPrefix = "slab-"
	slabSuffix = ".akidb"
)

func slabName(number uint32) string { return fmt.Sprintf("%s%08x%s", slabPrefix, number, slabSuffix) }

// slabNumber is the number of the slab that a file of this name is.
func slabNumber(name string) (uint32, bool) {
	hex, ok := strings.CutPrefix(name, slabPrefix)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(hex, slabSuffix), 16, 31) // there is always a next one
	return uint32(n), err == nil && slabName(uint32(n)) == name
}
