package eval

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
)

// Log is an append-only file of JSON lines {key, time, value}. What is in it
// need not be done again: see [Log.Get]. Its methods may be called from many
// goroutines; another process is kept out while it is open.
type Log struct {
	path string
	file *os.File
	lock *flock.Flock

	mu      sync.Mutex
	size    int64 // where the next line begins
	index   map[string]span
	dropped int64
	broken  error // after a failed write that could not be undone

	syncing sync.Mutex
	synced  int64 // how far the file is on disk
}

type span struct{ at, n int64 }

// Entry is a line of a log.
type Entry struct {
	Key   string          `json:"key"`
	Time  string          `json:"time"` // RFC 3339, when it was appended
	Value json.RawMessage `json:"value"`
}

// lineStart is what every line of a log begins with.
const lineStart = `{"key":"`

// ErrLocked is in the chain of the error for a log that another process uses.
var ErrLocked = errors.New("another run is using it")

// ErrLog is in the chain of the error for a file that is not a log.
var ErrLog = errors.New("not a log")

// Key is the name under which a result is kept: the SHA-256, in hexadecimal,
// of the JSON of everything that it depends on, so that a change of any part
// gives another key. It panics on what JSON cannot express.
func Key(parts ...any) string {
	b, err := json.Marshal(parts)
	if err != nil {
		panic("eval: Key: " + err.Error())
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// OpenLog opens the log at path, or begins one. A last line that was cut short
// when a process died is taken off. The lock is the file path + ".lock", which
// stays behind; if another process holds it, the error wraps ErrLocked.
func OpenLog(path string) (*Log, error) {
	lock := flock.New(path + ".lock")
	got, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("eval: locking %s: %w", path, err)
	}
	if !got {
		return nil, fmt.Errorf("eval: %s: %w; wait for it, or choose another output", path, ErrLocked)
	}
	l := &Log{path: path, lock: lock, index: make(map[string]span)}
	if err := l.open(); err != nil {
		if l.file != nil {
			l.file.Close()
		}
		lock.Close()
		return nil, fmt.Errorf("eval: %s: %w", path, err)
	}
	return l, nil
}

func (l *Log) open() error {
	var err error
	if l.file, err = os.OpenFile(l.path, os.O_RDWR|os.O_CREATE, 0o666); err != nil {
		return err
	}
	total, err := l.file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if total == 0 {
		syncDir(filepath.Dir(l.path))
		return nil
	}
	err = eachLine(io.NewSectionReader(l.file, 0, total), func(at int64, line []byte) error {
		e, err := parseEntry(line)
		if err != nil {
			return err
		}
		l.index[e.Key] = span{at, int64(len(line))}
		l.size = at + int64(len(line))
		return nil
	})
	if err != nil {
		return err
	}
	if l.size < total {
		l.dropped = total - l.size
		if err := l.file.Truncate(l.size); err != nil {
			return err
		}
		if err := l.file.Sync(); err != nil {
			return err
		}
	}
	l.synced = l.size
	return nil
}

// eachLine calls f for every line with its end, and stops quietly before a
// last one without, if that can be the beginning of a line of a log.
func eachLine(r io.Reader, f func(at int64, line []byte) error) error {
	in := bufio.NewReaderSize(r, 1<<16)
	at := int64(0)
	for n := 1; ; n++ {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			torn := strings.TrimRight(string(line[:min(len(line), len(lineStart))]), "\x00")
			if !strings.HasPrefix(lineStart, torn) {
				return fmt.Errorf("line %d: %w", n, ErrLog)
			}
			return nil
		}
		if err != nil {
			return err
		}
		if err := f(at, line); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
		at += int64(len(line))
	}
}

func parseEntry(line []byte) (Entry, error) {
	var e Entry
	if !bytes.HasPrefix(line, []byte(lineStart)) {
		return e, ErrLog
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return e, fmt.Errorf("%w: %w", ErrLog, err)
	}
	if e.Key == "" || e.Value == nil {
		return e, fmt.Errorf("%w: no key or no value", ErrLog)
	}
	return e, nil
}

// Len is the number of different keys.
func (l *Log) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.index)
}

// Dropped is the number of bytes of a torn last line that OpenLog took off.
func (l *Log) Dropped() int64 { return l.dropped }

// Has tells whether there is a value under key.
func (l *Log) Has(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.index[key]
	return ok
}

// Get decodes the value last appended under key, and tells whether there is
// one.
func (l *Log) Get(key string, value any) (bool, error) {
	l.mu.Lock()
	s, ok := l.index[key]
	l.mu.Unlock()
	if !ok {
		return false, nil
	}
	line := make([]byte, s.n)
	if _, err := l.file.ReadAt(line, s.at); err != nil {
		return true, fmt.Errorf("eval: %s: %w", l.path, err)
	}
	e, err := parseEntry(line)
	if err == nil {
		err = json.Unmarshal(e.Value, value)
	}
	if err != nil {
		return true, fmt.Errorf("eval: %s: key %s: %w", l.path, key, err)
	}
	return true, nil
}

// Append writes a value and returns when it is on disk. The value last
// appended under a key is the one that counts. Appends that run at once share
// their syncs.
func (l *Log) Append(key string, value any) error {
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	err := enc.Encode(struct {
		Key   string `json:"key"`
		Time  string `json:"time"`
		Value any    `json:"value"`
	}{key, time.Now().UTC().Format(time.RFC3339Nano), value})
	if err == nil && key == "" {
		err = errors.New("an empty key")
	}
	if err != nil {
		return fmt.Errorf("eval: %s: %w", l.path, err)
	}
	end, err := l.write(key, line.Bytes())
	if err == nil {
		err = l.sync(end)
	}
	if err != nil {
		return fmt.Errorf("eval: %s: %w", l.path, err)
	}
	return nil
}

func (l *Log) write(key string, line []byte) (end int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return 0, l.broken
	}
	if _, err := l.file.WriteAt(line, l.size); err != nil {
		// A part of the line may be there; the next one must not follow it.
		if undo := l.file.Truncate(l.size); undo != nil {
			l.broken = err
		}
		return 0, err
	}
	l.index[key] = span{l.size, int64(len(line))}
	l.size += int64(len(line))
	return l.size, nil
}

// sync returns when the file is on disk up to end.
func (l *Log) sync(end int64) error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	if l.synced >= end {
		return nil
	}
	l.mu.Lock()
	written := l.size
	l.mu.Unlock()
	if err := l.file.Sync(); err != nil {
		return err
	}
	l.synced = written
	return nil
}

// All goes through the entries in the order in which they were appended,
// those that a later one replaced included.
func (l *Log) All() iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		l.mu.Lock()
		size := l.size
		l.mu.Unlock()
		stop := errors.New("stop")
		err := eachLine(io.NewSectionReader(l.file, 0, size), func(_ int64, line []byte) error {
			e, err := parseEntry(line)
			if err != nil {
				return err
			}
			if !yield(e, nil) {
				return stop
			}
			return nil
		})
		if err != nil && !errors.Is(err, stop) {
			yield(Entry{}, fmt.Errorf("eval: %s: %w", l.path, err))
		}
	}
}

// Close lets others use the log.
func (l *Log) Close() error {
	err := l.file.Close()
	if e := l.lock.Close(); err == nil {
		err = e
	}
	if err != nil {
		return fmt.Errorf("eval: %s: %w", l.path, err)
	}
	return nil
}
