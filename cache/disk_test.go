package cache

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/memblob"
	"pgregory.net/rapid"
)

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
