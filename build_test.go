package expo_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"expo"
	"expo/weights/checkpoint"
	"expo/weights/checkpoint/checkpointtest"
	"expo/weights/tensor"
)

// memory is a checkpoint that was never a file: quick to make, and good for
// everything but Write.
func memory(t testing.TB, m checkpointtest.Model) *checkpoint.Checkpoint {
	t.Helper()
	files := make(map[string][]byte)
	for name, text := range m.Files {
		files[name] = []byte(text)
	}
	if m.Config != "" {
		files["config.json"] = []byte(m.Config)
	}
	c, err := checkpoint.New("memory", []checkpoint.Shard{{File: "model.safetensors", Tensors: m.Tensors}}, checkpoint.Overlay(nil, files))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func memoryPair(t testing.TB, sft, aligned checkpointtest.Model) expo.Pair {
	t.Helper()
	return expo.Pair{SFT: memory(t, sft), Aligned: memory(t, aligned)}
}

// disk writes a pair to a fresh directory and opens it.
func disk(t testing.TB, sft, aligned checkpointtest.Model) expo.Pair {
	t.Helper()
	dir := t.TempDir()
	sft.Write(t, filepath.Join(dir, "sft"))
	aligned.Write(t, filepath.Join(dir, "aligned"))
	return expo.Pair{SFT: open(t, filepath.Join(dir, "sft")), Aligned: open(t, filepath.Join(dir, "aligned"))}
}

func open(t testing.TB, dir string) *checkpoint.Checkpoint {
	t.Helper()
	c, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// single is a model of one tensor w.
func single(w tensor.Tensor) checkpointtest.Model {
	w.Name = "w"
	return checkpointtest.Model{Tensors: []tensor.Tensor{w}}
}

// large is a pair with a tensor of more elements than one block, of which some
// are unchanged, and most changes are small.
func large(d tensor.DType, seed uint64) (sft, aligned checkpointtest.Model) {
	r := rand.New(rand.NewPCG(seed, 1))
	for _, s := range []struct {
		name  string
		shape []int
	}{{"embed.weight", []int{600, 1000}}, {"h.0.weight", []int{7, 11}}, {"h.1.weight", []int{33, 100}}, {"norm.weight", []int{3}}} {
		n, _ := tensor.Elements(s.shape)
		x, y := make([]float32, n), make([]float32, n)
		for i := range x {
			x[i] = float32(0.02 * r.NormFloat64())
			y[i] = x[i]
			if r.IntN(3) > 0 {
				y[i] += float32(0.0003 * r.NormFloat64())
			}
		}
		sft.Tensors = append(sft.Tensors, checkpointtest.Floats(s.name, d, s.shape, x))
		aligned.Tensors = append(aligned.Tensors, checkpointtest.Floats(s.name, d, s.shape, y))
	}
	return sft, aligned
}

func extrapolate(t testing.TB, p expo.Pair, opt expo.Options) *checkpoint.Checkpoint {
	t.Helper()
	c, err := expo.Extrapolate(p, opt)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// write writes to a fresh directory and gives its path.
func write(t testing.TB, p expo.Pair, opt expo.Options, w expo.WriteOptions) (string, *expo.Written) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "out")
	out, err := expo.Write(context.Background(), dir, p, opt, w)
	if err != nil {
		t.Fatal(err)
	}
	return dir, out
}

// bytesOf reads a tensor of c.
func bytesOf(t testing.TB, c *checkpoint.Checkpoint, name string) []byte {
	t.Helper()
	x, ok := c.Tensor(name)
	if !ok {
		t.Fatalf("no tensor %s", name)
	}
	return checkpointtest.Bytes(x)
}

// sameTensors reports every tensor in which two checkpoints differ.
func sameTensors(t testing.TB, got, want *checkpoint.Checkpoint) {
	t.Helper()
	if got.Len() != want.Len() {
		t.Errorf("%d tensors, want %d", got.Len(), want.Len())
	}
	for w := range want.Tensors() {
		g, ok := got.Tensor(w.Name)
		switch {
		case !ok:
			t.Errorf("%s is missing", w.Name)
		case g.DType != w.DType || fmt.Sprint(g.Shape) != fmt.Sprint(w.Shape):
			t.Errorf("%s is %v %v, want %v %v", w.Name, g.DType, g.Shape, w.DType, w.Shape)
		case string(checkpointtest.Bytes(g)) != string(checkpointtest.Bytes(w)):
			t.Errorf("%s has other bytes", w.Name)
		}
	}
}

// sameTree compares two directories file by file.
func sameTree(t testing.TB, got, want string) {
	t.Helper()
	g, w := checkpointtest.Tree(t, got), checkpointtest.Tree(t, want)
	for name := range w {
		if _, ok := g[name]; !ok {
			t.Errorf("%s is missing", name)
		} else if g[name] != w[name] {
			t.Errorf("%s differs", name)
		}
	}
	for name := range g {
		if _, ok := w[name]; !ok {
			t.Errorf("%s should not be there", name)
		}
	}
}

// mentions fails unless one of the lines holds each of the words.
func mentions(t testing.TB, lines []string, words ...string) {
	t.Helper()
next:
	for _, l := range lines {
		for _, w := range words {
			if !strings.Contains(l, w) {
				continue next
			}
		}
		return
	}
	t.Errorf("no line with %q in %q", words, lines)
}
