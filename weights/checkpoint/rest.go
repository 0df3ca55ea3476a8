package checkpoint

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const indexName = "model.safetensors.index.json"

// rest writes everything but the weights.
func (w *writer) rest(c *Checkpoint, small []string) error {
	if len(w.plan.files) > 1 {
		b, err := w.plan.index(c)
		if err == nil {
			err = w.write(indexName, b)
		}
		if err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
	}
	first := len(w.out.Files)
	for _, name := range small {
		if err := w.ctx.Err(); err != nil {
			return fmt.Errorf("checkpoint: %w", context.Cause(w.ctx))
		}
		if err := w.copy(c.files, name); err != nil {
			return fmt.Errorf("checkpoint: copying %s: %w", plain(name), escapeHint(err))
		}
	}
	if w.opt.Finish == nil {
		return nil
	}
	more, err := w.opt.Finish(&w.out)
	switch {
	case err != nil && w.ctx.Err() != nil:
		return err
	case err != nil:
		return &refusal{err}
	}
	for name, b := range more {
		if !fs.ValidPath(name) || name == "." || slices.ContainsFunc(w.out.Files[:first], func(f WrittenFile) bool { return f.Name == name }) {
			return &refusal{fmt.Errorf("checkpoint: %s: no name for a further file", plain(name))}
		}
		if err := w.write(name, b); err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
	}
	slices.SortFunc(w.out.Files[first:], func(a, b WrittenFile) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

// clean takes away what an earlier run left in the stage besides the shards
// that it finished.
func (w *writer) clean() error {
	entries, err := os.ReadDir(w.stage.model)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, keep := w.stage.done[e.Name()]; !keep {
			if err := os.RemoveAll(filepath.Join(w.stage.model, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// write writes a file that is in memory.
func (w *writer) write(name string, b []byte) error {
	return w.small(name, bytes.NewReader(b))
}

// copy takes a small file over. Tokenizers reach some 30 MB, so it streams.
func (w *writer) copy(from fs.FS, name string) error {
	in, err := from.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	return w.small(name, in)
}

func (w *writer) small(name string, in io.Reader) error {
	path := filepath.Join(w.stage.model, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, h), in)
	if err == nil {
		err = out.Sync()
	}
	if err := cmp.Or(err, out.Close()); err != nil {
		return err
	}
	f := WrittenFile{name, n, hex.EncodeToString(h.Sum(nil))}
	if i := slices.IndexFunc(w.out.Files, func(f WrittenFile) bool { return f.Name == name }); i >= 0 {
		w.out.Files[i] = f
	} else {
		w.out.Files = append(w.out.Files, f)
	}
	return nil
}
