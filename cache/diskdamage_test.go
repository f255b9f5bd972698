package cache

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/memblob"
)

// After a kill the last record may be there in part. Whatever is there of it,
// the others are found and nothing is wrong.
func TestTornTail(t *testing.T) {
	store, content := testStore(t)
	fs := newMemFS()
	c := diskSetup(t, fs, 16, store)
	readBlocks(t, c, content, 0, 2)
	whole := len(fs.only(t).b)
	readBlocks(t, c, content, 2, 3)
	c.Close()
	for size := whole; size < len(fs.only(t).b); size++ {
		torn := fs.clone()
		f := torn.only(t)
		f.b = f.b[:size]
		c := diskSetup(t, torn, 16, store)
		payloadEnd := whole + recordHeaderSize + 1 + testBlock
		if n := readBlocks(t, c, content, 0, 3); n != 1 && size < payloadEnd || n != 0 && size >= payloadEnd {
			t.Fatalf("%d of %d bytes: %d blocks came from the store", size, whole, n)
		}
		if n := readBlocks(t, c, content, 0, 3); n != 0 {
			t.Fatalf("%d of %d bytes: %d blocks came from the store again", size, whole, n)
		}
		c.Close()
		if torn.held() > fs.held() {
			t.Fatalf("%d of %d bytes: what was torn is still there", size, whole)
		}
	}
}

// One flipped bit, anywhere: the right bytes, and one block lost at most, or
// the slab if it is no slab any more.
func TestFlippedBits(t *testing.T) {
	store := &spy{Store: memblob.New()}
	content := object(t, store, "a", 1<<20)
	const blocks, size = 4, 100
	block := func(i int) blob.Range { return rangeOf("a", content, i*size, size) }
	readAll := func(c *Cache) (fromStore int64) {
		var u Usage
		for i := range blocks {
			got, err := c.ReadRange(WithUsage(t.Context(), &u), block(i))
			if err != nil || !bytes.Equal(got, content[i*size:][:size]) {
				t.Fatalf("block %d: %d bytes, %v", i, len(got), err)
			}
			c.jobs.Wait()
			c.disk.settle()
		}
		return u.StoreGets.Load()
	}
	fs := newMemFS()
	c := diskSetup(t, fs, 16, store)
	readAll(c)
	c.Close()
	for at := range len(fs.only(t).b) {
		for bit := range 8 {
			for _, when := range []string{"before it is opened", "while it is open"} {
				left := fs.clone()
				flip := func() {
					left.mu.Lock()
					defer left.mu.Unlock()
					left.only(t).b[at] ^= 1 << bit
				}
				if when == "before it is opened" {
					flip()
				}
				c := diskSetup(t, left, 16, store)
				if when == "while it is open" {
					flip()
				}
				switch lost := readAll(c); {
				case when == "before it is opened" && at < 20 && lost != blocks:
					t.Fatalf("bit %d of byte %d: a slab that is none was believed", bit, at)
				case at >= slabHeaderSize && lost > 1:
					t.Fatalf("bit %d of byte %d %s: %d blocks lost", bit, at, when, lost)
				case lost > 0 && c.Stats().Disk.Corrupt == 0 && at < len(fs.only(t).b)-testBlock:
					t.Fatalf("bit %d of byte %d %s: %d blocks lost, none counted", bit, at, when, lost)
				}
				if again := readAll(c); again != 0 {
					t.Fatalf("bit %d of byte %d %s: %d blocks lost for good", bit, at, when, again)
				}
				c.Close()
			}
		}
	}
}

// The file system fills up after any number of bytes.
func TestDiskFull(t *testing.T) {
	store, content := testStore(t)
	for total := int64(0); total < 300<<10; total += 4999 {
		fs := newMemFS()
		fs.total = total
		c := diskSetup(t, fs, 16, store)
		readBlocks(t, c, content, 0, 100)
		readBlocks(t, c, content, 0, 100)
		s := c.Stats().Disk
		if s.Errors > maxMisery || total > 150<<10 && s.Blocks == 0 {
			t.Errorf("%d bytes: got %+v", total, s)
		}
		c.Close()
	}
}

// A file system that others fill gets room back, slab by slab.
func TestDiskGivesRoom(t *testing.T) {
	store, content := testStore(t)
	fs := newMemFS()
	c := diskSetup(t, fs, 8, store)
	defer c.Close()
	readBlocks(t, c, content, 0, 100)
	before := len(fs.files)
	fs.mu.Lock()
	fs.total = fs.held() + fs.held()/10 // and so nearly full
	fs.mu.Unlock()
	for range 2 {
		readBlocks(t, c, content, 100, 200)
	}
	if after := len(fs.files); after >= before || after == 0 {
		t.Errorf("%d slabs, %d before", after, before)
	}
	if s := c.Stats().Disk; s.State != "on" || s.Evictions == 0 {
		t.Errorf("got %+v", s)
	}
}

