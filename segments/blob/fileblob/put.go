package fileblob

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/akidb/akidb/segments/blob"
)

// Put implements blob.Store. Of the errors besides a refused condition, only a
// failed sync of the object's directory leaves the outcome open.
func (s *Store) Put(ctx context.Context, key string, body io.ReadSeeker, size int64, cond blob.Condition) (blob.Version, error) {
	version, err := s.put(ctx, key, body, size, cond)
	if err != nil {
		return "", fmt.Errorf("put %q: %w", key, classify(err))
	}
	return version, nil
}

func (s *Store) put(ctx context.Context, key string, body io.Reader, size int64, cond blob.Condition) (blob.Version, error) {
	if err := blob.CheckPut(key, size, cond); err != nil {
		return "", err
	}
	if s.holder == nil {
		return "", errReadOnly
	}
	path, err := s.path(ctx, key)
	if err != nil {
		return "", err
	}
	// A put that is refused now needs no body; one that is not is asked again.
	if _, err := s.judge(path, cond); err != nil {
		return "", err
	}
	temp := filepath.Join(s.holder.dir, strconv.FormatUint(s.temps.Add(1), 10))
	defer os.Remove(temp) // a rename has already taken it
	if err := s.writeTemp(ctx, temp, body, size); err != nil {
		return "", err
	}
	if err := s.lock.acquire(ctx); err != nil {
		return "", err
	}
	version, err := s.publish(temp, path, cond)
	s.lock.release()
	if err != nil {
		return "", err
	}
	// Whoever replaces the object before this is done syncs the same directory
	// after us, so the lock need not be held for it.
	return version, s.settle(filepath.Dir(path))
}

// writeTemp writes and syncs size bytes of body as a new file.
func (s *Store) writeTemp(ctx context.Context, temp string, body io.Reader, size int64) error {
	s.hook("create temp")
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if absent(err) {
		err = cmp.Or(s.gone(), err)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.Copy(f, io.LimitReader(contextReader{ctx, body}, size))
	if err == nil && n < size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("body: got %d bytes, want %d: %w", n, size, err)
	}
	now := time.Now() // finer than the clock the kernel stamps files with
	if err := os.Chtimes(temp, now, now); err != nil {
		return err
	}
	s.hook("sync temp")
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// publish makes temp the object at path if cond holds. The lock is held.
func (s *Store) publish(temp, path string, cond blob.Condition) (blob.Version, error) {
	old, err := s.judge(path, cond)
	if err != nil {
		return "", err
	}
	if old == nil {
		if err := s.makeRoom(path); err != nil {
			return "", err
		}
	} else if err := s.makeNewer(temp, old); err != nil {
		return "", err
	}
	info, err := os.Stat(temp)
	if err != nil {
		return "", err
	}
	s.hook("publish")
	if cond.IfAbsent {
		err = os.Link(temp, path) // fails if path exists, lock or no lock
		if errors.Is(err, os.ErrExist) {
			err = fmt.Errorf("%w: %w", blob.ErrPrecondition, err)
		}
	} else {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return "", err
	}
	s.hook("published")
	return versionOf(info), nil
}

// judge returns the object at path, nil if there is none, or what cond has
// against it.
func (s *Store) judge(path string, cond blob.Condition) (os.FileInfo, error) {
	old, err := s.statObject(path)
	switch {
	case err != nil:
		return nil, err
	case cond.IfAbsent && old != nil:
		return nil, fmt.Errorf("exists with version %s: %w", versionOf(old), blob.ErrPrecondition)
	case cond.IfMatch != "" && old == nil:
		return nil, blob.ErrNotFound
	case cond.IfMatch != "" && versionOf(old) != cond.IfMatch:
		return nil, fmt.Errorf("got version %s, want %s: %w", versionOf(old), cond.IfMatch, blob.ErrPrecondition)
	}
	return old, nil
}

// makeRoom makes the folders of a new object at path, and removes an empty tree
// that a crash may have left in its place. The lock is held.
func (s *Store) makeRoom(path string) error {
	if err := removeEmpty(path); err != nil {
		return fmt.Errorf("key is the folder of other keys: %w", err)
	}
	err := s.makeDirs(filepath.Dir(path))
	if errors.Is(err, syscall.ENOTDIR) {
		err = fmt.Errorf("a folder of the key is an object: %w", err)
	}
	return err
}

// makeNewer gives temp a later time than old, which it normally has: a clock
// that was set back must not bring an earlier version back.
func (s *Store) makeNewer(temp string, old os.FileInfo) error {
	info, err := os.Stat(temp)
	if err != nil || info.ModTime().After(old.ModTime()) {
		return err
	}
	later := old.ModTime().Add(timePrecision)
	if err := os.Chtimes(temp, later, later); err != nil {
		return err
	}
	s.hook("sync temp")
	return syncPath(temp)
}

// Delete implements blob.Store.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := s.remove(ctx, key); err != nil {
		return fmt.Errorf("delete %q: %w", key, classify(err))
	}
	return nil
}

func (s *Store) remove(ctx context.Context, key string) error {
	if s.holder == nil {
		return errReadOnly
	}
	path, err := s.path(ctx, key)
	if err != nil {
		return err
	}
	if err := s.lock.acquire(ctx); err != nil {
		return err
	}
	dir, err := s.unlink(path)
	s.lock.release()
	if err != nil || dir == "" {
		return err
	}
	return s.settle(dir)
}

// unlink removes the object at path and the folders this leaves empty. It
// returns the nearest folder that is left, or "" when there was no object. The
// lock is held.
func (s *Store) unlink(path string) (dir string, err error) {
	old, err := s.statObject(path)
	if err != nil || old == nil {
		return "", err
	}
	s.hook("unlink")
	if err := os.Remove(path); err != nil {
		return "", err
	}
	dir = filepath.Dir(path)
	for dir != s.root && syscall.Rmdir(dir) == nil {
		dir = filepath.Dir(dir)
	}
	return dir, nil
}

// makeDirs makes dir and what is missing above it, each durable before anything
// is put into it.
func (s *Store) makeDirs(dir string) error {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		return &os.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
	}
	if err == nil || !absent(err) {
		return err
	}
	parent := filepath.Dir(dir)
	if err := s.makeDirs(parent); err != nil {
		return err
	}
	s.hook("make " + s.relative(dir))
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return s.settle(parent)
}

// settle makes what changed in dir durable, or else breaks the store.
func (s *Store) settle(dir string) error {
	s.hook("sync " + s.relative(dir))
	err := s.sync(dir)
	if absent(err) {
		return nil // removed by others, and so was all that changed in it
	}
	if err != nil {
		s.broken.CompareAndSwap(nil, &err)
	}
	return err
}

func (s *Store) relative(dir string) string {
	rel, err := filepath.Rel(s.root, dir)
	if err != nil {
		return dir
	}
	return filepath.ToSlash(rel)
}

// removeEmpty removes the directory at path if it holds nothing but empty
// directories. It is fine if there is nothing at path.
func removeEmpty(path string) error {
	entries, err := os.ReadDir(path)
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() {
			return &os.PathError{Op: "rmdir", Path: path, Err: syscall.ENOTEMPTY}
		}
		if err := removeEmpty(filepath.Join(path, e.Name())); err != nil {
			return err
		}
	}
	return syscall.Rmdir(path)
}

// syncPath syncs a file or directory.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// contextReader ends a long copy when ctx ends.
type contextReader struct {
	ctx  context.Context
	body io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.body.Read(p)
}
