package main

import (
	"fmt"
	"io"
	"iter"
	"os"

	"github.com/akidb/akidb/internal/vecfile"
	"github.com/akidb/akidb/segments/columns"
)

// parquetFile reads a user's Parquet file row by row: it turns the scan, which pushes batches, into a reader that is pulled.
type parquetFile struct {
	path string
	file *os.File
	rows *columns.Import
	at   int64
	next func() (*columns.ImportRow, error, bool) // nil until the first row is asked for
	stop func()
}

func openParquet(path string, opts vecfile.Options) (vecfile.Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		var rows *columns.Import
		rows, err = columns.OpenImport(f, info.Size(), columns.ImportConfig{IDColumn: opts.IDColumn, VectorColumn: opts.VectorColumn})
		if err == nil {
			return &parquetFile{path: path, file: f, rows: rows, stop: func() {}}, nil
		}
	}
	f.Close()
	return nil, fmt.Errorf("open %q: %w", path, err)
}

// errStopped ends a scan whose reader has been closed; nobody sees it.
var errStopped = fmt.Errorf("reader closed")

// scan pulls rows from number first on. A row is valid until the next is pulled.
func (p *parquetFile) scan(first int64) {
	p.next, p.stop = iter.Pull2(func(yield func(*columns.ImportRow, error) bool) {
		err := p.rows.Scan(first, func(batch []columns.ImportRow) error {
			for i := range batch {
				if !yield(&batch[i], nil) {
					return errStopped
				}
			}
			return nil
		})
		if err != nil && err != errStopped {
			yield(nil, err)
		}
	})
}

func (p *parquetFile) Next() (vecfile.Row, error) {
	if p.next == nil {
		p.scan(p.at)
	}
	row, err, ok := p.next()
	switch {
	case !ok:
		return vecfile.Row{}, io.EOF
	case err != nil:
		return vecfile.Row{}, &vecfile.Error{Path: p.path, Row: p.at, Offset: -1, Cause: err}
	}
	p.at++
	if row.Err != nil {
		return vecfile.Row{}, &vecfile.Error{Path: p.path, Row: row.Number, Offset: -1, Cause: row.Err, Skippable: true}
	}
	return vecfile.Row{ID: row.ID, Vector: row.Vector, Metadata: row.Metadata}, nil
}

func (p *parquetFile) Skip(rows int64) error {
	p.stop()
	p.next, p.stop = nil, func() {}
	p.at += min(max(rows, 0), p.rows.Rows()-p.at)
	return nil
}

func (p *parquetFile) Position() int64 { return p.at }

func (p *parquetFile) Total() (int64, bool) { return p.rows.Rows(), true }

func (p *parquetFile) Close() error {
	p.stop()
	return p.file.Close()
}
