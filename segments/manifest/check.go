package manifest

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
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
	if p := s.Placement; p != nil {
		wrong(p.Tier != Hot && p.Tier != Warm && p.Tier != Cold, `placement.tier: got %q, want "hot", "warm" or "cold"`, p.Tier)
	}
	return errors.Join(append(errs, s.checkAncestors(), s.checkPins(), s.checkObjects())...)
}

// checkAncestors wants the parent and then ever older versions.
func (s *Snapshot) checkAncestors() error {
	var errs []error
	wrong := collect(&errs)
	before := s.Version
	for i, a := range s.Ancestors {
		where := fmt.Sprintf("ancestors[%d]", i)
		wrong(a.Link.check() != nil, "%s: %v", where, a.Link.check())
		wrong(a.Version >= before, "%s: got version %d behind %d", where, a.Version, before)
		wrong(i == 0 && (s.Parent == nil || a.Link != *s.Parent), "%s: got %+v, want the parent", where, a.Link)
		before = a.Version
	}
	return errors.Join(errs...)
}

func (s *Snapshot) checkPins() error {
	var errs []error
	wrong := collect(&errs)
	seen := map[string]bool{}
	for i, p := range s.Pins {
		where := fmt.Sprintf("pins[%d]", i)
		wrong(CheckID(p.ID) != nil, "%s.id: %v", where, CheckID(p.ID))
		wrong(seen[p.ID], "%s.id: %q is there twice", where, p.ID)
		seen[p.ID] = true
		wrong(p.Branch != "" && CheckID(p.Branch) != nil, "%s.branch: %v", where, CheckID(p.Branch))
		wrong(p.Manifest.check() != nil, "%s.manifest: %v", where, p.Manifest.check())
		wrong(p.Manifest.Version >= s.Version, "%s.manifest: got version %d in version %d", where, p.Manifest.Version, s.Version)
	}
	return errors.Join(errs...)
}

// checkObjects reports what is wrong with the quantizers, the segments and the
// garbage, and refuses two names for one thing: rows that were added twice end
// up here.
func (s *Snapshot) checkObjects() error {
	var errs []error
	wrong := collect(&errs)
	seen := map[string]bool{}
	named := func(where, key string) {
		wrong(seen[key], "%s.key: %q is named twice", where, key)
		seen[key] = true
	}
	owners := []string{CollectionPrefix(s.Collection.ID)}
	for i, origin := range s.Origins {
		wrong(CheckID(origin) != nil, "origins[%d]: %v", i, CheckID(origin))
		wrong(slices.Contains(owners, CollectionPrefix(origin)), "origins[%d]: %q is there twice", i, origin)
		owners = append(owners, CollectionPrefix(origin))
	}
	object := func(where, key string) {
		owned := slices.ContainsFunc(owners, func(prefix string) bool { return strings.HasPrefix(key, prefix) })
		wrong(!owned, "%s.key: got %q, want one of collection %q or its origins", where, key, s.Collection.ID)
		named(where, key)
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
		wrong(!strings.HasPrefix(g.Key, owners[0]), "%s.key: got %q, want one of collection %q", where, g.Key, s.Collection.ID)
		named(where, g.Key)
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
	wrong(s.Format >= 3 && s.CreatedAt.Before(base.CreatedAt), "created_at: got %v after %v", s.CreatedAt, base.CreatedAt)
	wrong(base.SetDigest != nil && s.SetDigest == nil, "set_digest: missing, was %v", base.SetDigest)
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
