package blobtest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/blob/blobtest"
	"github.com/akidb/akidb/segments/blob/memblob"
)

type plant struct {
	bug       string
	store     func() blob.Store
	noticedBy string
}

// planted are stores with one bug each, and a case of the suite that must
// notice it. A bug that no case notices would be one the suite cannot see.
var planted = []plant{
	{"if-absent is look then leap", func() blob.Store { return &racyPut{Store: memblob.New(), absent: true} }, "RaceIfAbsent"},
	{"if-match is look then leap", func() blob.Store { return &racyPut{Store: memblob.New()} }, "RaceIfMatch"},
	{"if-match loses updates", func() blob.Store { return &racyPut{Store: memblob.New()} }, "RaceCounter"},
	{"if-absent is look then leap", func() blob.Store { return &racyPut{Store: memblob.New(), absent: true} }, "Probe"},
	{"if-match is look then leap", func() blob.Store { return &racyPut{Store: memblob.New()} }, "Probe"},
	{"conditions are ignored", func() blob.Store { return &unconditional{memblob.New()} }, "IfAbsent"},
	{"stale if-match is accepted", func() blob.Store { return &unconditional{memblob.New()} }, "IfMatch"},
	{"refused puts are applied", func() blob.Store { return &refusesLate{memblob.New()} }, "IfAbsent"},
	{"versions stay the same", func() blob.Store { return &oneVersion{memblob.New()} }, "Overwrite"},
	{"version is newer than the body", func() blob.Store { return &lateVersion{remembering{Store: memblob.New()}} }, "RaceWholeBodies"},
	{"bodies tear", func() blob.Store { return &tearing{remembering{Store: memblob.New()}} }, "RaceWholeBodies"},
	{"reads stop short silently", func() blob.Store { return &shortReads{memblob.New()} }, "Ranges"},
	{"listing is unordered", func() blob.Store { return &listing{memblob.New(), reversed} }, "List"},
	{"listing has the order of directories", func() blob.Store { return &listing{memblob.New(), treeOrder} }, "List"},
	{"listing repeats the folder it is after", func() blob.Store { return &repeating{memblob.New()} }, "ListOracle"},
	{"listing loses the last of a page", func() blob.Store { return &listing{memblob.New(), lossy} }, "ListPages"},
	{"listing is cached", func() blob.Store { return &staleList{Store: memblob.New()} }, "ListWhileChanging"},
	{"bodies are shared", func() blob.Store { return &sharing{Store: memblob.New()} }, "Aliasing"},
	{"contexts are ignored", func() blob.Store { return &deaf{memblob.New()} }, "Cancelled"},
	{"missing objects are empty", func() blob.Store { return &forgiving{memblob.New()} }, "NotFound"},
	{"short bodies are padded", func() blob.Store { return &padding{memblob.New()} }, "BodyTooShort"},
	{"bodies are read from the start", func() blob.Store { return &rewinding{memblob.New()} }, "BodyPosition"},
}

// TestPlanted runs one case over one planted bug, in a process that
// TestSuiteCatchesPlantedBugs started and expects to fail.
func TestPlanted(t *testing.T) {
	bug := os.Getenv("BLOBTEST_PLANTED")
	if bug == "" {
		t.Skip("only in a process that TestSuiteCatchesPlantedBugs starts")
	}
	i := slices.IndexFunc(planted, func(p plant) bool { return p.bug == bug })
	blobtest.Run(t, func(*testing.T) blob.Store { return planted[i].store() })
}

func TestSuiteCatchesPlantedBugs(t *testing.T) {
	for _, p := range planted {
		t.Run(p.bug, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestPlanted$/^"+p.noticedBy+"$", "-test.short")
			cmd.Env = append(os.Environ(), "BLOBTEST_PLANTED="+p.bug)
			output, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || !bytes.Contains(output, []byte("--- FAIL: TestPlanted/"+p.noticedBy)) {
				t.Errorf("%s did not notice: %v\n%s", p.noticedBy, err, output)
			}
			if bytes.Contains(output, []byte("panic:")) {
				t.Errorf("%s crashed instead of failing:\n%s", p.noticedBy, output)
			}
		})
	}
}

// racyPut judges conditions before the put instead of with it.
type racyPut struct {
	blob.Store
	absent bool // which of the two conditions
}

func (s *racyPut) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, cond blob.Condition) (blob.Version, error) {
	if cond.IfAbsent != s.absent {
		return s.Store.Put(ctx, key, body, size, cond)
	}
	o, err := s.Stat(ctx, key)
	if cond.IfAbsent && err == nil || cond.IfMatch != "" && err == nil && o.Version != cond.IfMatch {
		return "", blob.ErrPrecondition
	}
	if cond.IfMatch != "" && err != nil {
		return "", err
	}
	for range 100 { // every other contender looks before this one leaps
		runtime.Gosched()
	}
	return s.Store.Put(ctx, key, body, size, blob.Condition{})
}

type unconditional struct{ blob.Store }

func (s *unconditional) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, _ blob.Condition) (blob.Version, error) {
	return s.Store.Put(ctx, key, body, size, blob.Condition{})
}

type refusesLate struct{ blob.Store }

