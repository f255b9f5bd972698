package wal

// SyncData is F_FULLFSYNC, which is what Sync means on this system.
func (f osFile) SyncData() error { return f.Sync() }

// Preallocate leaves it to the zeros that are written next.
func (f osFile) Preallocate(int64) error { return nil }
