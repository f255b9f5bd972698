package fileblob

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/akidb/akidb/segments/blob"
)

// List implements blob.Store. It reads the folders that can hold an entry of
// the page, and no others.
func (s *Store) List(ctx context.Context, l blob.Listing) (blob.Page, error) {
	w := walk{store: s, ctx: ctx, listing: l}
	from := l.Prefix[:strings.LastIndexByte(l.Prefix, '/')+1]
	if from != "" && (strings.HasPrefix(from, reserved+"/") || blob.CheckKey(from[:len(from)-1]) != nil) {
		return blob.Page{}, nil // no key can begin like that
	}
	if err := w.folder(from); err != nil {
		return blob.Page{}, fmt.Errorf("list %q: %w", l.Prefix, classify(err))
	}
	return w.page, nil
}

// walk fills a page. It goes through names in key order, in which a folder
// stands where its name with a slash does: a-b, a/b, a0.
type walk struct {
	store   *Store
	ctx     context.Context
	listing blob.Listing
	page    blob.Page
	last    string // latest entry of the page
	rolled  string // latest common prefix met, in the page or before After
}

// folder walks the names in dir, which is "" or ends in a slash.
func (w *walk) folder(dir string) error {
	names, err := w.names(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if w.page.Next != "" {
			return nil
		}
		if !w.wanted(name) {
			continue
		}
		visit := w.object
		if strings.HasSuffix(name, "/") {
			visit = w.folder
		}
		if err := visit(name); err != nil {
			return err
		}
	}
	return nil
}

// names lists the keys and folders in dir in key order.
func (w *walk) names(dir string) ([]string, error) {
	s := w.store
	if err := s.usable(w.ctx); err != nil {
		return nil, err
	}
	// Some file systems hide a name for a moment from whoever reads a directory
	// while the name is being replaced.
	if s.lock != nil {
		if err := s.lock.acquire(w.ctx); err != nil {
			return nil, err
		}
	}
	s.hook("list " + dir)
	entries, err := os.ReadDir(filepath.Join(s.root, filepath.FromSlash(dir)))
	if s.lock != nil {
		s.lock.release()
	}
	if absent(err) {
		err = s.gone()
	}
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		name := dir + e.Name()
		switch {
		case name == reserved || blob.CheckKey(name) != nil:
		case e.IsDir():
			names = append(names, name+"/")
		case e.Type().IsRegular():
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// wanted tells whether a key, or some key in a folder, can add to the page.
func (w *walk) wanted(name string) bool {
	l, isFolder := w.listing, strings.HasSuffix(name, "/")
	return (strings.HasPrefix(name, l.Prefix) || isFolder && strings.HasPrefix(l.Prefix, name)) &&
		(name > l.After || isFolder && strings.HasPrefix(l.After, name)) &&
		(w.rolled == "" || !strings.HasPrefix(name, w.rolled))
}

// object adds the entry that stands for key.
func (w *walk) object(key string) error {
	prefix, rolled := w.listing.Rollup(key)
	if rolled {
		w.rolled = prefix
		if prefix > w.listing.After && w.hasRoom() {
			w.page.Prefixes = append(w.page.Prefixes, prefix)
			w.last = prefix
		}
		return nil
	}
	info, err := w.store.statObject(filepath.Join(w.store.root, filepath.FromSlash(key)))
	if err != nil || info == nil { // deleted meanwhile
		return err
	}
	if w.hasRoom() {
		w.page.Objects = append(w.page.Objects, blob.Object{Key: key, Size: info.Size(), Version: versionOf(info)})
		w.last = key
	}
	return nil
}

// hasRoom tells whether the page takes one more entry, and ends it if not.
func (w *walk) hasRoom() bool {
	if len(w.page.Objects)+len(w.page.Prefixes) < w.listing.Max() {
		return true
	}
	w.page.Next = w.last
	return false
}
