package cache

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync"

	"github.com/akidb/akidb/segments/blob"
)

// What one goroutine does to the files of a disk tier: it learns what is there,
// writes, and drops. It alone changes the list of slabs, so it reads that
// without the lock.

// writeAll is that goroutine.
func (d *disk) writeAll() {
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
}

// write appends a block.
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

// scanAtOnce is how many slabs are read at the same time: it is many small
// reads, and a disk is good at doing them side by side.
const scanAtOnce = 8

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
	slices.Reverse(numbers)
	for some := range slices.Chunk(numbers, scanAtOnce) {
		select {
		case <-d.stop:
			return
		default:
		}
		learned := make([]*found, len(some))
		var group sync.WaitGroup
		for i, n := range some {
			group.Go(func() { learned[i] = d.inspect(n) })
		}
		group.Wait()
		for _, f := range learned {
			d.learn(f)
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

// found is a slab of a former process, and what is in it.
type found struct {
	*slab
	places map[uint64]place
}

// inspect reads the headers of a slab. What is none is removed, as it has a name
// of ours, and nil.
func (d *disk) inspect(number uint32) *found {
	name := slabName(number)
	file, err := d.fs.Open(name)
	if err != nil {
		d.count.diskErrors.Add(1)
		return nil
	}
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
		return nil
	}
	f := &found{&slab{number: number, file: file}, map[uint64]place{}}
	end, gaps, err := scanSlab(file, number, size, func(r blob.Range, at int64) {
		h := d.hash(r)
		if _, twice := f.places[h]; !twice {
			f.hashes = append(f.hashes, h)
		}
		f.places[h] = place{slab: number, at: uint32(at)}
	})
	if err != nil {
		d.count.diskErrors.Add(1) // what was found is still good
	}
	d.count.diskCorrupt.Add(int64(gaps))
	f.size = end
	return f
}

// learn adds a slab that is older than all that are known.
func (d *disk) learn(f *found) {
	if f == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for h, p := range f.places {
		if _, newer := d.places[h]; !newer {
			d.places[h] = p
		}
	}
	d.slabs = slices.Insert(d.slabs, 0, f.slab)
}
