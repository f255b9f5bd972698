package writer

import (
	"context"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/akidb/akidb/internal/httpapi"
	"github.com/akidb/akidb/internal/info"
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

// claimed finds a collection for what takes its manifest.
func (w *Writer) claimed(nameOrID string) (*collection, error) {
	c, err := w.catalog.find(nameOrID)
	if err == nil {
		err = c.online()
	}
	return c, err
}

// postTo answers with status and what do makes of the collection that the path
// names and of the body, which may be missing if it is optional.
func postTo[Body, Answer any](ctx *fasthttp.RequestCtx, status int, optional bool, do func(ctx context.Context, nameOrID string, body Body) (Answer, error)) error {
	name, err := httpapi.Param(ctx, "c")
	if err != nil {
		return err
	}
	var body Body
	if !optional || len(ctx.Request.Body()) > 0 {
		if err := httpapi.ReadJSON(ctx, &body); err != nil {
			return err
		}
	}
	answer, err := do(httpapi.Context(ctx), name, body)
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(ctx, status, answer)
}

func (w *Writer) postSnapshots(ctx *fasthttp.RequestCtx) error {
	return postTo(ctx, fasthttp.StatusCreated, true, w.takeSnapshot)
}

// takeSnapshot keeps a collection as it is.
func (w *Writer) takeSnapshot(ctx context.Context, nameOrID string, body snapshotBody) (snapshotInfo, error) {
	c, err := w.claimed(nameOrID)
	if err != nil {
		return snapshotInfo{}, err
	}
	if body.Name == "latest" {
		return snapshotInfo{}, httpapi.Unprocessable("invalid_name", "name", "name is \"latest\", which stands for the newest snapshot")
	}
	if body.Name != "" {
		if e := httpapi.CheckName("name", body.Name); e != nil {
			return snapshotInfo{}, e
		}
	}
	pin, err := detached(ctx, w, func(ctx context.Context) (manifest.Pin, error) {
		return c.takeSnapshot(ctx, body.Name, body.Export)
	})
	return infoOfSnapshot(pin), err
}

type snapshotList struct {
	Snapshots []snapshotInfo `json:"snapshots"`
}

func (w *Writer) getSnapshots(ctx *fasthttp.RequestCtx) error {
	name, err := httpapi.Param(ctx, "c")
	if err != nil {
		return err
	}
	list, err := w.snapshots(name)
	if err != nil {
		return err
	}
	return httpapi.WriteJSON(ctx, fasthttp.StatusOK, snapshotList{list})
}

// snapshots lists a collection's, oldest first.
func (w *Writer) snapshots(nameOrID string) ([]snapshotInfo, error) {
	c, err := w.claimed(nameOrID)
	if err != nil {
		return nil, err
	}
	list := []snapshotInfo{}
	for _, p := range c.snapshots() {
		list = append(list, infoOfSnapshot(p))
	}
	return list, nil
}

func (w *Writer) deleteSnapshot(ctx *fasthttp.RequestCtx) error {
	name, err := httpapi.Param(ctx, "c")
	if err != nil {
		return err
	}
	id, err := httpapi.Param(ctx, "snapshot")
	if err != nil {
		return err
	}
	if err := w.dropSnapshot(httpapi.Context(ctx), name, id); err != nil {
		return err
	}
	ctx.SetStatusCode(fasthttp.StatusNoContent)
	return nil
}

// dropSnapshot deletes a snapshot, given by its id, its name or "latest".
func (w *Writer) dropSnapshot(ctx context.Context, nameOrID, snapshot string) error {
	c, err := w.claimed(nameOrID)
	if err != nil {
		return err
	}
	pin, err := c.findSnapshot(snapshot)
	if err != nil {
		return err
	}
	_, err = detached(ctx, w, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, c.dropSnapshot(ctx, pin)
	})
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
	return postTo(ctx, fasthttp.StatusOK, false, w.restore)
}

// restore makes a collection what it was at a snapshot.
func (w *Writer) restore(ctx context.Context, nameOrID string, body restoreBody) (restored, error) {
	c, err := w.claimed(nameOrID)
	if err != nil {
		return restored{}, err
	}
	if body.SnapshotID == "" {
		return restored{}, httpapi.Unprocessable("missing_field", "snapshot_id", "snapshot_id is missing").
			WithHint(`it is an id, a name, or "latest"`)
	}
	pin, err := c.findSnapshot(body.SnapshotID)
	if err != nil {
		return restored{}, err
	}
	return detached(ctx, w, func(ctx context.Context) (restored, error) {
		at, err := c.restore(ctx, pin)
		s := c.state().view.Snapshot
		return restored{pin.ID, s.Rows(), s.Version, at.String()}, err
	})
}

// branchBody asks for a collection that begins as another one is.
type branchBody struct {
	Name       string `json:"name"`        // of the new collection
	SnapshotID string `json:"snapshot_id"` // what it begins as; empty: as the other is now
}

func (w *Writer) postBranch(ctx *fasthttp.RequestCtx) error {
	return postTo(ctx, fasthttp.StatusCreated, false, w.branchAs)
}

// branchAs makes the branch of a collection that body asks for, and describes it.
func (w *Writer) branchAs(ctx context.Context, nameOrID string, body branchBody) (info.Collection, error) {
	c, err := w.claimed(nameOrID)
	if err != nil {
		return info.Collection{}, err
	}
	if e := httpapi.CheckName("name", body.Name); e != nil {
		return info.Collection{}, e
	}
	var from *manifest.Pin
	if body.SnapshotID != "" {
		pin, err := c.findSnapshot(body.SnapshotID)
		if err != nil {
			return info.Collection{}, err
		}
		from = &pin
	}
	b, err := detached(ctx, w, func(ctx context.Context) (*collection, error) {
		return w.branch(ctx, c, body.Name, from)
	})
	if err != nil {
		return info.Collection{}, err
	}
	return b.infoOfNew(ctx)
}
