package bulk

import (
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/schollz/progressbar/v3"
)

// Progress is told how a load goes on. Its methods are never called concurrently.
type Progress interface {
	// Start begins a file with so many rows to go (-1: not known) behind those that an earlier run did.
	Start(path string, rows, resumedAt int64)
	// Advance says that so many more rows are done.
	Advance(rows int64)
	// Finish ends the file, whether or not all of it was done.
	Finish()
}

// NewBar draws a bar with rows a second and the time left. w is a terminal.
func NewBar(w io.Writer) Progress { return &bar{w: w} }

type bar struct {
	w   io.Writer
	bar *progressbar.ProgressBar
}

func (b *bar) Start(path string, rows, resumedAt int64) {
	b.bar = progressbar.NewOptions64(rows,
		progressbar.OptionSetWriter(b.w),
		progressbar.OptionSetDescription(title(path, resumedAt)),
		progressbar.OptionSetWidth(30),
		progressbar.OptionShowCount(),
		progressbar.OptionShowIts(),
		progressbar.OptionSetItsString("rows"),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetRenderBlankState(true),
	)
}

// A terminal that cannot be drawn on is no reason to fail a load: the bar's errors are dropped.
func (b *bar) Advance(rows int64) { _ = b.bar.Add64(rows) }

func (b *bar) Finish() {
	_ = b.bar.Exit() // leaves the bar standing where it is
	fmt.Fprintln(b.w)
}

// linePause is how often a log gets a line.
const linePause = 5 * time.Second

// NewLines writes a plain line every few seconds, for logs and pipes.
func NewLines(w io.Writer, now func() time.Time) Progress { return &lines{w: w, now: now} }

type lines struct {
	w           io.Writer
	now         func() time.Time
	title       string
	total, done int64
	start, last time.Time
}

func (l *lines) Start(path string, rows, resumedAt int64) {
	*l = lines{w: l.w, now: l.now, title: title(path, resumedAt), total: rows, start: l.now()}
	l.last = l.start
}

func (l *lines) Advance(rows int64) {
	l.done += rows
	now := l.now()
	if now.Sub(l.last) < linePause {
		return
	}
	l.last = now
	rate := float64(l.done) / now.Sub(l.start).Seconds()
	if l.total < 0 {
		fmt.Fprintf(l.w, "%s: %d rows, %.0f rows/s\n", l.title, l.done, rate)
		return
	}
	left := time.Duration(float64(l.total-l.done) / rate * float64(time.Second)).Round(time.Second)
	fmt.Fprintf(l.w, "%s: %d of %d rows (%.1f %%), %.0f rows/s, %s left\n", l.title, l.done, l.total, 100*float64(l.done)/float64(l.total), rate, left)
}

func (l *lines) Finish() {}

func title(path string, resumedAt int64) string {
	if name := filepath.Base(path); resumedAt == 0 {
		return name
	}
	return fmt.Sprintf("%s (after %d rows of an earlier run)", filepath.Base(path), resumedAt)
}
