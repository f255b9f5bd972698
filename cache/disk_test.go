package cache

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/memblob"
	"pgregory.net/rapid"
)

// memFS is a directory in memory that can be told to fail. It outlives the
// caches that use it, as a disk outlives processes.
type memFS struct {
	mu    sync.Mutex
	files map[string]*memFile
	total int64 // size of the file system
	// read and write, if set, may fail what is done to a file.
	read  func(name string, off int64, n int) error
	write func(name string, off int64, n int) error
	made  int64 // bytes written
}

func newMemFS() *memFS { return &memFS{files: map[string]*memFile{}, total: 1 << 40} }

type memFile struct {
	fs   *memFS
	name string
	b    []byte
}

func (m *memFS) Lock() (io.Closer, error) { return io.NopCloser(nil), nil }

func (m *memFS) List() ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Collect(maps.Keys(m.files)), nil
}

func (m *memFS) Open(name string) (slabFile, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f, ok := m.files[name]; ok {
		return f, nil
	}
	return nil, os.ErrNotExist
}

func (m *memFS) Create(name string) (slabFile, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.files[name]; ok {
		return nil, os.ErrExist
	}
	m.files[name] = &memFile{fs: m, name: name}
	return m.files[name], nil
}

func (m *memFS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.files, name)
	return nil
}

func (m *memFS) Free() (int64, int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.total - m.held(), m.total, nil
}

func (m *memFS) held() (n int64) {
	for _, f := range m.files {
		n += int64(len(f.b))
	}
	return n
}

func (f *memFile) Close() error { return nil }

func (f *memFile) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return int64(len(f.b)), nil
}

func (f *memFile) Truncate(n int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.b = f.b[:min(n, int64(len(f.b)))]
	return nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.fs.read != nil {
		if err := f.fs.read(f.name, off, len(p)); err != nil {
			return 0, err
		}
	}
	return bytes.NewReader(f.b).ReadAt(p, off)
}

// WriteAt writes as much as the file system has room for.
func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	var err error
	if f.fs.write != nil {
		err = f.fs.write(f.name, off, len(p))
	}
	if room := f.fs.total - f.fs.held(); int64(len(p)) > room {
		p, err = p[:room], syscall.ENOSPC
	} else if err != nil {
		p = p[:len(p)/2]
	}
	if grow := off + int64(len(p)) - int64(len(f.b)); grow > 0 {
		f.b = append(f.b, make([]byte, grow)...)
	}
	f.fs.made += int64(len(p))
	return copy(f.b[off:], p), err
}

// clone is the disk as it is at this moment: what kill -9 leaves.
func (m *memFS) clone() *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := &memFS{files: map[string]*memFile{}, total: m.total}
	for name, f := range m.files {
		out.files[name] = &memFile{fs: out, name: name, b: bytes.Clone(f.b)}
	}
	return out
}

// only is the name of the one slab there is.
func (m *memFS) only(t *testing.T) *memFile {
	t.Helper()
	if len(m.files) != 1 {
		t.Fatalf("%d files, want one slab", len(m.files))
	}
	for _, f := range m.files {
		return f
	}
	return nil
}

const testBlock = 4096

// diskSetup is a cache with a disk tier of a number of slabs, each with room
// for 15 blocks of testBlock bytes, and none in memory.
func diskSetup(t testing.TB, fs diskFS, slabs int64, store *spy) *Cache {
	t.Helper()
	c, err := open(diskConfig(slabs), store, fs)
	if err != nil {
		t.Fatal(err)
	}
	<-c.disk.scanned
	return c
}

func diskConfig(slabs int64) Config {
	const slabBytes = 64 << 10
	return Config{GapBytes: -1, Disk: DiskConfig{Dir: "test", Bytes: slabs * slabBytes, slabBytes: slabBytes}}
}

func testStore(t testing.TB) (*spy, []byte) {
	store := &spy{Store: memblob.New()}
	return store, object(t, store, "a", 1<<20)
}

// settle returns when everything that was offered is written or turned away.
func (d *disk) settle() {
	done := make(chan struct{})
	d.queue <- blockToWrite{settled: done}
	<-done
}

func blockAt(content []byte, i int) blob.Range {
	return rangeOf("a", content, i*testBlock, testBlock)
}

// readBlock reads block i and reports whether the store was asked.
func readBlock(t testing.TB, c *Cache, content []byte, i int) (fromStore bool) {
	t.Helper()
	var u Usage
	got, err := c.ReadRange(WithUsage(t.Context(), &u), blockAt(content, i))
	if err != nil || !bytes.Equal(got, content[i*testBlock:][:testBlock]) {
		t.Fatalf("block %d: %d bytes, %v", i, len(got), err)
	}
	if u.DiskHits.Load()+u.StoreGets.Load() != 1 || u.DiskHits.Load() == 1 && (u.DiskBytes.Load() != testBlock || u.Rounds.Load() != 0) {
		t.Fatalf("block %d: usage %+v", i, &u)
	}
	return u.StoreGets.Load() == 1
}

