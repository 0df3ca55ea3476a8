package model

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"expo/weights/checkpoint"
)

// testdata is a folder of real models and vectors that do not belong to this
// module.
func testdata(t testing.TB, path string) string {
	root := os.Getenv("EXPO_TESTDATA")
	if root == "" {
		root = "../../../shared/data"
	}
	full := filepath.Join(root, path)
	if _, err := os.Stat(full); err != nil {
		t.Skipf("EXPO_TESTDATA: no %s", path)
	}
	return full
}

func loadDir(t testing.TB, dir string, opt LoadOptions) *Model {
	t.Helper()
	c, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	m, err := Load(context.Background(), c, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// all computes the logits after every one of ids, fed in pieces.
func all(t testing.TB, m *Model, ids []int, pieces ...int) [][]float32 {
	t.Helper()
	c := m.NewCache()
	defer c.Free()
	out := make([][]float32, 0, len(ids))
	for len(ids) > 0 {
		n := len(ids)
		if len(pieces) > 0 {
			n, pieces = min(n, pieces[0]), pieces[1:]
		}
		got := make([][]float32, n)
		if err := m.Forward(context.Background(), []Step{wanted(c, ids[:n], got)}); err != nil {
			t.Fatal(err)
		}
		out = append(out, got...)
		ids = ids[n:]
	}
	return out
}

// wanted is a step that stores the logits after every token.
func wanted(c *Cache, ids []int, out [][]float32) Step {
	s := Step{Cache: c, Tokens: ids, Logits: func(i int, l []float32) { out[i] = append([]float32(nil), l...) }}
	for i := range ids {
		s.Want = append(s.Want, i)
	}
	return s
}

// greedy continues ids by n tokens.
func greedy(t testing.TB, m *Model, ids []int, n int) []int {
	t.Helper()
	c := m.NewCache()
	defer c.Free()
	var out []int
	for range n {
		next := -1
		s := Step{Cache: c, Tokens: ids, Want: []int{len(ids) - 1}, Logits: func(_ int, l []float32) { next = argmax(l) }}
		if err := m.Forward(context.Background(), []Step{s}); err != nil {
			t.Fatal(err)
		}
		out = append(out, next)
		ids = []int{next}
	}
	return out
}

func argmax(x []float32) int {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return best
}

type storiesGold struct {
	IDs       []int     `json:"ids"`
	First     []float64 `json:"logits_first"`
	Last      []float64 `json:"logits_last"`
	Argmax    []int     `json:"argmax"`
	LogSumExp []float64 `json:"logsumexp"`
	Greedy    []int     `json:"greedy_ids_from_bos"`
}

func checkStories(t *testing.T, m *Model) {
	b, err := os.ReadFile(testdata(t, "vectors/stories260K_logits.json"))
	if err != nil {
		t.Fatal(err)
	}
	var gold storiesGold
	if err := json.Unmarshal(b, &gold); err != nil {
		t.Fatal(err)
	}
	got := all(t, m, gold.IDs)
	for _, c := range []struct {
		got  []float32
		want []float64
	}{{got[0], gold.First}, {got[len(got)-1], gold.Last}} {
		if d := furthest(c.got, c.want); d > 1e-4 {
			t.Errorf("logits differ by %g of their scale", d)
		}
	}
	for i, l := range got {
		if a := argmax(l); a != gold.Argmax[i] {
			t.Errorf("position %d: argmax %d, want %d", i, a, gold.Argmax[i])
		}
		sum := 0.0
		for _, v := range l {
			sum += math.Exp(float64(v))
		}
		if d := math.Abs(math.Log(sum) - gold.LogSumExp[i]); d > 1e-4 {
			t.Errorf("position %d: log Σ exp off by %g", i, d)
		}
	}
	text := greedy(t, m, []int{1}, len(gold.Greedy))
	for i, id := range text {
		if id != gold.Greedy[i] {
			t.Fatalf("greedy token %d is %d, want %d", i, id, gold.Greedy[i])
		}
	}
}

// furthest is the largest difference, relative to the largest logit.
func furthest(got []float32, want []float64) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	d, scale := 0.0, 0.0
	for i, w := range want {
		d = max(d, math.Abs(float64(got[i])-w))
		scale = max(scale, math.Abs(w))
	}
	return d / scale
}

func TestStories(t *testing.T) {
	for _, jobs := range []int{1, 2} {
		checkStories(t, loadDir(t, testdata(t, "stories260K/hf"), LoadOptions{Jobs: jobs}))
	}
}
