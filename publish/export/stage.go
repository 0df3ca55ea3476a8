package export

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// A stage is the files while they are written, each beside its target.
type stage struct {
	targets []string
	paths   []string
	files   []*os.File
	locks   []*flock.Flock
	noSync  bool
}

// newStage begins all files. What an interrupted run has left is written over.
func newStage(files []File, opt Options) (s *stage, err error) {
	s = &stage{noSync: opt.NoSync}
	defer func() {
		if err != nil {
			s.discard()
		}
	}()
	if err := free(files, opt); err != nil {
		return s, err
	}
	for _, f := range files {
		if err := s.begin(f.Path); err != nil {
			return s, err
		}
	}
	return s, nil
}

// free fails if a target cannot be written.
func free(files []File, opt Options) error {
	seen := map[string]bool{}
	for _, f := range files {
		abs, err := filepath.Abs(f.Path)
		if err != nil {
			return fmt.Errorf("export: %w", err)
		}
		if seen[abs] {
			return fmt.Errorf("export: %s is to be written twice", f.Path)
		}
		seen[abs] = true
		switch info, err := os.Lstat(abs); {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return fmt.Errorf("export: %w", err)
		case info.IsDir():
			return fmt.Errorf("export: %s is a directory", f.Path)
		case !opt.Force:
			return fmt.Errorf("export: %s %w", f.Path, ErrExists)
		}
	}
	return nil
}

func (s *stage) begin(target string) error {
	dir, base := filepath.Split(target)
	if dir != "" {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return fmt.Errorf("export: %w", err)
		}
	}
	path := filepath.Join(dir, "."+base+".part")
	lock := flock.New(path + ".lock")
	if ok, err := lock.TryLock(); err != nil || !ok {
		if err == nil {
			err = errors.New("another expo is writing it")
		}
		return fmt.Errorf("export: %s: %w", target, err)
	}
	s.locks = append(s.locks, lock)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	s.targets, s.paths, s.files = append(s.targets, target), append(s.paths, path), append(s.files, file)
	return nil
}

// publish makes the files durable and gives them their names.
func (s *stage) publish() error {
	for i, f := range s.files {
		if !s.noSync {
			if err := f.Sync(); err != nil {
				return fmt.Errorf("export: %s: %w", s.targets[i], err)
			}
		}
		if err := f.Close(); err != nil {
			return fmt.Errorf("export: %s: %w", s.targets[i], err)
		}
	}
	for i, path := range s.paths {
		if err := os.Rename(path, s.targets[i]); err != nil {
			return fmt.Errorf("export: %w", err)
		}
	}
	for _, t := range s.targets {
		if dir, err := os.Open(filepath.Dir(t)); err == nil {
			dir.Sync() // where directories can be: the names last, too
			dir.Close()
		}
	}
	s.paths = nil
	return nil
}

// discard takes away what publish has not named, and the locks.
func (s *stage) discard() {
	for i := range s.paths {
		s.files[i].Close()
		os.Remove(s.paths[i])
	}
	for _, l := range s.locks {
		os.Remove(l.Path())
		l.Unlock()
	}
	s.paths, s.locks = nil, nil
}
