package bulk

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/akidb/akidb/internal/client"
)

// send writes a job's batch and records it as done. With SkipBad, a row the server refuses by its number is taken out and the
// rest sent again: a refused request wrote nothing.
func (l *load) send(ctx context.Context, j *job) error {
	for j.batch.Len() > 0 {
		_, err := l.config.Client.UpsertRepeatable(ctx, l.config.Collection.ID, &j.batch)
		if err == nil {
			break
		}
		i, refused := refusedRow(err, j.batch.Len())
		switch {
		case !refused:
			return fmt.Errorf("rows %d to %d: %w", j.from, j.to-1, err)
		case !l.config.SkipBad:
			return fmt.Errorf("row %d: %w", j.rows[i], err)
		}
		l.skip(j.rows[i], err)
		j.batch.Remove(i)
		j.rows = slices.Delete(j.rows, i, i+1)
	}
	return l.acknowledged(j)
}

// refusedRow finds which row of a batch the server would not take, from the error's field `vectors[i]…`.
func refusedRow(err error, count int) (i int, ok bool) {
	var answer *client.Error
	if !errors.As(err, &answer) {
		return 0, false
	}
	switch answer.Status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
	default:
		return 0, false
	}
	rest, found := strings.CutPrefix(answer.Field, "vectors[")
	digits, _, closed := strings.Cut(rest, "]")
	i, numberErr := strconv.Atoi(digits)
	return i, found && closed && numberErr == nil && i >= 0 && i < count
}

func (l *load) acknowledged(j *job) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := j.batch.Len(); n > 0 {
		l.summary.Rows += int64(n)
		l.summary.Bytes += int64(j.batch.Size())
	}
	before := l.checkpoint.Done.count()
	if err := l.checkpoint.ack(j.from, j.to); err != nil {
		return err
	}
	l.config.Progress.Advance(l.checkpoint.Done.count() - before)
	return nil
}

func (l *load) skip(row int64, cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.summary.RowsSkipped++
	l.config.Skipped(row, cause)
}

// done is a copy of what is done by now.
func (l *load) done() ranges {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.checkpoint.Done)
}