// Errors are misses; if there is nothing else, what does not work is turned
// off, once, with a line for the log.
func TestDiskErrors(t *testing.T) {
	always := func(string, int64, int) error { return syscall.EIO }
	for _, test := range []struct {
		name  string
		spoil func(*memFS)
		state string
	}{
		{"reads", func(fs *memFS) { fs.read = always }, "off"},
		{"writes", func(fs *memFS) { fs.write = always }, "read-only"},
		{"both", func(fs *memFS) { fs.read, fs.write = always, always }, "off"},
		{"one read in ten", func(fs *memFS) {
			n := 0
			fs.read = func(string, int64, int) error {
				if n++; n%10 == 0 {
					return syscall.EIO
				}
				return nil
			}
		}, "on"},
		{"one write in ten", func(fs *memFS) {
			n := 0
			fs.write = func(string, int64, int) error {
				if n++; n%10 == 0 {
					return syscall.EIO
				}
				return nil
			}
		}, "on"},
	} {
		t.Run(test.name, func(t *testing.T) {
			store, content := testStore(t)
			fs := newMemFS()
			var log bytes.Buffer
			config := diskConfig(16)
			config.Disk.Logger = slog.New(slog.NewTextHandler(&log, nil))
			c, err := open(config, store, fs)
			if err != nil {
				t.Fatal(err)
			}
			<-c.disk.scanned
			readBlocks(t, c, content, 0, 50)
			fs.mu.Lock()
			test.spoil(fs)
			fs.mu.Unlock()
			readBlocks(t, c, content, 0, 100)
			readBlocks(t, c, content, 0, 100)
			s := c.Stats().Disk
			if s.State != test.state || s.Errors == 0 {
				t.Errorf("got %+v", s)
			}
			c.Close()
			if lines := strings.Count(log.String(), "\n"); lines > 2 || (lines > 0) != (test.state != "on") {
				t.Errorf("logged %q", log.String())
			}
		})
	}
}

// FuzzSlab opens any file as a slab: nothing panics, what is found lies in it
// and says of itself what it is, and no read is wrong.
func FuzzSlab(f *testing.F) {
	store := &spy{Store: memblob.New()}
	content := object(f, store, "a", 1<<20)
	fs := newMemFS()
	c := diskSetup(f, fs, 16, store)
	for i := range 3 {
		if _, err := c.ReadRange(f.Context(), rangeOf("a", content, i*100, 100)); err != nil {
			f.Fatal(err)
		}
	}
	c.Close()
	for _, file := range fs.files {
		f.Add(file.b)
		f.Add(file.b[:200])
	}
	f.Add(slabHeader(1))
	f.Add(append(slabHeader(1), bytes.Repeat([]byte(recordMagic), 1000)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		last := int64(0)
		end, _, err := scanSlab(bytes.NewReader(b), 1, int64(len(b)), func(r blob.Range, at int64) {
			again := appendRecord(nil, 1, at, r, b[payloadAt(at, r):][:r.Length])
			if at <= last || at%recordAlign != 0 || !bytes.Equal(again[:payloadAt(0, r)], b[at:payloadAt(at, r)]) {
				t.Errorf("record at %d is not what it says: %s", at, r)
			}
			last = at
		})
		if err != nil || end < slabHeaderSize {
			t.Errorf("end %d, %v", end, err)
		}
		fs := newMemFS()
		fs.files[slabName(1)] = &memFile{fs: fs, name: slabName(1), b: bytes.Clone(b)}
		c := diskSetup(t, fs, 16, store)
		defer c.Close()
		for i := range 3 {
			mustRead(t, c, rangeOf("a", content, i*100, 100), content[i*100:][:100])
		}
	})
}

// hangFS is a directory whose files answer when the gate opens.
type hangFS struct {
	*memFS
	gate chan struct{} // nil: at once
}

type hangFile struct {
	slabFile
	fs *hangFS
}

func (h *hangFS) Create(name string) (slabFile, error) {
	f, err := h.memFS.Create(name)
	return hangFile{f, h}, err
}

func (f hangFile) ReadAt(p []byte, off int64) (int, error) {
	if f.fs.gate != nil {
		<-f.fs.gate
	}
	return f.slabFile.ReadAt(p, off)
}

// A disk that does not answer costs a caller a second, and is turned off.
func TestDiskHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, content := testStore(t)
		fs := &hangFS{memFS: newMemFS()}
		c := diskSetup(t, fs, 16, store)
		readBlocks(t, c, content, 0, 40)
		fs.gate = make(chan struct{})
		for i := range 20 {
			began := time.Now()
			if !readBlock(t, c, content, i) {
				t.Fatal("the disk did not hang")
			}
			want := diskSlow
			if i >= maxMisery {
				want = 0
			}
			if took := time.Since(began); took != want {
				t.Errorf("read %d took %v, want %v", i, took, want)
			}
		}
		if s := c.Stats().Disk; s.State != "off" || s.Errors != maxMisery {
			t.Errorf("got %+v", s)
		}
		close(fs.gate)
		synctest.Wait()
		c.Close()
	})
}

// Whoever goes away does not wait for the disk.
func TestDiskHangsAndCallerGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, content := testStore(t)
		fs := &hangFS{memFS: newMemFS()}
		c := diskSetup(t, fs, 16, store)
		readBlocks(t, c, content, 0, 40)
		fs.gate = make(chan struct{})
		ctx, cancel := context.WithTimeout(t.Context(), diskSlow/2)
		defer cancel()
		reads := store.count()
		if _, err := c.ReadRange(ctx, blockAt(content, 0)); !errors.Is(err, context.DeadlineExceeded) || store.count() != reads {
			t.Errorf("got %v, %d reads of the store", err, store.count()-reads)
		}
		close(fs.gate)
		synctest.Wait()
		c.Close()
	})
}