// readBlocks reads blocks and counts those that came from the store.
func readBlocks(t testing.TB, c *Cache, content []byte, from, to int) (fromStore int) {
	t.Helper()
	for i := from; i < to; i++ {
		if readBlock(t, c, content, i) {
			fromStore++
		}
		c.jobs.Wait()
		c.disk.settle()
	}
	return fromStore
}

func TestDiskOutlivesTheProcess(t *testing.T) {
	store, content := testStore(t)
	fs := newMemFS()
	c := diskSetup(t, fs, 16, store)
	if n := readBlocks(t, c, content, 0, 100); n != 100 {
		t.Errorf("%d of 100 blocks came from the store at first", n)
	}
	if n := readBlocks(t, c, content, 0, 100); n != 0 {
		t.Errorf("%d of 100 blocks came from the store again", n)
	}
	if s := c.Stats().Disk; s.State != "on" || s.Blocks != 100 || s.Written != 100 || s.Bytes != fs.held() || s.Corrupt+s.Errors+s.Evictions != 0 {
		t.Errorf("got %+v", s)
	}
	killed := fs.clone()
	c.Close()
	for name, left := range map[string]*memFS{"closed": fs, "killed": killed} {
		c := diskSetup(t, left, 16, store)
		files := len(left.files)
		if n := readBlocks(t, c, content, 0, 100); n != 0 {
			t.Errorf("%s: %d of 100 blocks came from the store", name, n)
		}
		readBlocks(t, c, content, 100, 102)
		if s := c.Stats().Disk; s.Written != 2 || len(left.files) != files {
			t.Errorf("%s: it did not go on where the last process was: %+v, %d files after %d", name, s, len(left.files), files)
		}
		c.Close()
	}
}

// Many ranges at once come from where they are, in order.
func TestDiskAndStoreTogether(t *testing.T) {
	store, content := testStore(t)
	c := diskSetup(t, newMemFS(), 16, store)
	defer c.Close()
	readBlocks(t, c, content, 0, 40)
	var rs []blob.Range
	for i := range 60 {
		rs = append(rs, blockAt(content, (i*7)%60))
	}
	var u Usage
	got, err := c.ReadRanges(WithUsage(t.Context(), &u), rs)
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		if !bytes.Equal(got[i], content[(i*7)%60*testBlock:][:testBlock]) {
			t.Errorf("range %d has other bytes", i)
		}
	}
	if u.DiskHits.Load() != 40 || u.Misses.Load() != 20 || u.Rounds.Load() != 1 || u.HitRatio() != 40.0/60 {
		t.Errorf("got %+v", &u)
	}
}

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

// What was asked for since it was written outlives its slab, and the budget
// holds all the time.
func TestSecondChance(t *testing.T) {
	store, content := testStore(t)
	fs := newMemFS()
	const slabs = 4
	c := diskSetup(t, fs, slabs, store)
	defer c.Close()
	pets := []int{1, 2, 3}
	readBlocks(t, c, content, 0, 10)
	for i := 10; i < 250; i++ {
		for range 2 { // the second time it is let in
			readBlocks(t, c, content, i, i+1)
		}
		for _, p := range pets {
			if readBlock(t, c, content, p) {
				t.Fatalf("block %d was lost at %d", p, i)
			}
		}
		if held := fs.held(); held > slabs*c.disk.slabBytes {
			t.Fatalf("%d bytes on the disk, want at most %d", held, slabs*c.disk.slabBytes)
		}
	}
	if !readBlock(t, c, content, 5) {
		t.Error("a block that nobody asked for is still there")
	}
}

// A scan of what is read once writes nothing to a full disk, however long it is;
// what comes from the store again is written.
func TestScanSparesTheDisk(t *testing.T) {
	store, _ := testStore(t)
	content := object(t, store, "a", 4<<20)
	fs := newMemFS()
	c := diskSetup(t, fs, 4, store)
	defer c.Close()
	readBlocks(t, c, content, 0, 100)
	before := c.Stats().Disk.Written
	readBlocks(t, c, content, 100, 1000)
	if n := c.Stats().Disk.Written - before; n > 15 {
		t.Errorf("%d blocks of a scan of 900 were written, want no more than filled the slab", n)
	}
	for range 2 {
		readBlock(t, c, content, 1000)
		c.jobs.Wait()
		c.disk.settle()
	}
	if readBlock(t, c, content, 1000) {
		t.Error("a block that came from the store twice was not kept")
	}
	r := blockAt(content, 1001)
	r.Role = blob.Routing
	mustRead(t, c, r, content[1001*testBlock:][:testBlock])
	c.jobs.Wait()
	c.disk.settle()
	if readBlock(t, c, content, 1001) {
		t.Error("routing data was not kept at once")
	}
}