func (s *refusesLate) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, cond blob.Condition) (blob.Version, error) {
	_, err := s.Stat(ctx, key)
	version, putErr := s.Store.Put(ctx, key, body, size, blob.Condition{IfMatch: cond.IfMatch})
	if cond.IfAbsent && err == nil {
		return "", blob.ErrPrecondition
	}
	return version, putErr
}

type oneVersion struct{ blob.Store }

func (s *oneVersion) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, cond blob.Condition) (blob.Version, error) {
	_, err := s.Store.Put(ctx, key, body, size, cond)
	return "1", err
}

func (s *oneVersion) Get(ctx context.Context, key string) ([]byte, blob.Version, error) {
	b, _, err := s.Store.Get(ctx, key)
	return b, "1", err
}

// remembering keeps what a key held before its latest put.
type remembering struct {
	blob.Store
	before sync.Map // key to body
}

func (s *remembering) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, cond blob.Condition) (blob.Version, error) {
	old, _, err := s.Store.Get(ctx, key)
	version, putErr := s.Store.Put(ctx, key, body, size, cond)
	if err == nil && putErr == nil {
		s.before.Store(key, old)
	}
	return version, putErr
}

func (s *remembering) old(key string) []byte {
	if b, ok := s.before.Load(key); ok {
		return slices.Clone(b.([]byte))
	}
	return nil
}

// lateVersion returns an old body with the present version.
type lateVersion struct{ remembering }

func (s *lateVersion) Get(ctx context.Context, key string) ([]byte, blob.Version, error) {
	b, version, err := s.Store.Get(ctx, key)
	if old := s.old(key); old != nil {
		b = old
	}
	return b, version, err
}

// tearing returns the first half of one body and the second half of another.
type tearing struct{ remembering }

func (s *tearing) Get(ctx context.Context, key string) ([]byte, blob.Version, error) {
	b, version, err := s.Store.Get(ctx, key)
	if old := s.old(key); old != nil {
		b = append(old[:len(old)/2], b[len(b)/2:]...)
	}
	return b, version, err
}

type shortReads struct{ blob.Store }

func (s *shortReads) ReadRange(ctx context.Context, key string, off int64, dst []byte) error {
	err := s.Store.ReadRange(ctx, key, off, dst)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// listing spoils the pages of a store.
type listing struct {
	blob.Store
	spoil func(blob.Page) blob.Page
}

func (s *listing) List(ctx context.Context, l blob.Listing) (blob.Page, error) {
	page, err := s.Store.List(ctx, l)
	return s.spoil(page), err
}

func reversed(page blob.Page) blob.Page {
	slices.Reverse(page.Objects)
	return page
}

func treeOrder(page blob.Page) blob.Page {
	slices.SortFunc(page.Objects, func(a, b blob.Object) int {
		return slices.Compare(strings.Split(a.Key, "/"), strings.Split(b.Key, "/"))
	})
	return page
}

func lossy(page blob.Page) blob.Page {
	if n := len(page.Objects); n > 0 && page.Next != "" {
		page.Objects = page.Objects[:n-1]
	}
	return page
}

// repeating returns, as S3 does, a folder again after itself.
type repeating struct{ blob.Store }

func (s *repeating) List(ctx context.Context, l blob.Listing) (blob.Page, error) {
	page, err := s.Store.List(ctx, l)
	if folder, rolled := l.Rollup(l.After); rolled {
		page.Prefixes = append([]string{folder}, page.Prefixes...)
	}
	return page, err
}

// staleList answers every other listing of a prefix with what it was before.
type staleList struct {
	blob.Store
	pages [1 << 10]atomic.Pointer[blob.Page]
}

func (s *staleList) List(ctx context.Context, l blob.Listing) (blob.Page, error) {
	hash := 0
	for _, b := range []byte(l.Prefix + "\x00" + l.After) {
		hash = (hash*31 + int(b)) % len(s.pages)
	}
	page, err := s.Store.List(ctx, l)
	if old := s.pages[hash].Swap(&page); old != nil {
		return *old, err
	}
	return page, err
}

// sharing hands out one slice to all that ask.
type sharing struct {
	blob.Store
	body atomic.Pointer[[]byte]
}

func (s *sharing) Get(ctx context.Context, key string) ([]byte, blob.Version, error) {
	b, version, err := s.Store.Get(ctx, key)
	s.body.CompareAndSwap(nil, &b)
	return *s.body.Load(), version, err
}

type deaf struct{ blob.Store }

func (s *deaf) Put(_ context.Context, key string, body io.ReadSeeker, size int64, cond blob.Condition) (blob.Version, error) {
	return s.Store.Put(context.Background(), key, body, size, cond)
}

type forgiving struct{ blob.Store }

func (s *forgiving) Get(ctx context.Context, key string) ([]byte, blob.Version, error) {
	b, version, err := s.Store.Get(ctx, key)
	if errors.Is(err, blob.ErrNotFound) {
		return nil, "", nil
	}
	return b, version, err
}

type padding struct{ blob.Store }

func (s *padding) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, cond blob.Condition) (blob.Version, error) {
	b, err := io.ReadAll(body)
	if err != nil {
		return "", err
	}
	b = append(b, make([]byte, max(size, 0))...)
	return s.Store.Put(ctx, key, bytes.NewReader(b), size, cond)
}

type rewinding struct{ blob.Store }

func (s *rewinding) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, cond blob.Condition) (blob.Version, error) {
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	return s.Store.Put(ctx, key, body, size, cond)
}
