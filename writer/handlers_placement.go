package writer

import (
	"context"

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

func (w *Writer) postPromote(ctx *fasthttp.RequestCtx) error {
	return w.postPlacement(ctx, []string{manifest.Hot, manifest.Warm}, func(_ *collection, p *manifest.Placement, to string) (*manifest.Placement, error) {
		switch {
		case to != "":
		case p != nil && p.Tier == manifest.Cold:
			to = manifest.Warm
		default:
			to = manifest.Hot
		}
		return &manifest.Placement{Tier: to, Pinned: p != nil && p.Pinned}, nil
	})
}

func (w *Writer) postDemote(ctx *fasthttp.RequestCtx) error {
	return w.postPlacement(ctx, []string{manifest.Warm, manifest.Cold}, func(c *collection, p *manifest.Placement, to string) (*manifest.Placement, error) {
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
	})
}

// postPin keeps a collection where it is placed. One that is not is kept in
// memory: there is nothing else that use could push it out of.
func (w *Writer) postPin(ctx *fasthttp.RequestCtx) error {
	return w.postPlacement(ctx, nil, func(_ *collection, p *manifest.Placement, _ string) (*manifest.Placement, error) {
		if p == nil {
			return &manifest.Placement{Tier: manifest.Hot, Pinned: true}, nil
		}
		return &manifest.Placement{Tier: p.Tier, Pinned: true}, nil
	})
}

func (w *Writer) postUnpin(ctx *fasthttp.RequestCtx) error {
	return w.postPlacement(ctx, nil, func(*collection, *manifest.Placement, string) (*manifest.Placement, error) { return nil, nil })
}

// postPlacement commits what move makes of a collection's placement, nil for
// none. The body may name one of tiers, where there are any.
func (w *Writer) postPlacement(ctx *fasthttp.RequestCtx, tiers []string, move func(c *collection, p *manifest.Placement, to string) (*manifest.Placement, error)) error {
	c, err := w.claimed(ctx)
	if err != nil {
		return err
	}
	var body placementBody
	if tiers != nil && len(ctx.Request.Body()) > 0 {
		if err := httpapi.ReadJSON(ctx, &body); err != nil {
			return err
		}
	}
	if t := body.Tier; t != "" && t != tiers[0] && t != tiers[1] {
		return httpapi.Unprocessable("invalid_tier", "tier", "tier is %.40q, want %s or %s", t, tiers[0], tiers[1])
	}
	out, err := detached(httpapi.Context(ctx), w, func(ctx context.Context) (placedInfo, error) {
		return c.place(ctx, func(p *manifest.Placement) (*manifest.Placement, error) { return move(c, p, body.Tier) })
	})
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(ctx, fasthttp.StatusOK, out)
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