// What is asked for in memory all the time is on the disk in the end, although
// it came from the store once, to a full disk.
func TestHitsInMemoryReachTheDisk(t *testing.T) {
	store, content := testStore(t)
	config := diskConfig(4)
	config.Bytes = 1 << 20
	c, err := open(config, store, newMemFS())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i := range 101 {
		mustRead(t, c, blockAt(content, i), content[i*testBlock:][:testBlock])
		c.jobs.Wait()
		c.disk.settle()
		c.ram.settle()
	}
	hot := blockAt(content, 100)
	if c.disk.has(hot) {
		t.Fatal("it was written at once, so this proves nothing")
	}
	for range 100 {
		mustRead(t, c, hot, content[100*testBlock:][:testBlock])
	}
	c.disk.settle()
	written := c.Stats().Disk.Written
	if !c.disk.has(hot) || store.count() != 101 {
		t.Errorf("it is not there, after %d reads of the store", store.count())
	}
	for range 1000 {
		mustRead(t, c, hot, content[100*testBlock:][:testBlock])
	}
	c.disk.settle()
	if n := c.Stats().Disk.Written; n != written {
		t.Errorf("it was written %d times more", n-written)
	}
}

// A directory is used by one process, others do without; what is not ours is
// left alone, and what only looks like it is removed.
func TestDiskDirectory(t *testing.T) {
	store, content := testStore(t)
	dir := filepath.Join(t.TempDir(), "made", "for us")
	config := diskConfig(16)
	config.Disk.Dir = dir
	first, err := New(config, store)
	if err != nil {
		t.Fatal(err)
	}
	second, err := New(config, store)
	if err != nil {
		t.Fatal(err)
	}
	if s := second.Stats().Disk; s.State != "off" || s.Errors != 1 {
		t.Errorf("second process: got %+v", s)
	}
	mustRead(t, second, blockAt(content, 0), content[:testBlock])
	second.Close()
	readBlocks(t, first, content, 0, 20)
	first.Close()

	foreign := []string{"notes.txt", "slab-1.akidb", "slab-00000001.akidb.bak", "slab-ffffffff.akidb"}
	for _, name := range append(foreign, "slab-00000007.akidb") {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("something else"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "slab-00000008.akidb"), 0o700); err != nil {
		t.Fatal(err)
	}
	third, err := New(config, store)
	if err != nil {
		t.Fatal(err)
	}
	if n := readBlocks(t, third, content, 0, 20); n != 0 {
		t.Errorf("%d blocks came from the store", n)
	}
	for _, name := range foreign {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "slab-00000007.akidb")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("slab of nonsense: %v", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	readBlocks(t, third, content, 0, 200) // whatever happens, they are right
	third.Close()

	config.Disk.Dir = filepath.Join(dir, "file")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	none, err := New(config, store)
	if err != nil {
		t.Fatal(err)
	}
	mustRead(t, none, blockAt(content, 0), content[:testBlock])
	none.Close()
}

// Whatever memory and disk there are, and whatever becomes of the disk, the
// same reads have the same answers.
func TestTiersAgree(t *testing.T) {
	store := &spy{Store: memblob.New()}
	content := object(t, store, "a", 256<<10)
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		rng := rand.New(rand.NewPCG(seed, 1))
		start := func(memory int64, onDisk bool) *Cache {
			config, fs := diskConfig(3), newMemFS()
			config.Bytes = memory
			fs.total = rapid.Int64Range(50<<10, 1<<20).Draw(t, "total")
			faults := rapid.IntRange(0, 10).Draw(t, "faults in a hundred")
			rng := rand.New(rand.NewPCG(seed, 2))
			fail := func(string, int64, int) error { // under the lock of fs
				if rng.IntN(100) < faults {
					return syscall.EIO
				}
				return nil
			}
			fs.read, fs.write = fail, fail
			if !onDisk {
				config.Disk = DiskConfig{}
			}
			c, err := open(config, store, fs)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		caches := []*Cache{start(0, false), start(100<<10, false), start(0, true), start(100<<10, true)}
		for range rapid.IntRange(1, 30).Draw(t, "calls") {
			var rs []blob.Range
			var want [][]byte
			for range 1 + rng.IntN(8) {
				n := 1 + rng.IntN(8000)
				off := rng.IntN(20) * 8000
				r := rangeOf("a", content, off, n)
				r.Role = blob.Role(rng.IntN(blob.RoleCount))
				rs, want = append(rs, r), append(want, content[off:off+n])
			}
			for i, c := range caches {
				got, err := c.ReadRanges(t.Context(), rs)
				if err != nil {
					t.Fatalf("cache %d: %v", i, err)
				}
				for j := range got {
					if !bytes.Equal(got[j], want[j]) {
						t.Fatalf("cache %d: %s has other bytes", i, rs[j])
					}
				}
			}
		}
		for _, c := range caches {
			c.Close()
		}
	})
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
