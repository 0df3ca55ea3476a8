package checkpoint

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// enoughSpace fails before an hour is spent on what cannot fit. File systems
// that do not tell pass.
func enoughSpace(dir string, need int64) error {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil || st.Blocks == 0 {
		return nil
	}
	if free := int64(st.Bavail) * int64(st.Bsize); free < need {
		return fmt.Errorf("checkpoint: %s: %w: needs %d bytes, %d are free", dir, unix.ENOSPC, need, free)
	}
	return nil
}

// reserve has the file system find room for a file of size bytes before it is
// written: in one piece, and for less work than as the blocks come. It fails if
// there is none. File systems that cannot reserve find out later.
func reserve(f *os.File, size int64) error {
	switch err := unix.Fallocate(int(f.Fd()), 0, 0, size); err {
	case unix.ENOSPC, unix.EDQUOT, unix.EFBIG:
		return &os.PathError{Op: "allocate", Path: f.Name(), Err: err}
	}
	return nil
}

// startWriteback asks the kernel to begin writing a stretch to disk, so that
// the final fsync finds little left to do. Advice only.
func startWriteback(f *os.File, off, n int64) {
	unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}

// exchange swaps two names in one step.
func exchange(a, b string) error {
	return unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
}
