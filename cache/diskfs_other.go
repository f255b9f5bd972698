//go:build !unix

package cache

import (
	"errors"
	"io"
)

var errNoDisk = errors.New("the disk cache needs a Unix system")

func (d osDir) Lock() (io.Closer, error) { return nil, errNoDisk }

func (d osDir) Free() (free, total int64, err error) { return 0, 0, errNoDisk }
