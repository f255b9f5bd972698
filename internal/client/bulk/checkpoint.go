package bulk

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// identity is what must be the same for a checkpoint to speak of the same rows.
type identity struct {
	Path         string    `json:"path"` // absolute
	Size         int64     `json:"size_bytes"`
	ModTime      time.Time `json:"mod_time"`
	Server       string    `json:"server"`
	CollectionID string    `json:"collection_id"`
	IDPrefix     string    `json:"id_prefix"`
	IDColumn     string    `json:"id_column"`
	VectorColumn string    `json:"vector_column"`
}

// checkpoint is a small file that says which rows of one data file the server has acknowledged. It is written only after an
// acknowledgement, so it may know less than the server holds, never more: losing it costs rows sent again, not rows lost.
type checkpoint struct {
	Version  int      `json:"version"`
	Identity identity `json:"identity"`
	Done     ranges   `json:"rows_done"` // skipped rows included

	file string // "" keeps the checkpoint in memory only
}

const checkpointVersion = 1

// openCheckpoint reads what an earlier run left for this file and collection. note says why an earlier checkpoint does not
// count; it is empty when there was none or when it counts.
func openCheckpoint(dir string, id identity, restart bool) (c *checkpoint, note string, err error) {
	c = &checkpoint{Version: checkpointVersion, Identity: id}
	if dir == "" {
		return c, "", nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, "", fmt.Errorf("checkpoint: %w", err)
	}
	key := sha256.Sum256([]byte(id.Path + "\x00" + id.Server + "\x00" + id.CollectionID))
	c.file = filepath.Join(dir, hex.EncodeToString(key[:16])+".json")
	data, err := os.ReadFile(c.file)
	switch {
	case errors.Is(err, fs.ErrNotExist) || restart:
		return c, "", nil
	case err != nil:
		return nil, "", fmt.Errorf("checkpoint: %w", err)
	}
	var earlier checkpoint
	if err := json.Unmarshal(data, &earlier); err != nil || earlier.Version != checkpointVersion || !earlier.Done.valid() {
		return c, "its checkpoint cannot be read", nil
	}
	before, now := earlier.Identity, id
	switch {
	case before.Size != now.Size || !before.ModTime.Equal(now.ModTime):
		return c, "it has changed since it was last imported", nil
	case before.IDPrefix != now.IDPrefix || before.IDColumn != now.IDColumn || before.VectorColumn != now.VectorColumn:
		return c, "it was last imported with other ids or vectors", nil
	}
	c.Done = earlier.Done
	return c, "", nil
}

// ack records rows [from, to) as done. The file is replaced whole; it is not fsynced, because after a power loss a lost or
// torn checkpoint only means that rows are sent again.
func (c *checkpoint) ack(from, to int64) error {
	c.Done = c.Done.add(from, to)
	if c.file == "" {
		return nil
	}
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	temporary := c.file + ".tmp"
	if err := os.WriteFile(temporary, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if err := os.Rename(temporary, c.file); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

// remove forgets the checkpoint, once nothing is left to resume.
func (c *checkpoint) remove() error {
	if c.file == "" {
		return nil
	}
	if err := os.Remove(c.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}
