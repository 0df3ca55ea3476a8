package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"

	"expo/weights/safetensors"
	"expo/weights/tensor"
	"expo/weights/torchbin"
)

// maxIndexSize bounds an index file; the largest published ones, with some
// 100,000 expert tensors, have about 10 MB.
const maxIndexSize = 256 << 20

// locate finds the weight files and, where there is one, their index.
func (d *directory) locate() ([]string, *index, error) {
	for _, kind := range []struct{ single, index string }{
		{"model.safetensors", "model.safetensors.index.json"},
		{"pytorch_model.bin", "pytorch_model.bin.index.json"},
	} {
		if d.exists(kind.single) {
			return []string{kind.single}, nil, nil
		}
		if d.exists(kind.index) {
			x, err := d.readIndex(kind.index)
			if err != nil {
				return nil, nil, err
			}
			return x.files, x, nil
		}
	}
	return nil, nil, d.noWeights()
}

// noWeights says what is there instead of weights, since the usual reasons
// have different remedies.
func (d *directory) noWeights() error {
	entries, err := d.ReadDir(".")
	if err != nil {
		return fmt.Errorf("checkpoint: %s: %w", d.name, err)
	}
	msg := "holds no model.safetensors, model.safetensors.index.json, pytorch_model.bin or pytorch_model.bin.index.json"
	var found []string
	for _, e := range entries {
		n := e.Name()
		switch {
		case n == "adapter_model.safetensors", n == "adapter_model.bin":
			return fmt.Errorf("checkpoint: %s holds a PEFT adapter (%s), not a whole model; merge it into its base model first (peft: merge_and_unload)", d.name, n)
		case strings.HasPrefix(n, "model-") && strings.HasSuffix(n, ".safetensors"):
			return fmt.Errorf("checkpoint: %s holds %q but no model.safetensors.index.json; the download is incomplete", d.name, n)
		case strings.HasSuffix(n, ".safetensors"), strings.HasSuffix(n, ".gguf"), strings.HasSuffix(n, ".bin"), strings.HasSuffix(n, ".pth"), strings.HasSuffix(n, ".msgpack"), strings.HasSuffix(n, ".h5"):
			found = append(found, strconv.Quote(n))
		}
	}
	if len(found) > 0 {
		msg += "; found instead " + strings.Join(clip(found), ", ")
	}
	return fmt.Errorf("checkpoint: %s %s", d.name, msg)
}

// index is model.safetensors.index.json or its torch counterpart.
type index struct {
	file    string // the index itself
	files   []string
	weights map[string]string // tensor → file
}

func (d *directory) readIndex(name string) (*index, error) {
	full := filepath.Join(d.name, name)
	f, err := d.open(name)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %s: %w", full, escapeHint(err))
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxIndexSize+1))
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %s: %w", full, err)
	}
	if len(b) > maxIndexSize {
		return nil, fmt.Errorf("checkpoint: %s: larger than %d bytes", full, maxIndexSize)
	}
	x, err := parseIndex(b)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %s: %w", full, err)
	}
	x.file = full
	return x, nil
}

func parseIndex(b []byte) (*index, error) {
	var doc struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		var kind *json.UnmarshalTypeError
		if errors.As(err, &kind) {
			what := "the file"
			if kind.Field != "" {
				what = kind.Field
			}
			return nil, fmt.Errorf("not a valid index: %s is a JSON %s; want {\"weight_map\": {tensor: file}}", what, kind.Value)
		}
		return nil, fmt.Errorf("not a valid index: %w", err)
	}
	if len(doc.WeightMap) == 0 {
		return nil, errors.New("no weight_map, or an empty one")
	}
	x := &index{weights: doc.WeightMap}
	seen := make(map[string]bool)
	var bad []string
	for _, file := range doc.WeightMap {
		if seen[file] {
			continue
		}
		seen[file] = true
		if !plainFileName(file) {
			bad = append(bad, strconv.Quote(file))
			continue
		}
		x.files = append(x.files, file)
	}
	if len(bad) > 0 {
		slices.Sort(bad)
		return nil, fmt.Errorf("weight_map names %s: a shard must be a plain file name inside the directory", strings.Join(clip(bad), ", "))
	}
	slices.Sort(x.files)
	return x, nil
}

