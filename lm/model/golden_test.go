package model

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"expo/internal/kernel"
	"expo/weights/checkpoint"
	"expo/weights/tensor"
)

// goldens.json was made by make_goldens.py beside it.
type goldenCase struct {
	Name      string
	Config    json.RawMessage
	IDs       []int
	Positions []int
	Logits    [][]float64
	Greedy    []int
	Margin    float64 `json:"smallest_margin"`
	Sequences [][]int
	Outputs   [][]float64
}

func goldens(t testing.TB) []goldenCase {
	b, err := os.ReadFile("testdata/goldens.json")
	if err != nil {
		t.Fatal(err)
	}
	var g struct{ Cases []goldenCase }
	if err := json.Unmarshal(b, &g); err != nil {
		t.Fatal(err)
	}
	return g.Cases
}

func golden(t testing.TB, name string) goldenCase {
	cs := goldens(t)
	i := slices.IndexFunc(cs, func(c goldenCase) bool { return c.Name == name })
	if i < 0 {
		t.Fatalf("no golden %q", name)
	}
	return cs[i]
}

// uniform is n values in [−1/2, 1/2), the same as in make_goldens.py.
func uniform(name string, n int) []float64 {
	h := uint64(0xCBF29CE484222325)
	for _, b := range []byte(name) {
		h = (h ^ uint64(b)) * 0x100000001B3
	}
	u := make([]float64, n)
	for i := range u {
		z := h + uint64(i+1)*0x9E3779B97F4A7C15
		z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
		z = (z ^ z>>27) * 0x94D049BB133111EB
		z ^= z >> 31
		u[i] = float64(z>>40)/(1<<24) - 0.5
	}
	return u
}

func goldenTensor(name string, d tensor.DType, shape ...int) tensor.Tensor {
	n := 1
	for _, s := range shape {
		n *= s
	}
	x := make([]float32, n)
	for i, u := range uniform(name, n) {
		switch {
		case strings.Contains(name, "norm"):
			u = 1 + u/2
		case strings.HasSuffix(name, "bias"):
			u /= 2
		case strings.Contains(name, "embed") || strings.Contains(name, "tok_"):
			u *= 2
		default:
			u *= 3 / math.Sqrt(float64(shape[len(shape)-1]))
		}
		x[i] = float32(u)
	}
	b := make([]byte, n*d.Bits()/8)
	kernel.Narrow(b, x, d.Format())
	return tensor.Tensor{Name: name, DType: d, Shape: shape, Data: tensor.Bytes(b)}
}

// goldenCheckpoint has the weights that make_goldens.py gives a model.
func goldenCheckpoint(t testing.TB, config []byte) *checkpoint.Checkpoint {
	t.Helper()
	raw, err := checkpoint.ParseConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := ParseConfig(raw)
	if err != nil {
		t.Fatal(err)
	}
	dtype, ok := raw.DType()
	if !ok {
		t.Fatal("no dtype")
	}
	var ts []tensor.Tensor
	add := func(name string, biased bool, shape ...int) {
		ts = append(ts, goldenTensor(name+".weight", dtype, shape...))
		if biased {
			ts = append(ts, goldenTensor(name+".bias", dtype, shape[0]))
		}
	}
	h, d, f := cfg.HiddenSize, cfg.HeadDim, cfg.IntermediateSize
	q, kv := cfg.NumAttentionHeads*d, cfg.NumKeyValueHeads*d
	n := hfNames
	if cfg.ModelType == "internlm2" {
		n = internNames
	}
	add(n.tokens, false, cfg.VocabSize, h)
	for i := range cfg.NumHiddenLayers {
		at := func(name string) string { return fmt.Sprintf(name, i) }
		add(at(n.attentionNorm), false, h)
		add(at(n.mlpNorm), false, h)
		if n.fused {
			add(at(n.q), cfg.QKVBias, q+2*kv, h)
		} else {
			add(at(n.q), cfg.QKVBias, q, h)
			add(at(n.k), cfg.QKVBias, kv, h)
			add(at(n.v), cfg.QKVBias, kv, h)
		}
		add(at(n.o), cfg.OutBias, h, q)
		add(at(n.gate), cfg.MLPBias, f, h)
		add(at(n.up), cfg.MLPBias, f, h)
		add(at(n.down), cfg.MLPBias, h, f)
	}
	add(n.norm, false, h)
	if cfg.NumLabels > 0 {
		add(n.score, false, cfg.NumLabels, h)
	} else if !cfg.TieWordEmbeddings {
		add(n.head, false, cfg.VocabSize, h)
	}
	c, err := checkpoint.New("golden", []checkpoint.Shard{{File: "model.safetensors", Tensors: ts}},
		fstest.MapFS{"config.json": {Data: config}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func goldenModel(t testing.TB, g goldenCase, opt LoadOptions) *Model {
	t.Helper()
	m, err := Load(context.Background(), goldenCheckpoint(t, g.Config), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// tolerance is the largest difference of logits, relative to their scale.
func tolerance(name string) float64 {
	switch {
	case strings.Contains(name, "bf16"):
		return 2e-2
	case strings.Contains(name, "f16"):
		return 4e-3
	}
	return 1e-4
}

func TestGoldens(t *testing.T) {
	for _, g := range goldens(t) {
		t.Run(g.Name, func(t *testing.T) {
			m := goldenModel(t, g, LoadOptions{Jobs: 2})
			if g.Sequences != nil {
				out, err := m.Classify(context.Background(), g.Sequences)
				if err != nil {
					t.Fatal(err)
				}
				for i, want := range g.Outputs {
					for k := range want {
						if d := math.Abs(float64(out[i][k]) - want[k]); d > tolerance(g.Name) {
							t.Errorf("sequence %d, output %d: %v, want %v", i, k, out[i][k], want[k])
						}
					}
				}
				return
			}
			got := all(t, m, g.IDs)
			for i, p := range g.Positions {
				d := furthest(got[p], g.Logits[i])
				if d > tolerance(g.Name) {
					t.Errorf("position %d: logits differ by %g of their scale", p, d)
				}
				t.Logf("position %d: %.2g", p, d)
			}
			text := greedy(t, m, g.IDs[:20], len(g.Greedy))
			for i, id := range g.Greedy {
				if text[i] != id {
					t.Errorf("greedy token %d is %d, want %d", i, text[i], id)
					break
				}
			}
		})
	}
}
