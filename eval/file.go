package eval

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile writes a file that is either complete or not there: what write
// produces goes to a file beside it, which is synced and renamed. An existing
// file is replaced.
func WriteFile(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		var e *fs.PathError // of a name that nobody gave
		if errors.As(err, &e) {
			err = e.Err
		}
		return fmt.Errorf("eval: writing %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := errors.Join(f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("eval: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		var e *os.LinkError
		if errors.As(err, &e) {
			err = e.Err
		}
		return fmt.Errorf("eval: writing %s: %w", path, err)
	}
	syncDir(filepath.Dir(path))
	return nil
}

// syncDir makes the names in a directory durable where a system has that; the
// others refuse to sync a directory and lose nothing by it.
func syncDir(dir string) {
	if d, err := os.Open(dir); err == nil {
		d.Sync()
		d.Close()
	}
}
