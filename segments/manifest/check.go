package manifest

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

var shaPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// readable reports whether a format is one that this package reads.
func readable(format int) bool { return minFormatVersion <= format && format <= FormatVersion }

// check reports what is wrong with c on its own.
func (c Current) check() error {
	var errs []error
	wrong := collect(&errs)
	wrong(!readable(c.Format), "format: got %d, want %d to %d", c.Format, minFormatVersion, FormatVersion)
	wrong(c.Epoch == 0, "epoch: got 0")
	wrong(c.Owner == "", "owner: empty")
	wrong(CheckID(c.CommitID) != nil, "commit_id: %v", CheckID(c.CommitID))
	wrong(c.Manifest.check() != nil, "manifest: %v", c.Manifest.check())
	return errors.Join(errs...)
}

func (l Link) check() error {
	switch {
	case l.Version == 0:
		return errors.New("version: got 0")
	case l.Key == "":
		return errors.New("key: empty")
	case !shaPattern.MatchString(l.SHA256):
		return fmt.Errorf("sha256: got %q, want %s", l.SHA256, shaPattern)
	}
	return nil
}

// check reports what is wrong with c on its own. Limits that can be configured,
// such as the largest dimension, are not the format's business.
func (c Collection) check() error {
	var errs []error
	wrong := collect(&errs)
	wrong(CheckID(c.ID) != nil, "collection.id: %v", CheckID(c.ID))
	wrong(c.Name == "", "collection.name: empty")
	wrong(c.Dimension < 1, "collection.dimension: got %d, want at least 1", c.Dimension)
	switch c.Metric {
	case "cosine", "l2", "dot":
	default:
		wrong(true, `collection.metric: got %q, want "cosine", "l2" or "dot"`, c.Metric)
	}
	switch c.Codebook {
	case "", "sign", "learned":
	default:
		wrong(true, `collection.codebook: got %q, want "sign" or "learned"`, c.Codebook)
	}
	return errors.Join(errs...)
}

// check reports everything that is wrong with s on its own.
func (s *Snapshot) check() error {
	var errs []error
	wrong := collect(&errs)
	wrong(!readable(s.Format), "format: got %d, want %d to %d", s.Format, minFormatVersion, FormatVersion)
	wrong(s.Version == 0, "version: got 0")
	wrong(s.Epoch == 0, "epoch: got 0")
	wrong(CheckID(s.CommitID) != nil, "commit_id: %v", CheckID(s.CommitID))
	if err := s.Collection.check(); err != nil {
		errs = append(errs, err)
	}
	switch {
	case s.Parent == nil:
		wrong(s.Version != 1, "parent: missing in version %d", s.Version)
	case s.Parent.check() != nil:
		wrong(true, "parent: %v", s.Parent.check())
	default:
		wrong(s.Parent.Version+1 != s.Version, "parent: got version %d in version %d", s.Parent.Version, s.Version)
	}
	return errors.Join(append(errs, s.checkObjects())...)
}

// checkObjects reports what is wrong with the quantizers, the segments and the
// garbage, and refuses two names for one thing: rows that were added twice end
// up here.
func (s *Snapshot) checkObjects() error {
	var errs []error
	wrong := collect(&errs)
	seen := map[string]bool{}
	object := func(where, key string) {
		wrong(!strings.HasPrefix(key, CollectionPrefix(s.Collection.ID)), "%s.key: got %q, want one of collection %q", where, key, s.Collection.ID)
		wrong(seen[key], "%s.key: %q is named twice", where, key)
		seen[key] = true
	}
	quantizers := map[string]bool{}
	for i, q := range s.Quantizers {
		where := fmt.Sprintf("quantizers[%d]", i)
		wrong(CheckID(q.ID) != nil, "%s.id: %v", where, CheckID(q.ID))
		wrong(quantizers[q.ID], "%s.id: %q is there twice", where, q.ID)
		quantizers[q.ID] = true
		object(where, q.Key)
		wrong(q.Size <= 0, "%s.size: got %d", where, q.Size)
		wrong(q.Lists == 0, "%s.lists: got 0", where)
	}
	ids := map[string]bool{}
	for i, seg := range s.Segments {
		where := fmt.Sprintf("segments[%d]", i)
		wrong(CheckID(seg.ID) != nil, "%s.id: %v", where, CheckID(seg.ID))
		wrong(ids[seg.ID], "%s.id: %q is there twice", where, seg.ID)
		ids[seg.ID] = true
		wrong(seg.Rows == 0, "%s.rows: got 0", where)
		wrong(seg.MinSeq > seg.MaxSeq, "%s: min_seq %d is past max_seq %d", where, seg.MinSeq, seg.MaxSeq)
		object(where+".data", seg.Data.Key)
		wrong(seg.Data.Size <= 0, "%s.data.size: got %d", where, seg.Data.Size)
		object(where+".index", seg.Index.Key)
		wrong(seg.Index.Size <= 0, "%s.index.size: got %d", where, seg.Index.Size)
		f := seg.Footer
		wrong(f.Offset < 0 || f.Length <= 0 || int64(f.Length) > seg.Index.Size || f.Offset > seg.Index.Size-int64(f.Length),
			"%s.footer: got offset %d and length %d in an index of %d bytes", where, f.Offset, f.Length, seg.Index.Size)
		wrong(seg.Quantizer != "" && !quantizers[seg.Quantizer], "%s.quantizer: %q is not in quantizers", where, seg.Quantizer)
		if d := seg.Deletes; d != nil {
			object(where+".deletes", d.Key)
			wrong(d.Size <= 0, "%s.deletes.size: got %d", where, d.Size)
			wrong(d.Count == 0 || d.Count > seg.Rows, "%s.deletes.count: got %d of %d rows", where, d.Count, seg.Rows)
		}
	}
	for i, g := range s.Garbage {
		where := fmt.Sprintf("garbage[%d]", i)
		object(where, g.Key)
		wrong(g.Version == 0 || g.Version > s.Version, "%s.version: got %d in version %d", where, g.Version, s.Version)
	}
	return errors.Join(errs...)
}

// follows reports why s cannot be the version after base.
func (s *Snapshot) follows(base *Snapshot) error {
	var errs []error
	wrong := collect(&errs)
	wrong(s.Version != base.Version+1, "version: got %d after %d", s.Version, base.Version)
	wrong(s.Epoch < base.Epoch, "epoch: got %d after %d", s.Epoch, base.Epoch)
	wrong(s.FlushedSeq < base.FlushedSeq, "flushed_seq: got %d after %d", s.FlushedSeq, base.FlushedSeq)
	wrong(base.Dropped && !s.Dropped, "dropped: a dropped collection cannot return")
	c, was := s.Collection, base.Collection
	same := c.CreatedAt.Equal(was.CreatedAt)
	c.CreatedAt = was.CreatedAt
	wrong(!same || c != was, "collection: got %+v, want %+v for ever", s.Collection, base.Collection)
	// The codes of a segment mean nothing under another quantizer.
	for i, q := range s.Quantizers {
		was, kept := base.Quantizer(q.ID)
		wrong(kept && q != was, "quantizers[%d]: got %+v, want %+v as before", i, q, was)
	}
	return errors.Join(errs...)
}

// collect returns a function that adds an error to errs when its condition holds.
func collect(errs *[]error) func(bool, string, ...any) {
	return func(is bool, format string, args ...any) {
		if is {
			*errs = append(*errs, fmt.Errorf(format, args...))
		}
	}
}
