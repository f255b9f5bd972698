package writer

import (
	"context"
	"slices"

	"github.com/valyala/fasthttp"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/segments/manifest"
)

// A collection's placement is what a user wants of the memory and disks of query
// processes, which hold nothing themselves: it is part of the manifest, so that
// all of them, those to come included, see the same.

// placementBody says where to; empty for one step.
type placementBody struct {
	Tier string `json:"tier"`
}

// placedInfo is the answer to a change of placement.
type placedInfo struct {
	CollectionID    string `json:"collection_id"`
	Tier            string `json:"tier"` // as placed, or "automatic"
	Pinned          bool   `json:"pinned"`
	ManifestVersion uint64 `json:"manifest_version"`
}

// byUse is how clients are told that a collection is not placed.
const byUse = "automatic"

// movement is a way to place a collection, given where it is placed now, nil for
// nowhere, and where to, if that is said.
type movement struct {
	tiers []string // that may be said; nil: none is
	to    func(c *collection, p *manifest.Placement, tier string) (*manifest.Placement, error)
}

var promote = movement{[]string{manifest.Hot, manifest.Warm}, func(_ *collection, p *manifest.Placement, to string) (*manifest.Placement, error) {
	switch {
	case to != "":
	case p != nil && p.Tier == manifest.Cold:
		to = manifest.Warm
	default:
		to = manifest.Hot
	}
	return &manifest.Placement{Tier: to, Pinned: p != nil && p.Pinned}, nil
}}

var demote = movement{[]string{manifest.Warm, manifest.Cold}, func(c *collection, p *manifest.Placement, to string) (*manifest.Placement, error) {
	if p != nil && p.Pinned {
		return nil, httpapi.Conflict("pinned", "collection %q is pinned", c.meta.Name).WithHint("unpin it first")
	}
	switch {
	case to != "":
	case p == nil || p.Tier == manifest.Hot:
		to = manifest.Warm
	default:
		to = manifest.Cold
	}
	return &manifest.Placement{Tier: to}, nil
}}

// pinned keeps a collection where it is placed. One that is not is kept in
// memory: there is nothing else that use could push it out of.
var pinned = movement{to: func(_ *collection, p *manifest.Placement, _ string) (*manifest.Placement, error) {
	if p == nil {
		return &manifest.Placement{Tier: manifest.Hot, Pinned: true}, nil
	}
	return &manifest.Placement{Tier: p.Tier, Pinned: true}, nil
}}

var unpinned = movement{to: func(*collection, *manifest.Placement, string) (*manifest.Placement, error) { return nil, nil }}

func (w *Writer) postPromote(ctx *fasthttp.RequestCtx) error { return w.postPlacement(ctx, promote) }
func (w *Writer) postDemote(ctx *fasthttp.RequestCtx) error  { return w.postPlacement(ctx, demote) }
func (w *Writer) postPin(ctx *fasthttp.RequestCtx) error     { return w.postPlacement(ctx, pinned) }
func (w *Writer) postUnpin(ctx *fasthttp.RequestCtx) error   { return w.postPlacement(ctx, unpinned) }

// postPlacement reads no body where none is wanted.
func (w *Writer) postPlacement(ctx *fasthttp.RequestCtx, m movement) error {
	if m.tiers == nil {
		ctx.Request.ResetBody()
	}
	return postTo(ctx, fasthttp.StatusOK, true, func(ctx context.Context, nameOrID string, body placementBody) (placedInfo, error) {
		return w.place(ctx, nameOrID, m, body.Tier)
	})
}

// place commits what a movement makes of a collection's placement.
func (w *Writer) place(ctx context.Context, nameOrID string, m movement, tier string) (placedInfo, error) {
	c, err := w.claimed(nameOrID)
	if err != nil {
		return placedInfo{}, err
	}
	if tier != "" && !slices.Contains(m.tiers, tier) {
		return placedInfo{}, httpapi.Unprocessable("invalid_tier", "tier", "tier is %.40q, want %s or %s", tier, m.tiers[0], m.tiers[1])
	}
	return detached(ctx, w, func(ctx context.Context) (placedInfo, error) {
		return c.place(ctx, func(p *manifest.Placement) (*manifest.Placement, error) { return m.to(c, p, tier) })
	})
}

// place commits what move makes of the placement. What is so already is not
// committed again.
func (c *collection) place(ctx context.Context, move func(*manifest.Placement) (*manifest.Placement, error)) (placedInfo, error) {
	err := c.change(ctx, "placement", func(_ manifest.Current, next *manifest.Snapshot) error {
		was := next.Placement
		to, err := move(was)
		if err != nil {
			return err
		}
		if to == nil && was == nil || to != nil && was != nil && to.Tier == was.Tier && to.Pinned == was.Pinned {
			return errDone
		}
		if to != nil {
			to.Since = c.w.cfg.Now().UTC()
		}
		next.Placement = to
		return nil
	})
	if err != nil {
		return placedInfo{}, err
	}
	s := c.state().view.Snapshot
	out := placedInfo{CollectionID: c.meta.ID, Tier: byUse, ManifestVersion: s.Version}
	if p := s.Placement; p != nil {
		out.Tier, out.Pinned = p.Tier, p.Pinned
	}
	c.w.cfg.Logger.Info("collection placed", "collection", c.meta.Name, "tier", out.Tier, "pinned", out.Pinned)
	return out, nil
}