// plainFileName accepts what may stand in a weight_map: one path element.
func plainFileName(name string) bool {
	return fs.ValidPath(name) && name != "." && !strings.ContainsAny(name, `/\:`) && filepath.IsLocal(name)
}

// check compares the index with what the shards hold, and lists everything
// that is missing at once.
func (x *index) check(c *Checkpoint) error {
	if x == nil {
		return nil
	}
	held := make(map[string]string, c.Len())
	for _, s := range c.shards {
		for _, t := range s.Tensors {
			held[t.Name] = s.File
		}
	}
	var missing []string
	for name, file := range x.weights {
		if held[name] != file {
			missing = append(missing, fmt.Sprintf("%q (%s)", name, file))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	sort.Strings(missing)
	return fmt.Errorf("checkpoint: %s: %d of %d tensors are not in the shard that the index names: %s; download the model again",
		x.file, len(missing), len(x.weights), strings.Join(clip(missing), ", "))
}

// clip keeps an error line short when a directory has a thousand faults.
func clip(list []string) []string {
	if len(list) > 5 {
		return append(list[:5:5], "…")
	}
	return list
}

func (d *directory) openShard(name string) (Shard, Source, io.Closer, []string, error) {
	full := filepath.Join(d.name, name)
	f, err := d.open(name)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w; the download is incomplete", err)
		}
		return Shard{}, Source{}, nil, nil, fmt.Errorf("checkpoint: %s: %w", full, escapeHint(err))
	}
	shard, src, skipped, err := readShard(f, full, name)
	if err != nil {
		f.Close()
		return Shard{}, Source{}, nil, nil, err
	}
	src.SHA256 = d.blobDigest(name)
	return shard, src, f, skipped, nil
}

// readShard reads the header of an open weight file of either format.
func readShard(f *os.File, full, name string) (Shard, Source, []string, error) {
	fail := func(err error) (Shard, Source, []string, error) {
		return Shard{}, Source{}, nil, fmt.Errorf("checkpoint: %s: %w", full, err)
	}
	info, err := f.Stat()
	if err != nil {
		return fail(err)
	}
	if !info.Mode().IsRegular() {
		return fail(errors.New("not a regular file"))
	}
	size := info.Size()
	shard := Shard{File: name}
	var tensors func(func(tensor.Tensor) bool)
	var skipped []string
	if isTorch(f, name) {
		r, err := torchbin.NewReader(f, size)
		if err != nil {
			return fail(err)
		}
		tensors, skipped = r.Tensors(), r.Skipped()
	} else {
		r, err := safetensors.NewReader(f, size)
		if err != nil {
			return fail(err)
		}
		tensors = r.Tensors()
	}
	for t := range tensors {
		shard.Tensors = append(shard.Tensors, t)
	}
	return shard, Source{File: name, Size: size, ModTime: info.ModTime(), f: f}, skipped, nil
}

// isTorch goes by the name where it has one of the usual endings, so that the
// right reader explains a damaged or renamed file, and by content otherwise.
func isTorch(f io.ReaderAt, name string) bool {
	switch path.Ext(name) {
	case ".safetensors":
		return false
	case ".bin", ".pt", ".pth":
		return true
	}
	// A zip, or a pickle of protocol 2. A safetensors header of 640 bytes and
	// more may begin like the latter, but the third byte of its length is zero,
	// and that of the pickle an opcode.
	var b [4]byte
	n, _ := f.ReadAt(b[:], 0)
	return n == 4 && (string(b[:]) == "PK\x03\x04" || b[0] == 0x80 && b[1] == 2 && b[2] != 0)
}
