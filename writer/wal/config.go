package wal

import (
	"crypto/rand"
	"errors"
	"fmt"
)

// Limits of the format. MaxPayloadBytes bounds what a reader ever believes.
const (
	MaxPayloadBytes = 1 << 30 // 1 GiB
	MaxKeyBytes     = 255     // of an idempotency key

	maxFileBytes = 2 << 30
	minFileBytes = 2 * fileHeaderBytes
)

// Config holds what can be set about a log. The zero value is usable.
type Config struct {
	// FileBytes is the size of one file of the log. Default 64 MiB; 0 means
	// the default. At least 8 KiB, at most 2 GiB. A record that does not fit
	// gets a file of its own size.
	FileBytes int64
	// MaxRecordBytes bounds the payload of one record. Default 256 MiB; 0
	// means the default; at most MaxPayloadBytes.
	MaxRecordBytes int64
	// MaxQueueBytes bounds the records accepted and not yet durable; beyond it
	// Enqueue answers ErrBusy. A record larger than the bound is accepted when
	// nothing else waits. Default 256 MiB; 0 means the default.
	MaxQueueBytes int64
	// ReserveBytes is what must stay free on the disk after a new file is made;
	// a file that would take more counts as a full disk. Default 0: none.
	ReserveBytes int64
	// Applied is called by the committer for every record, in log order, after
	// the record is durable and before its ticket resolves. It must not block
	// on the log. nil means nobody wants to know.
	Applied func(Record, Position)
	// NewUUID names a log that is being created. nil means random bytes from
	// crypto/rand, as UUID version 4.
	NewUUID func() UUID
}

func (c Config) withDefaults() Config {
	if c.FileBytes == 0 {
		c.FileBytes = 64 << 20
	}
	if c.MaxRecordBytes == 0 {
		c.MaxRecordBytes = 256 << 20
	}
	if c.MaxQueueBytes == 0 {
		c.MaxQueueBytes = 256 << 20
	}
	if c.Applied == nil {
		c.Applied = func(Record, Position) {}
	}
	if c.NewUUID == nil {
		c.NewUUID = randomUUID
	}
	return c
}

// Validate reports every value out of range, all at once.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	check := func(name string, got, low, high int64) {
		if got < low || got > high {
			errs = append(errs, fmt.Errorf("%s: got %d, want %d to %d", name, got, low, high))
		}
	}
	check("wal FileBytes", c.FileBytes, minFileBytes, maxFileBytes)
	check("wal MaxRecordBytes", c.MaxRecordBytes, 1, MaxPayloadBytes)
	check("wal MaxQueueBytes", c.MaxQueueBytes, 1, 1<<40)
	check("wal ReserveBytes", c.ReserveBytes, 0, 1<<50)
	return errors.Join(errs...)
}

func randomUUID() UUID {
	var u UUID
	_, _ = rand.Read(u[:]) // never fails: it ends the process instead
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u
}
