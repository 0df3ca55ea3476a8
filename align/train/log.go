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
)

// Files are what a finished run adds to the directory of its model: train.jsonl,
// with a line for each step, and loss.svg, the loss by step. work is the folder of
// Options.Work; the iterations of SPPO follow each other.
func Files(work string) (map[string][]byte, error) {
	paths, err := filepath.Glob(filepath.Join(work, "iteration-*", logName))
	if err != nil {
		return nil, fmt.Errorf("train: %w", err)
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
