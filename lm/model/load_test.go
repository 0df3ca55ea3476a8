package model

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"expo/weights/checkpoint"
	"expo/weights/gguf"
	"expo/weights/tensor"
)

// changed is a golden's config.json with some keys set, or removed where the
// value is nil.
func changed(t testing.TB, g goldenCase, keys map[string]any) []byte {
	t.Helper()
	var c map[string]any
	if err := json.Unmarshal(g.Config, &c); err != nil {
		t.Fatal(err)
	}
	for k, v := range keys {
		c[k] = v
		if v == nil {
			delete(c, k)
		}
	}
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// withConfig puts another config.json to the weights of a golden.
func withConfig(t testing.TB, g goldenCase, config []byte, change func([]tensor.Tensor) []tensor.Tensor) *checkpoint.Checkpoint {
	t.Helper()
	ts := slices.Collect(goldenCheckpoint(t, g.Config).Tensors())
	if change != nil {
		ts = change(ts)
	}
	c, err := checkpoint.New("changed", []checkpoint.Shard{{File: "model.safetensors", Tensors: ts}},
		fstest.MapFS{"config.json": {Data: config}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestLies loads configurations that the tensors do not bear out.
func TestLies(t *testing.T) {
	g := golden(t, "llama")
	for _, c := range []struct {
		keys map[string]any
		want string
	}{
		{map[string]any{"model_type": "mamba"}, `model_type "mamba" is not supported; supported are llama, mistral, qwen2, internlm2`},
		{map[string]any{"model_type": nil}, `model_type "" is not supported`},
		{map[string]any{"architectures": []string{"LlamaForTokenClassification"}}, `architecture "LlamaForTokenClassification" is not supported`},
		{map[string]any{"hidden_act": "gelu"}, `hidden_act "gelu" is not supported`},
		{map[string]any{"hidden_size": 96}, "model.embed_tokens.weight: has shape [96 48], the configuration wants [96 96]"},
		{map[string]any{"hidden_size": nil}, "hidden_size is missing"},
		{map[string]any{"hidden_size": -1}, `hidden_size is "-1", want a whole number from 1`},
		{map[string]any{"hidden_size": 1 << 40}, "hidden_size is"},
		{map[string]any{"vocab_size": "many"}, "vocab_size is"},
		{map[string]any{"num_hidden_layers": 4}, "model.layers.3.input_layernorm.weight: is missing"},
		{map[string]any{"num_hidden_layers": 200000000}, "config.json has 200000000 layers"},
		{map[string]any{"num_key_value_heads": 4}, "num_attention_heads 6 is not a multiple of num_key_value_heads 4"},
		{map[string]any{"head_dim": 7}, "head_dim 7 is odd"},
		{map[string]any{"head_dim": 1 << 27}, "too many"},
		{map[string]any{"head_dim": 16}, "self_attn.o_proj.weight: has shape [48 48], the configuration wants [48 96]"},
		{map[string]any{"attention_bias": true}, "bias: is missing"},
		{map[string]any{"intermediate_size": 81}, "gate_proj.weight: has shape [80 48]"},
		{map[string]any{"rms_norm_eps": -1}, "rms_norm_eps"},
		{map[string]any{"rms_norm_eps": "x"}, "rms_norm_eps"},
		{map[string]any{"rope_theta": 0}, "rope_theta"},
		{map[string]any{"rope_scaling": map[string]any{"rope_type": "longrope"}}, `rope_type "longrope" is not supported`},
		{map[string]any{"rope_scaling": map[string]any{"type": "linear"}}, "needs a factor above 0"},
		{map[string]any{"rope_scaling": map[string]any{"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4}}, "high_freq_factor"},
		{map[string]any{"rope_scaling": map[string]any{"rope_type": "yarn", "factor": 8, "original_max_position_embeddings": -5}}, "original_max_position_embeddings"},
		{map[string]any{"eos_token_id": []any{"x"}}, "eos_token_id"},
		{map[string]any{"tie_word_embeddings": 1}, "tie_word_embeddings"},
		{map[string]any{"num_labels": 3, "architectures": []string{"LlamaForSequenceClassification"}}, "score.weight: is missing"},
		{map[string]any{"model_type": "mistral", "sliding_window": 0}, "sliding_window"},
		{map[string]any{"model_type": "qwen2"}, "q_proj.bias: is missing"},
		{map[string]any{"model_type": "qwen2", "use_sliding_window": true, "layer_types": []string{"full_attention"}}, "layer_types"},
		{map[string]any{"model_type": "internlm2"}, "model.tok_embeddings.weight: is missing"},
	} {
		m, err := Load(context.Background(), withConfig(t, g, changed(t, g, c.keys), nil), LoadOptions{})
		if err == nil {
			m.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v:\n got %v\nwant %s", c.keys, err, c.want)
		}
	}
	var u *UnsupportedError
	_, err := Load(context.Background(), withConfig(t, g, changed(t, g, map[string]any{"model_type": "gpt2"}), nil), LoadOptions{})
	if !errors.As(err, &u) || u.Value != "gpt2" {
		t.Errorf("%v, want an UnsupportedError", err)
	}
	bare, err := checkpoint.New("bare", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Load(context.Background(), bare, LoadOptions{}); err == nil {
		t.Error("no error without a configuration")
	}
}

// TestDamage loads tensors that cannot be used.
func TestDamage(t *testing.T) {
	g := golden(t, "llama")
	edit := func(name string, f func(*tensor.Tensor)) func([]tensor.Tensor) []tensor.Tensor {
		return func(ts []tensor.Tensor) []tensor.Tensor {
			for i := range ts {
				if ts[i].Name == name {
					f(&ts[i])
				}
			}
			return ts
		}
	}
	const norm, up = "model.norm.weight", "model.layers.1.mlp.up_proj.weight"
	for _, c := range []struct {
		change func([]tensor.Tensor) []tensor.Tensor
		want   string
	}{
		{edit(up, func(t *tensor.Tensor) { t.DType = tensor.I32 }), up + ": is I32; weights must be"},
		{edit(up, func(t *tensor.Tensor) { t.Data = tensor.Bytes("short") }), up + ": unexpected EOF"},
		{edit(up, func(t *tensor.Tensor) { t.Shape = []int{80 * 48} }), up + ": has shape [3840]"},
		{edit(norm, func(t *tensor.Tensor) { t.Shape = nil; t.Data = tensor.Bytes("1234") }), norm + ": has shape []"},
		{edit(norm, func(t *tensor.Tensor) { t.Shape = []int{1, 48} }), norm + ": has shape [1 48]"},
	} {
		m, err := Load(context.Background(), withConfig(t, g, g.Config, c.change), LoadOptions{Jobs: 2})
		if err == nil {
			m.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}

func TestNonFinite(t *testing.T) {
	g := golden(t, "llama")
	for _, c := range []struct {
		name  string
		layer int
	}{{"model.embed_tokens.weight", 0}, {"model.layers.1.self_attn.v_proj.weight", 1}, {"model.layers.1.mlp.up_proj.weight", 2}, {"model.layers.2.mlp.down_proj.weight", 3}} {
		m, err := Load(context.Background(), withConfig(t, g, g.Config, func(ts []tensor.Tensor) []tensor.Tensor {
			for i, x := range ts {
				if x.Name == c.name {
					ts[i].Data = tensor.Bytes(bytes.Repeat([]byte{0, 0, 0xC0, 0x7F}, int(x.Elements())))
				}
			}
			return ts
		}), LoadOptions{Jobs: 1})
		if err != nil {
			t.Fatal(err)
		}
		cache := m.NewCache()
		err = m.Forward(context.Background(), []Step{{Cache: cache, Tokens: []int{1, 2}, Want: []int{1}}})
		var bad *NonFiniteError
		// Attention's part is found at the norm that follows in the same layer.
		if !errors.As(err, &bad) || bad.Layer != c.layer {
			t.Errorf("NaN in %s: %v, want layer %d", c.name, err, c.layer)
		}
		if cache.Len() != 0 {
			t.Errorf("NaN in %s: the cache holds %d tokens", c.name, cache.Len())
		}
		m.Close()
	}
}

func TestBadSteps(t *testing.T) {
	m := goldenModel(t, golden(t, "llama"), LoadOptions{Jobs: 1})
	c := m.NewCache()
	other := goldenModel(t, golden(t, "llama"), LoadOptions{Jobs: 1}).NewCache()
	for _, batch := range [][]Step{
		{{Cache: c, Tokens: []int{96}}},
		{{Cache: c, Tokens: []int{-1}}},
		{{Cache: c, Tokens: []int{1}, Want: []int{1}}},
		{{Cache: c, Tokens: []int{1, 2}, Want: []int{1, 0}}},
		{{Cache: c, Tokens: []int{1}}, {Cache: c, Tokens: []int{1}}},
		{{Cache: other, Tokens: []int{1}}},
		{{Tokens: []int{1}}},
	} {
		if err := m.Forward(context.Background(), batch); err == nil || c.Len() != 0 {
			t.Errorf("%+v: error %v, %d tokens read", batch, err, c.Len())
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := m.Forward(ctx, []Step{{Cache: c, Tokens: []int{1}}}); !errors.Is(err, context.Canceled) || c.Len() != 0 {
		t.Errorf("error %v", err)
	}
	if err := m.Forward(context.Background(), nil); err != nil {
		t.Error(err)
	}
	if _, err := m.Classify(context.Background(), [][]int{{1}}); err == nil {
		t.Error("a language model classified")
	}
}

// TestUpdate takes the weights of another checkpoint and back.
func TestUpdate(t *testing.T) {
	ctx := context.Background()
	g := golden(t, "internlm2 bias")
	for _, q := range []Quantization{AsStored, Q8_0} {
		m := goldenModel(t, g, LoadOptions{Jobs: 2, Quantize: q})
		want := all(t, m, g.IDs)
		twice := withConfig(t, g, g.Config, func(ts []tensor.Tensor) []tensor.Tensor {
			for i, x := range ts {
				if strings.Contains(x.Name, "feed_forward") {
					ts[i].Data = goldenTensor("other "+x.Name, x.DType, x.Shape...).Data
				}
			}
			return ts
		})
		fresh, err := Load(ctx, twice, LoadOptions{Jobs: 1, Quantize: q})
		if err != nil {
			t.Fatal(err)
		}
		other := all(t, fresh, g.IDs)
		fresh.Close()
		if slices.Equal(other[3], want[3]) {
			t.Fatal("the other weights change nothing")
		}
		if err := m.Update(ctx, twice); err != nil {
			t.Fatal(err)
		}
		same(t, "updated", all(t, m, g.IDs), other)
		if err := m.Update(ctx, goldenCheckpoint(t, g.Config)); err != nil {
			t.Fatal(err)
		}
		same(t, "and back", all(t, m, g.IDs), want)
		if err := m.Update(ctx, goldenCheckpoint(t, golden(t, "llama").Config)); err == nil {
			t.Error("took the weights of another architecture")
		}
	}
}

// TestMapped computes with matrices that lie in a file, and puts other weights
// in their place without touching it.
func TestMapped(t *testing.T) {
	ctx := context.Background()
	g := golden(t, "llama")
	g.Config = changed(t, g, map[string]any{"vocab_size": 8192})
	dir := filepath.Join(t.TempDir(), "model")
	if _, err := checkpoint.Write(ctx, dir, goldenCheckpoint(t, g.Config), checkpoint.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "model.safetensors")
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	open := func(noMap bool) *Model {
		c, err := checkpoint.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		m, err := Load(ctx, c, LoadOptions{Jobs: 2, NoMap: noMap})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Close)
		return m
	}
	read, mapped := open(true), open(false)
	if read.tokens.mapped != nil || (mapped.tokens.mapped == nil) != (runtime.GOOS == "windows") {
		t.Error("mapped what should be read, or read what should be mapped")
	}
	want := all(t, read, g.IDs)
	same(t, "mapped", all(t, mapped, g.IDs), want)

	twice := withConfig(t, g, g.Config, func(ts []tensor.Tensor) []tensor.Tensor {
		for i, x := range ts {
			ts[i].Data = goldenTensor("other "+x.Name, x.DType, x.Shape...).Data
		}
		return ts
	})
	for _, m := range []*Model{read, mapped} {
		if err := m.Update(ctx, twice); err != nil {
			t.Fatal(err)
		}
	}
	same(t, "updated", all(t, mapped, g.IDs), all(t, read, g.IDs))
	if read.Bytes() != mapped.Bytes() {
		t.Errorf("%d bytes after an update, want %d", mapped.Bytes(), read.Bytes())
	}
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(after, before) {
		t.Error("the file has changed", err)
	}
}

// TestQ8 sees that quantizing moves logits by little.
func TestQ8(t *testing.T) {
	g := golden(t, "llama head_dim")
	// 48 columns are no whole blocks, so only some matrices are quantized.
	g.Config = changed(t, g, map[string]any{"hidden_size": 64, "intermediate_size": 96, "head_dim": 32})
	full, q8 := goldenModel(t, g, LoadOptions{}), goldenModel(t, g, LoadOptions{Quantize: Q8_0})
	a, b := all(t, full, g.IDs), all(t, q8, g.IDs)
	for i := range a {
		want := make([]float64, len(a[i]))
		for k, v := range a[i] {
			want[k] = float64(v)
		}
		if d := furthest(b[i], want); d > 0.05 || d == 0 {
			t.Errorf("position %d: logits differ by %g of their scale", i, d)
		}
	}
	if q8.Bytes() > full.Bytes()/3 {
		t.Errorf("%d bytes of %d", q8.Bytes(), full.Bytes())
	}
}

func FuzzParseConfig(f *testing.F) {
	for _, g := range goldens(f) {
		f.Add([]byte(g.Config))
	}
	f.Add([]byte(`{"model_type":"internlm2","hidden_size":1,"intermediate_size":1,"num_attention_heads":2,"num_hidden_layers":1,"vocab_size":1}`))
	f.Add([]byte(`{"model_type":"qwen2","use_sliding_window":true,"num_hidden_layers":99999999}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		raw, err := checkpoint.ParseConfig(b)
		if err != nil {
			return
		}
		cfg, err := ParseConfig(raw)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than a line: %q", err)
			}
			return
		}
		if cfg.HeadDim < 1<<12 {
			cfg.Rope.Frequencies(cfg.HeadDim, 100)
		}
		for i := range min(cfg.NumHiddenLayers, maxLayers) {
			cfg.window(i)
		}
	})
}

// FuzzGGUF loads files that may be anything.
func FuzzGGUF(f *testing.F) {
	f.Add(smallGGUF(false))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := gguf.NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		m, err := LoadGGUF(context.Background(), r, LoadOptions{Jobs: 1})
		if err != nil {
			return
		}
		defer m.Close()
		c := m.NewCache()
		m.Forward(context.Background(), []Step{{Cache: c, Tokens: []int{0}, Want: []int{0}}})
	})
}
