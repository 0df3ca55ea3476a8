package model

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"expo/weights/tensor"
)

// seen collects what an Observer is shown, by the joined names of the tensors.
type seen struct {
	names []string
	x     map[string][]float32
	cols  map[string]int
}

func (s *seen) observe(tensors []string, x []float32, rows, cols int) {
	if s.x == nil {
		s.x, s.cols = map[string][]float32{}, map[string]int{}
	}
	name := strings.Join(tensors, " ")
	if s.x[name] == nil {
		s.names = append(s.names, name)
	}
	if len(x) != rows*cols {
		panic(fmt.Sprintf("%s: %d values are not (%d, %d)", name, len(x), rows, cols))
	}
	s.x[name] = append(s.x[name], x...)
	s.cols[name] = cols
}

// observed runs sequences in one batch, or one after the other.
func observed(t *testing.T, m *Model, together bool, want []int, sequences ...[]int) *seen {
	t.Helper()
	s := &seen{}
	var batch []Step
	for i, ids := range sequences {
		step := Step{Cache: m.NewCache(), Tokens: ids, Want: want, Logits: func(int, []float32) {}}
		defer step.Cache.Free()
		if batch = append(batch, step); together && i < len(sequences)-1 {
			continue
		}
		if err := m.Observe(context.Background(), batch, s.observe); err != nil {
			t.Fatal(err)
		}
		batch = nil
	}
	return s
}

// TestObserve checks which inputs are shown, by computing from them what comes
// next.
func TestObserve(t *testing.T) {
	g := golden(t, "llama")
	ck := goldenCheckpoint(t, g.Config)
	m := goldenModel(t, g, LoadOptions{Jobs: 2})
	ids := sequence("observed", 21, 96)
	logits := all(t, m, ids)
	got := make([][]float32, len(ids))
	step := wanted(m.NewCache(), ids, got)
	s := &seen{}
	if err := m.Observe(context.Background(), []Step{step}, s.observe); err != nil {
		t.Fatal(err)
	}
	same(t, "while observed", got, logits)

	weight := func(name string) []float32 {
		w, ok := ck.Tensor(name)
		if !ok {
			t.Fatalf("no %s", name)
		}
		return values(t, w)
	}
	// multiply is x·wᵀ in float64, for the rows of x.
	multiply := func(x []float32, cols int, w []float32) []float64 {
		rows := len(w) / cols
		out := make([]float64, len(x)/cols*rows)
		for i := range out {
			a, b := x[i/rows*cols:][:cols], w[i%rows*cols:][:cols]
			for k := range a {
				out[i] += float64(a[k]) * float64(b[k])
			}
		}
		return out
	}
	near := func(what string, got []float32, want []float64) {
		t.Helper()
		if len(got) != len(want) {
			t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
		}
		for i := range got {
			if d := math.Abs(float64(got[i]) - want[i]); !(d <= 1e-4*(1+math.Abs(want[i]))) {
				t.Fatalf("%s: value %d is %v, want %v", what, i, got[i], want[i])
			}
		}
	}
	layers, h := m.cfg.NumHiddenLayers, m.cfg.HiddenSize
	if len(s.names) != 4*layers+1 {
		t.Fatalf("seen: %q", s.names)
	}
	for l := range layers {
		at := func(name string) string { return fmt.Sprintf("model.layers.%d.%s.weight", l, name) }
		qkv := at("self_attn.q_proj") + " " + at("self_attn.k_proj") + " " + at("self_attn.v_proj")
		both := at("mlp.gate_proj") + " " + at("mlp.up_proj")
		want := []string{qkv, at("self_attn.o_proj"), both, at("mlp.down_proj")}
		if !slices.Equal(s.names[4*l:4*l+4], want) {
			t.Fatalf("layer %d: %q, want %q", l, s.names[4*l:4*l+4], want)
		}
		for _, name := range want {
			if rows := len(s.x[name]) / s.cols[name]; rows != len(ids) {
				t.Errorf("%s: %d rows, want %d", name, rows, len(ids))
			}
		}
		gate, up := multiply(s.x[both], h, weight(at("mlp.gate_proj"))), multiply(s.x[both], h, weight(at("mlp.up_proj")))
		for i, x := range gate {
			gate[i] = x / (1 + math.Exp(-x)) * up[i]
		}
		near(at("mlp.down_proj"), s.x[at("mlp.down_proj")], gate)
	}
	// The first token sees only itself, so its attention is its value.
	first := s.x["model.layers.0.self_attn.q_proj.weight model.layers.0.self_attn.k_proj.weight model.layers.0.self_attn.v_proj.weight"]
	value := multiply(first[:h], h, weight("model.layers.0.self_attn.v_proj.weight"))
	d, group := m.cfg.HeadDim, m.cfg.NumAttentionHeads/m.cfg.NumKeyValueHeads
	var attention []float64
	for head := range m.cfg.NumAttentionHeads {
		attention = append(attention, value[head/group*d:][:d]...)
	}
	near("attention", s.x["model.layers.0.self_attn.o_proj.weight"][:len(attention)], attention)
	head := s.names[len(s.names)-1]
	near("logits", slices.Concat(logits...), multiply(s.x[head], h, weight(head)))
}

// TestObserveInvariance has the same values for every number of threads and every
// division of the sequences, and all rows of the last layer though no logits are
// wanted.
func TestObserveInvariance(t *testing.T) {
	for _, name := range []string{"llama", "llama bf16", "internlm2 bf16"} {
		g := golden(t, name)
		a, b, c := sequence("a", 20, 96), sequence("b", 515, 96), sequence("c", 5, 96)
		want := observed(t, goldenModel(t, g, LoadOptions{Jobs: 1}), true, nil, a, b, c)
		for _, n := range want.names {
			if rows := len(want.x[n]) / want.cols[n]; rows != 540 {
				t.Errorf("%s: %s: %d rows, want 540", name, n, rows)
			}
		}
		for _, way := range []struct {
			jobs     int
			together bool
		}{{2, true}, {5, false}} {
			got := observed(t, goldenModel(t, g, LoadOptions{Jobs: way.jobs}), way.together, nil, a, b, c)
			if !slices.Equal(got.names, want.names) {
				t.Fatalf("%s: %+v: %q, want %q", name, way, got.names, want.names)
			}
			for _, n := range want.names {
				if !slices.Equal(got.x[n], want.x[n]) {
					t.Errorf("%s: %+v: %s has other inputs", name, way, n)
				}
			}
		}
		m := goldenModel(t, g, LoadOptions{Jobs: 2})
		few := observed(t, m, true, []int{2}, c)
		head := few.names[len(few.names)-1]
		if len(few.names) != len(want.names)+1 || len(few.x[head]) != m.cfg.HiddenSize {
			t.Errorf("%s: one position's logits: %q, %d values of the last", name, few.names, len(few.x[head]))
		}
		if g.Name == "internlm2 bf16" && want.names[0] != "model.layers.0.attention.wqkv.weight" {
			t.Errorf("seen first: %q", want.names[0])
		}
	}
}

func values(t *testing.T, x tensor.Tensor) []float32 {
	t.Helper()
	v := make([]float32, x.Elements())
	if err := x.ReadFloat32(v, 0); err != nil {
		t.Fatal(err)
	}
	return v
}
