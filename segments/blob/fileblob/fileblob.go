// Package fileblob is an object store in a directory: one file per object, at
// the path its key spells, so that anything which reads files can read them.
//
// It keeps every promise of blob.Store also between processes that open the
// same directory and across crashes of any of them:
//
//   - A body is written and synced under a temporary name and appears by link(2)
//     (if-absent) or rename(2), so a key has its old body or its new one, whole.
//   - Whoever changes the tree does so under one exclusive flock(2) on
//     .fileblob/lock, which the kernel drops when its holder dies. A condition is
//     judged under that lock; bodies are written before it is taken.
//   - A directory is synced before a put into it, or its own creation, counts.
//     When that sync fails, what is visible may not last: the Store then refuses
//     everything until it is opened again.
//
// Everything of the store's own lies in .fileblob, which no key may enter:
//
//	.fileblob/lock              the lock, never removed
//	.fileblob/tmp/<id>/holder   flocked as long as one open Store lives
//	.fileblob/tmp/<id>/<n>      bodies that Store is writing
//
// Open removes what dead holders left. Nothing else ever looks at it. OpenReadOnly
// changes nothing at all, not even there: it takes the lock to list, as all do,
// and does without where there is none, in a copy of a store.
//
// The directory must be on one local file system with hard links and with
// modification times of a microsecond or finer.
package fileblob

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/akidb/akidb/segments/blob"
)

// reserved is the folder of the store itself.
const reserved = ".fileblob"

// Store implements blob.Store. Make one with Open or OpenReadOnly.
type Store struct {
	root   string        // absolute
	mark   string        // what has been there since the store was opened
	lock   *flock        // held to change anything outside of holder; nil for a copy that nobody changes
	holder *holder       // nil for reading only
	temps  atomic.Uint64 // numbers the temporary files
	broken atomic.Pointer[error]

	// For tests, which are told of each step before it is taken, and make the
	// sync of a directory fail.
	hook func(step string)
	sync func(path string) error
}

var _ blob.Store = (*Store)(nil)

// Open opens the store in dir, which it creates if need be, and clears up after
// processes that died while using it.
func Open(dir string) (*Store, error) {
	return open(dir, func(string) {})
}

func open(dir string, hook func(step string)) (_ *Store, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("open store %q: %w", dir, classify(err))
		}
	}()
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	s := &Store{root: root, mark: filepath.Join(root, reserved), hook: hook, sync: syncPath}
	holders := filepath.Join(root, reserved, "tmp")
	if err := s.makeDirs(holders); err != nil {
		return nil, err
	}
	if s.lock, err = openFlock(filepath.Join(root, reserved, "lock")); err != nil {
		return nil, err
	}
	if err := s.lock.acquire(context.Background()); err != nil {
		return nil, errors.Join(err, s.lock.close())
	}
	defer s.lock.release()
	if s.holder, err = s.takeOver(holders); err != nil {
		return nil, errors.Join(err, s.lock.close())
	}
	return s, nil
}

// errReadOnly: the store was opened for reading only. Nothing was changed.
var errReadOnly = errors.New("the store is open for reading only")

// OpenReadOnly opens the store in dir, which must be there, to look at it beside
// whatever uses it, or at a copy of it. It needs no permission to write. Put and
// Delete always fail.
func OpenReadOnly(dir string) (*Store, error) {
	s, err := openReadOnly(dir)
	if err != nil {
		return nil, fmt.Errorf("open store %q: %w", dir, classify(err))
	}
	return s, nil
}

func openReadOnly(dir string) (*Store, error) {
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(root); err != nil {
		return nil, err
	} else if !info.IsDir() {
		return nil, syscall.ENOTDIR
	}
	s := &Store{root: root, mark: root, hook: func(string) {}, sync: syncPath}
	lock, err := os.Open(filepath.Join(root, reserved, "lock"))
	switch {
	case err == nil:
		s.mark, s.lock = filepath.Join(root, reserved), newFlock(lock)
	case !absent(err):
		return nil, err
	}
	return s, nil
}

// takeOver clears up after dead holders and registers a new one.
func (s *Store) takeOver(holders string) (*holder, error) {
	dead, err := removeDead(holders)
	if err != nil {
		return nil, err
	}
	if dead > 0 {
		// Whoever died may have done so between making something visible and
		// syncing it. Nobody may build on that before it is durable.
		s.hook("sync file system")
		if err := syncFileSystem(s.root); err != nil {
			return nil, err
		}
	}
	h, err := newHolder(holders)
	if err != nil {
		return nil, err
	}
	if err := h.probeTimes(); err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

// Close gives the store up. No operation may be under way or follow.
func (s *Store) Close() error {
	var errs []error
	if s.holder != nil {
		errs = append(errs, s.holder.close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.close())
	}
	return errors.Join(errs...)
}

// Get implements blob.Store.
func (s *Store) Get(ctx context.Context, key string) ([]byte, blob.Version, error) {
	b, version, err := s.get(ctx, key)
	if err != nil {
		return nil, "", fmt.Errorf("get %q: %w", key, classify(err))
	}
	return b, version, nil
}

func (s *Store) get(ctx context.Context, key string) ([]byte, blob.Version, error) {
	f, info, err := s.openObject(ctx, key)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, "", err
	}
	return b, versionOf(info), nil
}

