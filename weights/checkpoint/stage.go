package checkpoint

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/gofrs/flock"
)

// A stage is the place beside the target where a directory is put together:
//
//	parent/.NAME.expo/lock     held while a process works here
//	parent/.NAME.expo/journal  JSON lines: what is being written, finished shards
//	parent/.NAME.expo/model/   where files are written
//	parent/.NAME.expo/ready/   model/ when it is complete, for the moment before
//	                           it becomes parent/NAME; then the old parent/NAME
//	parent/.NAME.expo/old/     the old parent/NAME, where names cannot be exchanged
//
// Killed at any moment it leaves the target as it was; the next run for the
// same target takes the stage over, and keeps the finished shards if it is to
// write the same thing.
type stage struct {
	target  string // absolute
	dir     string // parent/.NAME.expo
	model   string // parent/.NAME.expo/model
	ready   string
	old     string
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
// another key is started over, as is one without a key.
func openStage(target, key string, force bool) (*stage, error) {
	abs, err := filepath.Abs(target)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	parent, base := filepath.Split(abs)
	s := &stage{target: abs, dir: filepath.Join(parent, "."+base+".expo")}
	s.model, s.ready, s.old = filepath.Join(s.dir, "model"), filepath.Join(s.dir, "ready"), filepath.Join(s.dir, "old")
	if err := targetFree(abs, force); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.dir, 0o777); err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	if err := s.acquire(); err != nil {
		return nil, err
	}
	if err := s.repair(); err != nil {
		s.release()
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
	case !info.IsDir():
		return fmt.Errorf("checkpoint: %s %w and is not a directory; remove it first", abs, ErrExists)
	case !replaceable(abs):
		return fmt.Errorf("checkpoint: %s %w and holds something that is not a model; remove it first", abs, ErrExists)
	case !force:
		return fmt.Errorf("checkpoint: %s %w; use --force to replace it", abs, ErrExists)
	}
	return nil
}

// replaceable reports whether a directory is empty or a model: a slip in the
// output's name must not cost a home directory.
func replaceable(dir string) bool {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, e := range entries {
		name := e.Name()
		if name == "config.json" || strings.HasSuffix(name, ".safetensors") || strings.HasPrefix(name, "pytorch_model") && strings.HasSuffix(name, ".bin") {
			return true
		}
	}
	return len(entries) == 0
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

// repair undoes what a kill during publish left. If the old target was moved
// away and nothing came in its place it is put back; what was to take its place
// is still complete. Otherwise ready/ may be the new directory or the old one,
// and is not used: taking the old one for finished work would be worse than
// writing it again.
func (s *stage) repair() error {
	_, errTarget := os.Lstat(s.target)
	_, errOld := os.Lstat(s.old)
	if errOld == nil && errors.Is(errTarget, fs.ErrNotExist) {
		if err := os.Rename(s.old, s.target); err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
		if os.Rename(s.ready, s.model) == nil {
			return nil
		}
	}
	if err := cmp.Or(os.RemoveAll(s.ready), os.RemoveAll(s.old)); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
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
	if _, err := f.WriteString("\n"); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

// readJournal gives the finished shards, or nil if there is no journal for
// this key. A line that a kill cut short is passed over.
func readJournal(path, key string) map[string]journalEntry {
	b, err := os.ReadFile(path)
	if err != nil || key == "" {
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
// If that fails the stage is as it was.
func (s *stage) publish(force bool) error {
	if err := syncDirs(s.model); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	// Under its own name the old target could be taken for finished work.
	if err := os.Rename(s.model, s.ready); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if err := s.swap(force); err != nil {
		return fmt.Errorf("checkpoint: %w", also(err, os.Rename(s.ready, s.model)))
	}
	err := syncDir(filepath.Dir(s.target))
	s.remove()
	if err != nil {
		return fmt.Errorf("checkpoint: %s is written, but may not survive a crash: %w", s.target, err)
	}
	return nil
}

func (s *stage) swap(force bool) error {
	if _, err := os.Lstat(s.target); errors.Is(err, fs.ErrNotExist) {
		return os.Rename(s.ready, s.target)
	} else if err != nil {
		return err
	}
	if !force {
		return fmt.Errorf("%s %w; use --force to replace it", s.target, ErrExists)
	}
	if err := exchange(s.ready, s.target); err == nil {
		return nil
	}
	// Where two names cannot be exchanged at once the target is absent for a
	// moment, never half.
	return s.swapInTwo()
}

func (s *stage) swapInTwo() error {
	if err := os.Rename(s.target, s.old); err != nil {
		return err
	}
	if err := os.Rename(s.ready, s.target); err != nil {
		return also(err, os.Rename(s.old, s.target))
	}
	return nil
}

// also adds what went wrong while putting things back.
func also(err, next error) error {
	if next == nil {
		return err
	}
	return fmt.Errorf("%w; and then %w", err, next)
}

// release gives the stage back and keeps it for a later run.
func (s *stage) release() {
	if s.journal != nil {
		s.journal.Close()
	}
	s.lock.Close()
}

// remove takes the stage away. The lock file goes last, while it is held, and
// the folder only if it is empty: from that moment on another process may have
// a lock of its own in it.
func (s *stage) remove() {
	if s.journal != nil {
		s.journal.Close()
	}
	for _, p := range []string{s.model, s.ready, s.old, filepath.Join(s.dir, "journal")} {
		os.RemoveAll(p)
	}
	lock := filepath.Join(s.dir, "lock")
	if runtime.GOOS == "windows" { // where an open file cannot be removed
		s.lock.Close()
	}
	os.Remove(lock)
	os.Remove(s.dir)
	s.lock.Close()
}
