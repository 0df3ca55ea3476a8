// Package checkpoint reads and writes model directories in the Hugging Face
// layout: weights in one or many safetensors or torch files, an index, and the
// small files beside them (config.json, tokenizer, templates, licence).
//
// Start at Open, which reads headers only, and Write. A Checkpoint is an
// immutable set of named tensors whose bytes are read where they lie, so one
// that is computed from others (New) is as good as one on disk, and writing
// is merely one way of using it.
//
// The layout is that of transformers' save_pretrained,
// https://huggingface.co/docs/safetensors and
// https://huggingface.co/docs/transformers/main_classes/model. What a
// directory names outside itself is refused, except for the links that the
// Hugging Face cache is made of.
package checkpoint

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"expo/weights/tensor"
)

// Shard is one weight file: its name inside the directory and its tensors in
// the order of their bytes.
type Shard struct {
	File    string
	Tensors []tensor.Tensor
}

// Source is a weight file that a checkpoint was opened from.
type Source struct {
	File string // slash-separated, inside the directory
	Size int64  // in bytes
	// ModTime is when the file was last changed, as its file system tells.
	ModTime time.Time
	// SHA256 is 64 hexadecimal digits where it is known without reading the
	// file (the Hugging Face cache names blobs by it), otherwise empty.
	SHA256 string

	f *os.File
}

// Checkpoint is an immutable set of named tensors with the small files that
// belong to them. All methods but Close may be called concurrently.
type Checkpoint struct {
	name    string
	shards  []Shard
	byName  map[string]tensor.Tensor
	files   fs.FS
	sources []Source
	skipped []string
	config  *Config
	closers []io.Closer
}

// New makes a checkpoint from tensors that exist or are computed elsewhere.
// name is what error messages call it; files holds the small files, config.json
// among them, and may be nil. It fails if a tensor's name occurs twice, or if
// config.json is there and cannot be parsed.
func New(name string, shards []Shard, files fs.FS) (*Checkpoint, error) {
	c := &Checkpoint{name: name, shards: shards, files: files}
	if files == nil {
		c.files = Overlay(nil, nil)
	}
	if err := c.init(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Checkpoint) init() error {
	c.byName = make(map[string]tensor.Tensor)
	where := make(map[string]string)
	for _, s := range c.shards {
		for _, t := range s.Tensors {
			if first, dup := where[t.Name]; dup {
				return fmt.Errorf("checkpoint: %s: tensor %q is in %s and again in %s", c.name, t.Name, first, s.File)
			}
			where[t.Name] = s.File
			c.byName[t.Name] = t
		}
	}
	b, err := fs.ReadFile(c.files, "config.json")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.config = &Config{}
	case err != nil:
		return fmt.Errorf("checkpoint: %s: %w", filepath.Join(c.name, "config.json"), escapeHint(err))
	default:
		if c.config, err = ParseConfig(b); err != nil {
			return fmt.Errorf("checkpoint: %s: %w", filepath.Join(c.name, "config.json"), err)
		}
	}
	return nil
}

// Name is the directory, or whatever New was given.
func (c *Checkpoint) Name() string { return c.name }

// Shards lists the weight files in order. The caller must not change it.
func (c *Checkpoint) Shards() []Shard { return c.shards }

// Tensors yields all tensors, shard by shard, in the order of their bytes.
func (c *Checkpoint) Tensors() iter.Seq[tensor.Tensor] {
	return func(yield func(tensor.Tensor) bool) {
		for _, s := range c.shards {
			for _, t := range s.Tensors {
				if !yield(t) {
					return
				}
			}
		}
	}
}

// Len is the number of tensors.
func (c *Checkpoint) Len() int { return len(c.byName) }

// Tensor finds a tensor by its name.
func (c *Checkpoint) Tensor(name string) (tensor.Tensor, bool) {
	t, ok := c.byName[name]
	return t, ok
}

// Files is the directory without its weights being of interest: config.json,
// tokenizer.json and so on. Reading from it never leaves the directory.
func (c *Checkpoint) Files() fs.FS { return c.files }

// Config is config.json; its zero value if there is none.
func (c *Checkpoint) Config() *Config { return c.config }

// Sources lists the weight files that were opened; none for a computed
// checkpoint.
func (c *Checkpoint) Sources() []Source { return c.sources }

// Skipped names what a torch file held besides tensors ("epoch").
func (c *Checkpoint) Skipped() []string { return c.skipped }

// Changed fails if a weight file is no longer what it was when it was opened:
// what has been read from it since may be neither the old nor the new state.
func (c *Checkpoint) Changed() error {
	for _, s := range c.sources {
		info, err := s.f.Stat()
		if err != nil {
			return fmt.Errorf("checkpoint: %s: %w", s.File, err)
		}
		if info.Size() != s.Size || !info.ModTime().Equal(s.ModTime) {
			return fmt.Errorf("checkpoint: %s in %s was changed while it was being read", s.File, c.name)
		}
	}
	return nil
}

// Parameters counts the elements of all tensors of floating-point type.
func (c *Checkpoint) Parameters() int64 {
	var n int64
	for t := range c.Tensors() {
		if t.DType.Float() {
			n += t.Elements()
		}
	}
	return n
}

// Close closes the files that Open opened. Tensors cannot be read afterwards.
func (c *Checkpoint) Close() error {
	var errs []error
	for _, cl := range c.closers {
		errs = append(errs, cl.Close())
	}
	c.closers = nil
	return errors.Join(errs...)
}

// Open opens a model directory. It reads headers and config.json, no tensor.
//
// The weights are the first of these that exists: model.safetensors,
// model.safetensors.index.json with its shards, pytorch_model.bin,
// pytorch_model.bin.index.json. All shards that the index names must exist
// and hold the tensors that it puts there. A directory inside the Hugging Face
// cache (…/models--org--name/snapshots/commit) may link to the cache's blobs;
// no other directory may link out of itself.
func Open(dir string) (*Checkpoint, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("checkpoint: %s is a file; give the model's directory", dir)
	}
	d, err := openDirectory(dir)
	if err != nil {
		return nil, err
	}
	c := &Checkpoint{name: dir, files: d, closers: []io.Closer{d}}
	if err := c.open(d); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Checkpoint) open(d *directory) error {
	files, index, err := d.locate()
	if err != nil {
		return err
	}
	for _, name := range files {
		shard, src, closer, skipped, err := d.openShard(name)
		if err != nil {
			return err
		}
		c.closers = append(c.closers, closer)
		c.shards = append(c.shards, shard)
		c.sources = append(c.sources, src)
		c.skipped = append(c.skipped, skipped...)
	}
	if err := c.init(); err != nil {
		return err
	}
	return index.check(c)
}

// OpenFile opens one safetensors or torch file as a checkpoint without any
// small files.
func OpenFile(path string) (*Checkpoint, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	shard, src, skipped, err := readShard(f, path, filepath.Base(path))
	if err != nil {
		f.Close()
		return nil, err
	}
	c := &Checkpoint{name: path, files: Overlay(nil, nil), closers: []io.Closer{f},
		shards: []Shard{shard}, sources: []Source{src}, skipped: skipped}
	if err := c.init(); err != nil {
		f.Close()
		return nil, err
	}
	return c, nil
}

// escapeHint adds the remedy to the error that os.Root gives when a path or a
// link leads out of the directory.
func escapeHint(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) && strings.Contains(pe.Err.Error(), "escapes") {
		return fmt.Errorf("%w: a model may only use files inside its own directory; put the file itself there", err)
	}
	return err
}
