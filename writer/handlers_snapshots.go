package writer

import (
	"context"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/segments/manifest"
)

// snapshotBody asks for a snapshot.
type snapshotBody struct {
	Name   string `json:"name"` // empty for none
	Export bool   `json:"export"`
}

// snapshotInfo is a snapshot as clients see it.
type snapshotInfo struct {
	SnapshotID      string    `json:"snapshot_id"`
	Name            string    `json:"name,omitempty"`
	ManifestVersion uint64    `json:"manifest_version"`
	VectorCount     uint64    `json:"vector_count"`
	CreatedAt       time.Time `json:"created_at"`
}

func infoOfSnapshot(p manifest.Pin) snapshotInfo {
	return snapshotInfo{p.ID, p.Name, p.Manifest.Version, p.Rows, p.CreatedAt}
}

// claimed finds the collection that the path names, for what takes its manifest.
func (w *Writer) claimed(ctx *fasthttp.RequestCtx) (*collection, error) {
	c, err := w.collection(ctx)
	if err == nil {
		err = c.online()
	}
	return c, err
}

func (w *Writer) postSnapshots(ctx *fasthttp.RequestCtx) error {
	c, err := w.claimed(ctx)
	if err != nil {
		return err
	}
	var body snapshotBody
	if len(ctx.Request.Body()) > 0 {
		if err := httpapi.ReadJSON(ctx, &body); err != nil {
			return err
		}
	}
	if body.Name == "latest" {
		return httpapi.Unprocessable("invalid_name", "name", "name is \"latest\", which stands for the newest snapshot")
	}
	if body.Name != "" {
		if e := httpapi.CheckName("name", body.Name); e != nil {
			return e
		}
	}
	pin, err := detached(httpapi.Context(ctx), w, func(ctx context.Context) (manifest.Pin, error) {
		return c.takeSnapshot(ctx, body.Name, body.Export)
	})
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(ctx, fasthttp.StatusCreated, infoOfSnapshot(pin))
}

type snapshotList struct {
	Snapshots []snapshotInfo `json:"snapshots"`
}

func (w *Writer) getSnapshots(ctx *fasthttp.RequestCtx) error {
	c, err := w.claimed(ctx)
	if err != nil {
		return err
	}
	list := snapshotList{[]snapshotInfo{}}
	for _, p := range c.snapshots() {
		list.Snapshots = append(list.Snapshots, infoOfSnapshot(p))
	}
	return httpapi.WriteJSON(ctx, fasthttp.StatusOK, list)
}

func (w *Writer) deleteSnapshot(ctx *fasthttp.RequestCtx) error {
	c, err := w.claimed(ctx)
	if err != nil {
		return err
	}
	id, err := httpapi.Param(ctx, "snapshot")
	if err != nil {
		return err
	}
	pin, err := c.findSnapshot(id)
	if err != nil {
		return err
	}
	_, err = detached(httpapi.Context(ctx), w, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, c.dropSnapshot(ctx, pin)
	})
	if err == nil {
		ctx.SetStatusCode(fasthttp.StatusNoContent)
	}
	return err
}

// restoreBody names the snapshot to go back to.
type restoreBody struct {
	SnapshotID string `json:"snapshot_id"` // or its name, or "latest"
}

type restored struct {
	SnapshotID      string `json:"snapshot_id"`
	VectorCount     uint64 `json:"vector_count"`
	ManifestVersion uint64 `json:"manifest_version"`
	Token           string `json:"token"`
}

func (w *Writer) postRestore(ctx *fasthttp.RequestCtx) error {
	c, err := w.claimed(ctx)
	if err != nil {
		return err
	}
	var body restoreBody
	if err := httpapi.ReadJSON(ctx, &body); err != nil {
		return err
	}
	if body.SnapshotID == "" {
		return httpapi.Unprocessable("missing_field", "snapshot_id", "snapshot_id is missing").
			WithHint(`it is an id, a name, or "latest"`)
	}
	pin, err := c.findSnapshot(body.SnapshotID)
	if err != nil {
		return err
	}
	out, err := detached(httpapi.Context(ctx), w, func(ctx context.Context) (restored, error) {
		at, err := c.restore(ctx, pin)
		s := c.state().view.Snapshot
		return restored{pin.ID, s.Rows(), s.Version, at.String()}, err
	})
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(ctx, fasthttp.StatusOK, out)
}

// branchBody asks for a collection that begins as another one is.
type branchBody struct {
	Name       string `json:"name"`        // of the new collection
	SnapshotID string `json:"snapshot_id"` // what it begins as; empty: as the other is now
}

func (w *Writer) postBranch(ctx *fasthttp.RequestCtx) error {
	c, err := w.claimed(ctx)
	if err != nil {
		return err
	}
	var body branchBody
	if err := httpapi.ReadJSON(ctx, &body); err != nil {
		return err
	}
	if e := httpapi.CheckName("name", body.Name); e != nil {
		return e
	}
	var from *manifest.Pin
	if body.SnapshotID != "" {
		pin, err := c.findSnapshot(body.SnapshotID)
		if err != nil {
			return err
		}
		from = &pin
	}
	b, err := detached(httpapi.Context(ctx), w, func(ctx context.Context) (*collection, error) {
		return w.branch(ctx, c, body.Name, from)
	})
	if err != nil {
		return err
	}
	return w.writeInfo(ctx, fasthttp.StatusCreated, b)
}
