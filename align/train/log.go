package train

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

const (
	logName         = "train.jsonl"
	iterationPrefix = "iteration-"
)

// Files are what a finished run adds to the directory of its model: train.jsonl,
// with a line for each step, and loss.svg, the loss by step. work is the folder of
// Options.Work; the iterations of SPPO follow each other.
func Files(work string) (map[string][]byte, error) {
	entries, err := os.ReadDir(work)
	if err != nil {
		return nil, fmt.Errorf("train: %w", err)
	}
	var paths []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), iterationPrefix) {
			paths = append(paths, filepath.Join(work, e.Name(), logName))
		}
	}
	sort.Slice(paths, func(i, j int) bool { // iteration-10 after iteration-9
		return len(paths[i]) < len(paths[j]) || len(paths[i]) == len(paths[j]) && paths[i] < paths[j]
	})
	paths = append(paths, filepath.Join(work, logName))
	var all []byte
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("train: %w", err)
		}
		all = append(all, b...)
	}
	steps, err := ParseLog(all)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{logName: all, "loss.svg": Chart(steps)}, nil
}

// ParseLog reads the lines of a train.jsonl.
func ParseLog(b []byte) (steps []Step, err error) {
	for n := 1; len(b) > 0; n++ {
		line, rest, _ := bytes.Cut(b, []byte("\n"))
		var s Step
		if err := json.Unmarshal(line, &s); err != nil {
			return nil, fmt.Errorf("train: %s: line %d: %w", logName, n, err)
		}
		steps, b = append(steps, s), rest
	}
	return steps, nil
}

// logFile is train.jsonl; the zero value takes everything and keeps nothing.
type logFile struct{ f *os.File }

// openLog opens a log and takes off the lines after a step, which the run will
// write again. last is the line of that step.
func openLog(path string, step int) (l *logFile, last *Step, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, nil, fmt.Errorf("train: %w", err)
	}
	fail := func(err error) (*logFile, *Step, error) {
		f.Close()
		return nil, nil, fmt.Errorf("train: %w", err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return fail(err)
	}
	keep := 0
	for rest := b; ; {
		i := bytes.IndexByte(rest, '\n')
		var line Step
		if i < 0 || json.Unmarshal(rest[:i], &line) != nil || line.Step > step {
			break
		}
		last = &line
		keep += i + 1
		rest = rest[i+1:]
	}
	if err := f.Truncate(int64(keep)); err != nil {
		return fail(err)
	}
	if _, err := f.Seek(int64(keep), 0); err != nil {
		return fail(err)
	}
	return &logFile{f}, last, nil
}

func (l *logFile) write(s Step) error {
	if l.f == nil {
		return nil
	}
	b, err := json.Marshal(s)
	if err == nil {
		_, err = l.f.Write(append(b, '\n'))
	}
	if err != nil {
		return fmt.Errorf("train: %w", err)
	}
	return nil
}

func (l *logFile) sync() error {
	if l.f == nil {
		return nil
	}
	if err := l.f.Sync(); err != nil {
		return fmt.Errorf("train: %w", err)
	}
	return nil
}

func (l *logFile) close() {
	if l.f != nil {
		l.f.Close()
	}
}
