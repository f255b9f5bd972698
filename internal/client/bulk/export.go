package bulk

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/akidb/akidb/internal/client"
	"github.com/akidb/akidb/internal/vecfile"
)

const (
	// A page of an export holds so many values and rows at most: an answer has all of them in decimals, and up to 64 KiB of
	// metadata a row.
	maxPageValues = 1 << 20
	maxPageRows   = 1000

	// cleanUpFor bounds how long the snapshot of an export that was stopped is tried to be deleted.
	cleanUpFor = 30 * time.Second
)

// ExportConfig says what to write where.
type ExportConfig struct {
	Client     *client.Client
	Collection string // name or id
	// AsOf names the version to write, as [client.ScrollRequest] takes it. "": the rows as they are now, by a snapshot that is
	// deleted at the end.
	AsOf string
	// Path is the file to write, in the format of its ending. A file that is there is replaced, once the new one is whole.
	Path string
	// NewParquet writes Parquet. nil: such files are refused.
	NewParquet func(w io.Writer, dimension int) vecfile.Writer
	// Progress is told how it goes. nil: nobody is.
	Progress Progress
	// Now is the clock of Exported.Seconds. nil: the system's.
	Now func() time.Time
}

// Exported is what an export wrote.
type Exported struct {
	Path            string  `json:"file"`
	Collection      string  `json:"collection"`
	CollectionID    string  `json:"collection_id"`
	ManifestVersion int64   `json:"manifest_version"`
	Rows            int64   `json:"rows"`
	Bytes           int64   `json:"bytes"` // of the file
	Seconds         float64 `json:"seconds"`
	RowsPerSec      float64 `json:"rows_per_second"`
}

// Export writes every row of one version of a collection, in bytewise order of ids. Either the whole file appears under its name
// or nothing does. What it kept on the server for that is given up at the end, also when ctx has ended; an error that says
// otherwise names it.
func Export(ctx context.Context, config ExportConfig) (Exported, error) {
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Progress == nil {
		config.Progress = silent{}
	}
	if err := vecfile.CheckWritable(config.Path); err != nil {
		return Exported{}, fmt.Errorf("export: %w", err)
	}
	start := config.Now()
	done, err := config.export(ctx)
	switch {
	case ctx.Err() != nil && err != nil:
		return Exported{}, fmt.Errorf("export %q: interrupted: %w", config.Collection, err)
	case err != nil:
		return Exported{}, fmt.Errorf("export %q: %w", config.Collection, err)
	}
	if done.Seconds = config.Now().Sub(start).Seconds(); done.Seconds > 0 {
		done.RowsPerSec = float64(done.Rows) / done.Seconds
	}
	return done, nil
}

func (c ExportConfig) export(ctx context.Context) (_ Exported, err error) {
	// From here on by id: a name may come to mean another collection.
	now, err := c.Client.GetCollection(ctx, c.Collection)
	if err != nil {
		return Exported{}, err
	}
	if c.AsOf == "" {
		name := "export-" + strings.ToLower(rand.Text())
		// Before it is taken: an answer that is lost leaves one behind too.
		defer func() { err = errors.Join(err, c.giveUp(ctx, now.ID, name)) }()
		if _, err := c.Client.CreateSnapshot(ctx, now.ID, client.NewSnapshot{Name: name}); err != nil {
			return Exported{}, err
		}
		c.AsOf = name
	}
	was, err := c.Client.GetCollectionAsOf(ctx, now.ID, c.AsOf)
	if err != nil {
		return Exported{}, err
	}
	if _, err := time.Parse(time.RFC3339Nano, c.AsOf); err == nil {
		c.AsOf = strconv.FormatInt(was.ManifestVersion, 10) // a time still to come would be another version by then
	}
	done := Exported{Path: c.Path, Collection: now.Name, CollectionID: now.ID, ManifestVersion: was.ManifestVersion, Rows: was.VectorCount}
	done.Bytes, err = c.writeFile(func(w io.Writer) error { return c.writeRows(ctx, w, was) })
	return done, err
}

// giveUp deletes the snapshot, whatever has become of ctx.
func (c ExportConfig) giveUp(ctx context.Context, collection, name string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpFor)
	defer cancel()
	err := c.Client.DeleteSnapshot(ctx, collection, name)
	if errors.Is(err, client.ErrOutcomeUnknown) { // nobody else has one of that name
		err = c.Client.DeleteSnapshot(ctx, collection, name)
	}
	if err != nil && !client.IsNotFound(err) {
		return fmt.Errorf("snapshot %q may still be there: %w", name, err)
	}
	return nil
}

// writeFile has write fill a file beside Path, and gives it that name once it is whole and on the disk.
func (c ExportConfig) writeFile(write func(io.Writer) error) (size int64, err error) {
	dir, name := filepath.Split(c.Path)
	part := filepath.Join(dir, "."+name+".part-"+strings.ToLower(rand.Text()))
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return 0, err
	}
	if err = write(f); err == nil {
		err = f.Sync()
	}
	if err == nil {
		size, err = f.Seek(0, io.SeekEnd)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(part, c.Path)
	}
	if err != nil {
		return 0, errors.Join(err, os.Remove(part))
	}
	return size, syncDir(cmp.Or(dir, "."))
}

// syncDir makes the names in dir last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// writeRows writes the rows of a version, and makes sure that they are as many as it has.
func (c ExportConfig) writeRows(ctx context.Context, w io.Writer, of client.Collection) error {
	out, err := vecfile.Create(w, c.Path, vecfile.CreateOptions{Dimension: of.Dimension, NewParquet: c.NewParquet})
	if err != nil {
		return err
	}
	c.Progress.Start(c.Path, of.VectorCount, 0)
	defer c.Progress.Finish()
	request := client.ScrollRequest{
		Limit: min(maxPageRows, max(1, maxPageValues/of.Dimension)), Include: []string{"metadata", "vector"}, AsOf: c.AsOf,
	}
	rows := int64(0)
	for {
		page, err := c.Client.Scroll(ctx, of.ID, request)
		if err != nil {
			return err
		}
		for _, r := range page.Vectors {
			row := vecfile.Row{ID: r.ID, Vector: r.Vector}
			if r.Metadata.Kind() == '{' {
				row.Metadata = []byte(r.Metadata)
			}
			if err := out.Append(row); err != nil {
				return err
			}
		}
		rows += int64(len(page.Vectors))
		c.Progress.Advance(int64(len(page.Vectors)))
		if request.Cursor = page.NextCursor; request.Cursor == "" {
			break
		}
	}
	if rows != of.VectorCount {
		return fmt.Errorf("got %d rows, want the %d of version %d", rows, of.VectorCount, of.ManifestVersion)
	}
	return out.Close()
}
