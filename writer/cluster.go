package writer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"github.com/akidb/akidb/segments"
	"github.com/akidb/akidb/segments/blob"
	"github.com/akidb/akidb/segments/columns"
	"github.com/akidb/akidb/segments/manifest"
)

// clusterKey is the object that makes a prefix of a store ours.
const clusterKey = "CLUSTER.json"

// clusterFormat is the version of CLUSTER.json. Version ledger:
//
//	1  first
const clusterFormat = 1

// markName is a file in the data directory with the id of the cluster its log
// belongs to.
const markName = "cluster-id"

// cluster is the content of CLUSTER.json. It says which store this is, and the
// highest versions of what may be found in it.
type cluster struct {
	Format    int       `json:"format"`
	ClusterID string    `json:"cluster_id"`
	CreatedAt time.Time `json:"created_at"`
	// Writer is the uuid of the log that may create collections here; "" until a
	// writer has opened one. Collections name their owners themselves.
	Writer  string         `json:"writer,omitempty"`
	Formats map[string]int `json:"formats"`
}

// formats are the versions that this program writes.
func formats() map[string]int {
	return map[string]int{"manifest": manifest.FormatVersion, "index": segments.Version, "columns": columns.FormatVersion}
}

// joinCluster reads CLUSTER.json, or writes it into a store that has none, and
// checks that it belongs together with the data directory: a log must not meet
// a store that never knew its collections.
func (w *Writer) joinCluster(ctx context.Context) error {
	if err := os.MkdirAll(w.cfg.DataDir, 0o755); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	c, _, err := w.readCluster(ctx)
	mark := filepath.Join(w.cfg.DataDir, markName)
	known, markErr := os.ReadFile(mark)
	if markErr != nil && !errors.Is(markErr, os.ErrNotExist) {
		return fmt.Errorf("read cluster id: %w", markErr)
	}
	id := strings.TrimSpace(string(known))
	if errors.Is(err, blob.ErrNotFound) {
		if id != "" {
			return fmt.Errorf("the store has no %q, and data directory %q belongs to cluster %q: it is another store, or it was emptied", clusterKey, w.cfg.DataDir, id)
		}
		c, err = w.createCluster(ctx)
	}
	switch {
	case err != nil:
		return err
	case id == c.ClusterID:
		w.cluster = id
		return nil
	case id != "":
		return fmt.Errorf("data directory %q belongs to cluster %q, the store to %q", w.cfg.DataDir, id, c.ClusterID)
	}
	w.cluster = c.ClusterID
	return writeMark(mark, c.ClusterID)
}

// readCluster reads CLUSTER.json and the version it has.
func (w *Writer) readCluster(ctx context.Context) (cluster, blob.Version, error) {
	b, version, err := w.cfg.Store.Get(ctx, clusterKey)
	if err != nil {
		return cluster{}, "", err
	}
	c, err := decodeCluster(b)
	if err != nil {
		return cluster{}, "", fmt.Errorf("decode %q: %w", clusterKey, err)
	}
	return c, version, nil
}

func decodeCluster(b []byte) (cluster, error) {
	fail := func(err error) (cluster, error) { return cluster{}, err }
	var c cluster
	if err := json.Unmarshal(b, &c); err != nil {
		return fail(fmt.Errorf("%w: %w", err, blob.ErrCorrupt))
	}
	if c.Format > clusterFormat {
		return fail(fmt.Errorf("got format %d, want at most %d: %w", c.Format, clusterFormat, manifest.ErrUnsupported))
	}
	ours := formats()
	for name, version := range c.Formats {
		if version > ours[name] {
			return fail(fmt.Errorf("got %s in format %d, want at most %d: %w", name, version, ours[name], manifest.ErrUnsupported))
		}
	}
	if c.Format < 1 || c.ClusterID == "" {
		return fail(fmt.Errorf("format %d, cluster_id %q: %w", c.Format, c.ClusterID, blob.ErrCorrupt))
	}
	return c, nil
}

// createCluster writes CLUSTER.json if it is absent. Whoever wins, the answer is
// what is there afterwards.
func (w *Writer) createCluster(ctx context.Context) (cluster, error) {
	c := cluster{Format: clusterFormat, ClusterID: uuid.NewString(), CreatedAt: w.cfg.Now().UTC(), Formats: formats()}
	putErr := w.putCluster(ctx, c, blob.Condition{IfAbsent: true})
	c, _, err := w.readCluster(ctx)
	if err != nil && putErr != nil {
		err = errors.Join(putErr, err)
	}
	return c, err
}

func (w *Writer) putCluster(ctx context.Context, c cluster, cond blob.Condition) error {
	b, err := json.Marshal(c, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		return err
	}
	b = append(b, '\n')
	_, err = w.cfg.Store.Put(ctx, clusterKey, bytes.NewReader(b), int64(len(b)), cond)
	return err
}

// claimStore makes this Writer the one that creates collections in the store, so
// that names are unique. force takes the claim from whoever has it.
func (w *Writer) claimStore(ctx context.Context, force bool) error {
	for range claimAttempts {
		c, version, err := w.readCluster(ctx)
		switch {
		case err != nil:
			return err
		case c.Writer == w.owner:
			return nil
		case c.Writer != "" && !force:
			return takeoverHint(fmt.Errorf("the store belongs to the writer with log %q: %w", c.Writer, manifest.ErrFenced))
		}
		c.Writer = w.owner
		// What the put answers decides nothing; the next look does.
		if err := w.putCluster(ctx, c, blob.Condition{IfMatch: version}); err != nil && !errors.Is(err, blob.ErrPrecondition) {
			w.cfg.Logger.Warn("claim of the store not answered, looking again", "error", err)
		}
	}
	return fmt.Errorf("claim %q: not settled in %d attempts: %w", clusterKey, claimAttempts, blob.ErrUnavailable)
}

// claimAttempts is enough for a few lost answers and lost races.
const claimAttempts = 8

// holdsStore stops the Writer when the store has been taken over.
func (w *Writer) holdsStore(ctx context.Context) error {
	c, _, err := w.readCluster(ctx)
	if err == nil && c.Writer != w.owner {
		err = takeoverHint(fmt.Errorf("the store belongs to the writer with log %q: %w", c.Writer, manifest.ErrFenced))
		w.fail(err)
	}
	return err
}

// writeMark writes the cluster's id, durable before anything relies on it.
func writeMark(path, id string) error {
	temp := path + ".tmp"
	f, err := os.Create(temp)
	if err != nil {
		return fmt.Errorf("write cluster id: %w", err)
	}
	_, err = f.WriteString(id + "\n")
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return fmt.Errorf("write cluster id: %w", err)
	}
	return nil
}
