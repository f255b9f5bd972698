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
	Format    int            `json:"format"`
	ClusterID string         `json:"cluster_id"`
	CreatedAt time.Time      `json:"created_at"`
	Formats   map[string]int `json:"formats"`
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
	c, err := w.readCluster(ctx)
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
		return nil
	case id != "":
		return fmt.Errorf("data directory %q belongs to cluster %q, the store to %q", w.cfg.DataDir, id, c.ClusterID)
	}
	return writeMark(mark, c.ClusterID)
}

func (w *Writer) readCluster(ctx context.Context) (cluster, error) {
	b, _, err := w.cfg.Store.Get(ctx, clusterKey)
	if err != nil {
		return cluster{}, err
	}
	fail := func(err error) (cluster, error) { return cluster{}, fmt.Errorf("decode %q: %w", clusterKey, err) }
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
	b, err := json.Marshal(c, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		return cluster{}, err
	}
	b = append(b, '\n')
	_, putErr := w.cfg.Store.Put(ctx, clusterKey, bytes.NewReader(b), int64(len(b)), blob.Condition{IfAbsent: true})
	c, err = w.readCluster(ctx)
	if err != nil && putErr != nil {
		err = errors.Join(putErr, err)
	}
	return c, err
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
