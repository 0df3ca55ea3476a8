package checkpoint

import (
	"io/fs"
	"path/filepath"
)

// syncDirs makes the names in dir and all directories below it durable.
func syncDirs(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return err
		}
		return syncDir(path)
	})
}
