package model

import (
	"context"
	"fmt"
	"slices"
	"testing"
)

// same compares logits bit for bit.
func same(t *testing.T, what string, got, want [][]float32) {
	t.Helper()
	for i := range want {
		if !slices.Equal(got[i], want[i]) {
			t.Errorf("%s: logits after token %d differ", what, i)
			return
		}
	}
}

func sequence(seed string, n, vocab int) []int {
	ids := make([]int, n)
	for i, u := range uniform(seed, n) {
		ids[i] = int((u + 0.5) * float64(vocab))
	}
	return ids
}

// TestInvariance computes the same tokens in many ways.
func TestInvariance(t *testing.T) {
	for _, name := range []string{"llama", "llama bf16", "llama f16", "mistral window bf16", "qwen2 window", "llama yarn"} {
		t.Run(name, func(t *testing.T) {
			for _, q := range []Quantization{AsStored, Q8_0} {
				invariance(t, golden(t, name), q)
			}
		})
	}
}

func invariance(t *testing.T, g goldenCase, q Quantization) {
	ctx := context.Background()
	m := goldenModel(t, g, LoadOptions{Jobs: 1, Quantize: q})
	const n = 3*pageLen + 17
	ids := sequence("invariance", n, 96)
	want := all(t, m, ids)

	one := make([]int, n)
	for i := range one {
		one[i] = 1
	}
	same(t, "one by one", all(t, m, ids, one...), want)
	same(t, "in pieces", all(t, m, ids, 1, 63, 2, 65, 7), want)
	for _, jobs := range []int{2, 5} {
		m := goldenModel(t, g, LoadOptions{Jobs: jobs, Quantize: q})
		same(t, fmt.Sprint(jobs, " threads"), all(t, m, ids), want)
		same(t, fmt.Sprint(jobs, " threads in pieces"), all(t, m, ids, 100, 1, 1), want)
	}

	// In a batch with others, prompts and single tokens mixed, over the length
	// that is computed at once.
	var batch []Step
	got := make([][]float32, n)
	for i := range 7 {
		c := m.NewCache()
		defer c.Free()
		batch = append(batch, wanted(c, sequence(fmt.Sprint("other", i), 1+40*i, 96), make([][]float32, 400)))
	}
	c := m.NewCache()
	batch = slices.Insert(batch, 4, wanted(c, ids, got))
	if err := m.Forward(ctx, batch); err != nil {
		t.Fatal(err)
	}
	same(t, "in a batch", got, want)

	// Behind shared prefixes; what the others write must not show.
	for _, at := range []int{1, pageLen - 1, pageLen, pageLen + 1, 2 * pageLen, n - 1} {
		f, g := c.Fork(at), c.Fork(at)
		a, b := make([][]float32, n), make([][]float32, n)
		copy(a, want[:at])
		copy(b, want[:at])
		other := Step{Cache: g, Tokens: sequence("elsewhere", 70, 96)}
		if err := m.Forward(ctx, []Step{other, wanted(f, ids[at:], a[at:])}); err != nil {
			t.Fatal(err)
		}
		same(t, fmt.Sprint("forked at ", at), a, want)
		g.Truncate(at)
		if err := m.Forward(ctx, []Step{wanted(g, ids[at:], b[at:])}); err != nil {
			t.Fatal(err)
		}
		same(t, fmt.Sprint("forked and truncated to ", at), b, want)
		f.Free()
		g.Free()
	}
	// The original of all the forks, shortened below what they share.
	c.Truncate(10)
	if err := m.Forward(ctx, []Step{wanted(c, ids[10:], got[10:])}); err != nil {
		t.Fatal(err)
	}
	same(t, "truncated", got, want)

	// Only the logits that are wanted.
	var step Step
	few := make([][]float32, n)
	step = Step{Cache: m.NewCache(), Tokens: ids, Want: []int{3, n - 1}, Logits: func(i int, l []float32) { few[i] = slices.Clone(l) }}
	if err := m.Forward(ctx, []Step{step}); err != nil {
		t.Fatal(err)
	}
	for i := range few {
		if wanted := i == 3 || i == n-1; (few[i] != nil) != wanted || wanted && !slices.Equal(few[i], want[i]) {
			t.Errorf("few logits: wrong after token %d", i)
		}
	}
}

// TestPagesReturn sees that memory is given back once no cache holds it.
func TestPagesReturn(t *testing.T) {
	m := goldenModel(t, golden(t, "llama"), LoadOptions{Jobs: 1})
	ids := sequence("pages", 5*pageLen, 96)
	for range 3 {
		c := m.NewCache()
		if err := m.Forward(context.Background(), []Step{{Cache: c, Tokens: ids}}); err != nil {
			t.Fatal(err)
		}
		f := c.Fork(3*pageLen + 1)
		g := f.Fork(3 * pageLen)
		c.Free()
		g.Free()
		f.Free()
		if got := len(m.pages.free); got != 6 {
			t.Fatalf("%d free pages, want 6", got)
		}
	}
}
