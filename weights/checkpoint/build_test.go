package checkpoint

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"expo/weights/checkpoint/checkpointtest"
	"expo/weights/tensor"
)

// one is a model of a single tensor, told apart by its value.
func one(name string, v float32) checkpointtest.Model {
	return checkpointtest.Model{
		Tensors: []tensor.Tensor{checkpointtest.Floats(name, tensor.F32, []int{1}, []float32{v})},
		Config:  `{"model_type": "llama"}`,
	}
}

func pair(t *testing.T, shards int) checkpointtest.Model {
	t.Helper()
	m, _ := checkpointtest.Pair(1, tensor.BF16)
	m.Shards = shards
	return m
}

func mustOpen(t *testing.T, dir string) *Checkpoint {
	t.Helper()
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func symlink(t *testing.T, target, path string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, path); err != nil {
		t.Skip("no symbolic links here: ", err)
	}
}

// wantError fails unless err is one line, has the package's prefix once, and
// mentions every one of the texts.
func wantError(t *testing.T, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one about %q", texts)
	}
	msg := err.Error()
	if !strings.HasPrefix(msg, "checkpoint: ") || strings.Count(msg, "checkpoint: ") != 1 || strings.Contains(msg, "\n") {
		t.Errorf("error %q: want one line with the prefix once", msg)
	}
	for _, s := range texts {
		if !strings.Contains(msg, s) {
			t.Errorf("error %q does not mention %q", msg, s)
		}
	}
}

// keysOf joins the keys of a map in order, for comparing.
func keysOf[V any](m map[string]V) string { return strings.Join(slices.Sorted(maps.Keys(m)), " ") }