// ReadRange implements blob.Store.
func (s *Store) ReadRange(ctx context.Context, key string, off int64, dst []byte) error {
	if err := s.readRange(ctx, key, off, dst); err != nil {
		return fmt.Errorf("read %q [%d,%d): %w", key, off, off+int64(len(dst)), classify(err))
	}
	return nil
}

func (s *Store) readRange(ctx context.Context, key string, off int64, dst []byte) error {
	if err := blob.CheckRead(key, off); err != nil {
		return err
	}
	f, info, err := s.openObject(ctx, key)
	if err != nil {
		return err
	}
	defer f.Close()
	if off > info.Size() || int64(len(dst)) > info.Size()-off {
		return fmt.Errorf("object has %d bytes: %w", info.Size(), io.ErrUnexpectedEOF)
	}
	if n, err := f.ReadAt(dst, off); n < len(dst) {
		return fmt.Errorf("got %d bytes: %w", n, err)
	}
	return nil
}

// Stat implements blob.Store.
func (s *Store) Stat(ctx context.Context, key string) (blob.Object, error) {
	path, err := s.path(ctx, key)
	if err != nil {
		return blob.Object{}, fmt.Errorf("stat %q: %w", key, err)
	}
	info, err := s.statObject(path)
	if err == nil && info == nil {
		err = blob.ErrNotFound
	}
	if err != nil {
		return blob.Object{}, fmt.Errorf("stat %q: %w", key, classify(err))
	}
	return blob.Object{Key: key, Size: info.Size(), Version: versionOf(info)}, nil
}

// path is where the object key lies, once the key and the store are found fit
// for an operation.
func (s *Store) path(ctx context.Context, key string) (string, error) {
	if err := errors.Join(blob.CheckKey(key), s.usable(ctx)); err != nil {
		return "", err
	}
	if key == reserved || strings.HasPrefix(key, reserved+"/") {
		return "", fmt.Errorf("invalid key: %s is the store's own", reserved)
	}
	return filepath.Join(s.root, filepath.FromSlash(key)), nil
}

// usable reports a failed sync or the end of ctx.
func (s *Store) usable(ctx context.Context) error {
	if err := s.broken.Load(); err != nil {
		return fmt.Errorf("%w: store must be opened again: %w", blob.ErrUnavailable, *err)
	}
	return ctx.Err()
}

func (s *Store) openObject(ctx context.Context, key string) (*os.File, os.FileInfo, error) {
	path, err := s.path(ctx, key)
	if err != nil {
		return nil, nil, err
	}
	f, err := os.Open(path)
	if absent(err) {
		err = cmp.Or(s.gone(), blob.ErrNotFound)
	}
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = blob.ErrNotFound
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// statObject describes the object at path, or returns nil when there is none.
func (s *Store) statObject(path string) (os.FileInfo, error) {
	info, err := os.Stat(path)
	switch {
	case absent(err):
		return nil, s.gone()
	case err == nil && !info.Mode().IsRegular():
		return nil, nil
	}
	return info, err
}

// gone tells a store that was unmounted, moved or removed from one that lacks an
// object: everything seems to be absent from it, and nothing may be concluded
// from that.
func (s *Store) gone() error {
	if _, err := os.Stat(s.mark); err != nil {
		return fmt.Errorf("%w: the store is not there any more: %w", blob.ErrUnavailable, err)
	}
	return nil
}

// absent tells errors that mean there is no such file, which includes that one
// of its folders is a file.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// versionOf tells apart all contents a key ever has. Two files that exist at
// the same time differ by inode; one that follows another has a later time,
// which publish sees to.
func versionOf(info os.FileInfo) blob.Version {
	inode := info.Sys().(*syscall.Stat_t).Ino
	return blob.Version(fmt.Sprintf("%x-%x-%x", info.ModTime().UnixNano(), inode, info.Size()))
}

// classify adds blob.ErrUnavailable to failures of the machine rather than of
// the request.
func classify(err error) error {
	if errors.Is(err, blob.ErrUnavailable) {
		return err
	}
	for _, errno := range []syscall.Errno{
		syscall.EIO, syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE,
		syscall.ENOMEM, syscall.EAGAIN, syscall.ESTALE, syscall.ETIMEDOUT, syscall.EROFS,
	} {
		if errors.Is(err, errno) {
			return fmt.Errorf("%w: %w", blob.ErrUnavailable, err)
		}
	}
	return err
}
