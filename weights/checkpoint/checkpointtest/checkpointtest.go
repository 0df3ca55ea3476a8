// Package checkpointtest builds small model directories for tests.
//
// Start at Pair, a whole tiny Llama and its aligned twin, or at Model, which
// writes whatever tensors and files a test needs. Everything is made from its
// arguments alone, so the same call gives the same bytes on every machine.
//
// The layouts are those of https://huggingface.co/docs/safetensors and of
// torch.save; what the packages under test refuse to write (a damaged index,
// a link, a missing shard) a test makes from a written directory by hand.
package checkpointtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"expo/weights/safetensors"
	"expo/weights/tensor"
)

// Model is what a model directory is to hold. Its fields may be changed at
// will before Write; Clone keeps the original.
type Model struct {
	// Tensors in the order of the state dict (embedding, layers, norm, head).
	Tensors []tensor.Tensor
	// Config is the text of config.json; empty for none.
	Config string
	// Files are further files by slash-separated path.
	Files map[string]string
	// Shards is how many weight files there are; 0 and 1 give one file and no
	// index.
	Shards int
}

// Clone is a copy whose slices and maps are its own; tensors still share Data.
func (m Model) Clone() Model {
	m.Tensors = slices.Clone(m.Tensors)
	m.Files = maps.Clone(m.Files)
	return m
}

// Set replaces the tensor of t's name, or adds t at the end.
func (m *Model) Set(t tensor.Tensor) {
	if i := m.find(t.Name); i >= 0 {
		m.Tensors[i] = t
		return
	}
	m.Tensors = append(m.Tensors, t)
}

// Remove takes the tensors of these names away. It panics if one is not there,
// since a test that removes nothing proves nothing.
func (m *Model) Remove(names ...string) {
	for _, name := range names {
		i := m.find(name)
		if i < 0 {
			panic(fmt.Sprintf("checkpointtest: no tensor %q to remove", name))
		}
		m.Tensors = slices.Delete(m.Tensors, i, i+1)
	}
}

// Tensor finds a tensor by name and panics if there is none.
func (m Model) Tensor(name string) tensor.Tensor {
	i := m.find(name)
	if i < 0 {
		panic(fmt.Sprintf("checkpointtest: no tensor %q", name))
	}
	return m.Tensors[i]
}

func (m Model) find(name string) int {
	return slices.IndexFunc(m.Tensors, func(t tensor.Tensor) bool { return t.Name == name })
}

// Write writes the model to dir as safetensors, creating dir if need be: the
// tensors are cut into Shards runs of nearly equal number, and inside a file
// stand in the order of the official writer. dir is used as it is, so writing
// twice to one directory can leave stale files behind on purpose.
func (m Model) Write(t testing.TB, dir string) {
	t.Helper()
	m.write(t, dir, "model", ".safetensors", func(ts []tensor.Tensor) []byte {
		ts = slices.Clone(ts)
		safetensors.Sort(ts)
		var b bytes.Buffer
		if err := safetensors.Write(&b, ts, map[string]string{"format": "pt"}); err != nil {
			t.Fatalf("checkpointtest: %v", err)
		}
		return b.Bytes()
	})
}

// WriteBin is Write for torch's format: pytorch_model.bin, or numbered files
// with pytorch_model.bin.index.json. Types that torch has no storage class for
// (FP8 and narrower) fail the test.
func (m Model) WriteBin(t testing.TB, dir string) {
	t.Helper()
	m.write(t, dir, "pytorch_model", ".bin", func(ts []tensor.Tensor) []byte {
		b, err := torchFile(ts)
		if err != nil {
			t.Fatalf("checkpointtest: %v", err)
		}
		return b
	})
}

func (m Model) write(t testing.TB, dir, base, suffix string, encode func([]tensor.Tensor) []byte) {
	t.Helper()
	n := max(m.Shards, 1)
	weightMap := make(map[string]string)
	total := int64(0)
	for i := range n {
		ts := m.Tensors[i*len(m.Tensors)/n : (i+1)*len(m.Tensors)/n]
		name := base + suffix
		if n > 1 {
			name = fmt.Sprintf("%s-%05d-of-%05d%s", base, i+1, n, suffix)
		}
		for _, x := range ts {
			weightMap[x.Name] = name
			total += x.Size()
		}
		File(t, filepath.Join(dir, name), string(encode(ts)))
	}
	if n > 1 {
		b, err := json.MarshalIndent(map[string]any{
			"metadata":   map[string]any{"total_size": total},
			"weight_map": weightMap,
		}, "", "  ")
		if err != nil {
			t.Fatalf("checkpointtest: %v", err)
		}
		File(t, filepath.Join(dir, base+suffix+".index.json"), string(b)+"\n")
	}
	if m.Config != "" {
		File(t, filepath.Join(dir, "config.json"), m.Config)
	}
	for name, text := range m.Files {
		File(t, filepath.Join(dir, filepath.FromSlash(name)), text)
	}
}

// File writes one file, and the directories above it.
func File(t testing.TB, path, contents string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(contents), 0o666); err != nil {
		t.Fatal(err)
	}
}

// Tree reads a directory: contents by slash-separated path. Links are
// followed; directories do not appear.
func Tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if info, err := os.Stat(path); err != nil || info.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		out[filepath.ToSlash(rel)] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
