package checkpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// A stage is the place beside the target where a directory is put together:
//
//	parent/.NAME.expo/lock     held while a process works here
//	parent/.NAME.expo/journal  JSON lines: what is being written, finished shards
//	parent/.NAME.expo/model/   becomes parent/NAME by one rename
//
// Killed at any moment it leaves the target as it was; the next run for the
// same target takes the stage over, and keeps the finished shards if it is to
// write the same thing.
type stage struct {
	target  string // absolute
	dir     string // parent/.NAME.expo
	model   string // parent/.NAME.expo/model
	lock    *flock.Flock
	journal *os.File
	done    map[string]journalEntry
}

// journalEntry is one line of the journal. The first line has only Key.
type journalEntry struct {
	Key    string          `json:"key,omitempty"`
	File   string          `json:"file,omitempty"`
	Size   int64           `json:"size,omitempty"`
	SHA256 string          `json:"sha256,omitempty"`
	Note   json.RawMessage `json:"note,omitempty"`
}

// ErrExists is wrapped by the error for a target that is already there.
var ErrExists = errors.New("already exists")

// ErrBusy is wrapped by the error for a target that another process is
// writing.
var ErrBusy = errors.New("another expo is writing it")

// openStage takes the stage for target, or fails with ErrBusy. A journal with
// another key is started over.
func openStage(target, key string, force bool) (*stage, error) {
	abs, err := filepath.Abs(target)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	parent, base := filepath.Split(abs)
	s := &stage{target: abs, dir: filepath.Join(parent, "."+base+".expo")}
	s.model = filepath.Join(s.dir, "model")
	if err := targetFree(abs, force); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.dir, 0o777); err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	if err := s.acquire(); err != nil {
		return nil, err
	}
	// Whoever held the lock may have finished in between.
	if err := targetFree(abs, force); err != nil {
		s.remove()
		return nil, err
	}
	if err := s.openJournal(key); err != nil {
		s.release()
		return nil, err
	}
	return s, nil
}

func targetFree(abs string, force bool) error {
	info, err := os.Lstat(abs)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("checkpoint: %w", err)
	case !force:
		return fmt.Errorf("checkpoint: %s %w; use --force to replace it", abs, ErrExists)
	case !info.IsDir():
		return fmt.Errorf("checkpoint: %s %w and is not a directory; remove it first", abs, ErrExists)
	}
	return nil
}

// acquire locks the stage. The lock dies with its holder, so a killed run
// never blocks the next; a lock file that was unlinked between opening and
// locking it protects nothing and is tried anew.
func (s *stage) acquire() error {
	path := filepath.Join(s.dir, "lock")
	for range 10 {
		if err := os.MkdirAll(s.dir, 0o777); err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
		s.lock = flock.New(path)
		got, err := s.lock.TryLock()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("checkpoint: locking %s: %w", path, err)
		}
		if !got {
			return fmt.Errorf("checkpoint: %s: %w (it holds %s)", s.target, ErrBusy, path)
		}
		held, err1 := s.lock.Stat()
		there, err2 := os.Stat(path)
		if err1 == nil && err2 == nil && os.SameFile(held, there) {
			return nil
		}
		s.lock.Close()
	}
	return fmt.Errorf("checkpoint: %s: %w", s.target, ErrBusy)
}

// openJournal reads what an earlier run finished, or starts over.
func (s *stage) openJournal(key string) error {
	path := filepath.Join(s.dir, "journal")
	s.done = readJournal(path, key)
	flags := os.O_WRONLY | os.O_CREATE | os.O_APPEND
	if s.done == nil {
		s.done = make(map[string]journalEntry)
		if err := os.RemoveAll(s.model); err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
		flags |= os.O_TRUNC
	}
	if err := os.MkdirAll(s.model, 0o777); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	f, err := os.OpenFile(path, flags, 0o666)
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	s.journal = f
	if flags&os.O_TRUNC != 0 {
		return s.append(journalEntry{Key: key})
	}
	// A line that a kill cut short must not swallow the next one.
	_, err = f.WriteString("\n")
	return err
}

// readJournal gives the finished shards, or nil if there is no journal for
// this key. A line that a kill cut short is passed over.
func readJournal(path, key string) map[string]journalEntry {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var done map[string]journalEntry
	for line := range bytes.Lines(b) {
		var e journalEntry
		if json.Unmarshal(line, &e) != nil {
			continue
		}
		switch {
		case done == nil && e.Key != key:
			return nil
		case done == nil:
			done = make(map[string]journalEntry)
		case e.File != "":
			done[e.File] = e
		}
	}
	return done
}

// append writes one line and makes it durable.
func (s *stage) append(e journalEntry) error {
	b, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("checkpoint: journal: %w", err)
	}
	if _, err := s.journal.Write(append(b, '\n')); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if err := s.journal.Sync(); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

// finished tells whether an earlier run finished the file, with the size that
// it must have.
func (s *stage) finished(name string, size int64, digest bool) (journalEntry, bool) {
	e, ok := s.done[name]
	if !ok || e.Size != size || digest && e.SHA256 == "" {
		return journalEntry{}, false
	}
	info, err := os.Stat(filepath.Join(s.model, name))
	return e, err == nil && info.Mode().IsRegular() && info.Size() == size
}

// publish makes the stage the target: everything in it is made durable, then
// one rename. An existing target (force) is exchanged for it and then removed.
func (s *stage) publish(force bool) error {
	if err := syncDirs(s.model); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if err := s.swap(force); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if err := syncDir(filepath.Dir(s.target)); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	s.remove()
	return nil
}

func (s *stage) swap(force bool) error {
	if _, err := os.Lstat(s.target); errors.Is(err, fs.ErrNotExist) {
		return os.Rename(s.model, s.target)
	} else if err != nil {
		return err
	}
	if !force {
		return fmt.Errorf("%s %w", s.target, ErrExists)
	}
	if err := exchange(s.model, s.target); err == nil {
		return nil
	}
	// Where two names cannot be exchanged at once the target is absent for a
	// moment, never half.
	old := filepath.Join(s.dir, "old")
	if err := os.RemoveAll(old); err != nil {
		return err
	}
	if err := os.Rename(s.target, old); err != nil {
		return err
	}
	if err := os.Rename(s.model, s.target); err != nil {
		return errors.Join(err, os.Rename(old, s.target))
	}
	return nil
}

// release gives the stage back and keeps it for a later run.
func (s *stage) release() {
	if s.journal != nil {
		s.journal.Close()
	}
	s.lock.Close()
}

// remove takes the stage away; the lock file goes while it is held.
func (s *stage) remove() {
	if s.journal != nil {
		s.journal.Close()
	}
	os.RemoveAll(s.model)
	os.RemoveAll(s.dir)
	s.lock.Close()
}
