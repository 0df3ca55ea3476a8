//go:build !linux

package checkpoint

import (
	"errors"
	"os"
)

// enoughSpace leaves it to the write to fail.
func enoughSpace(string, int64) error { return nil }

// reserve leaves it to the writes to find room.
func reserve(*os.File, int64) error { return nil }

// startWriteback leaves it to the final fsync.
func startWriteback(*os.File, int64, int64) {}

// exchange is done in two renames by the caller.
func exchange(a, b string) error { return errors.ErrUnsupported }
