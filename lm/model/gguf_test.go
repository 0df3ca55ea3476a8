package model

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"testing"

	"expo/internal/kernel"
	"expo/weights/gguf"
)

func loadGGUF(t testing.TB, path string, opt LoadOptions) *Model {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	r, err := gguf.NewReader(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	m, err := LoadGGUF(context.Background(), r, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func TestStoriesGGUF(t *testing.T) {
	g := loadGGUF(t, testdata(t, "stories260K/stories260K.gguf"), LoadOptions{})
	checkStories(t, g)
	h := loadDir(t, testdata(t, "stories260K/hf"), LoadOptions{})
	ids := []int{1, 403, 407, 261, 378, 432, 383, 286}
	a, b := all(t, g, ids), all(t, h, ids)
	for i := range a {
		for k := range a[i] {
			if a[i][k] != b[i][k] {
				t.Fatalf("position %d, logit %d: %v from GGUF, %v from safetensors", i, k, a[i][k], b[i][k])
			}
		}
	}
}

// smallGGUF is a llama of one layer and four tokens, all weights 1, matrices in
// BF16 or F32.
func smallGGUF(bf16 bool) []byte {
	var head, data []byte
	u32 := func(v uint32) { head = binary.LittleEndian.AppendUint32(head, v) }
	u64 := func(v int) { head = binary.LittleEndian.AppendUint64(head, uint64(v)) }
	str := func(s string) { u64(len(s)); head = append(head, s...) }
	head = append(head, "GGUF"...)
	u32(3)
	numbers := []struct {
		key string
		v   uint32
	}{
		{"llama.embedding_length", 4}, {"llama.feed_forward_length", 2}, {"llama.block_count", 1},
		{"llama.attention.head_count", 2}, {"llama.context_length", 64}, {"tokenizer.ggml.eos_token_id", 2},
		{"tokenizer.ggml.bos_token_id", 4294967295},
	}
	tensors := []struct {
		name  string
		shape []int
	}{
		{"token_embd.weight", []int{4, 4}}, {"output_norm.weight", []int{4}},
		{"blk.0.attn_norm.weight", []int{4}}, {"blk.0.ffn_norm.weight", []int{4}},
		{"blk.0.attn_q.weight", []int{4, 4}}, {"blk.0.attn_k.weight", []int{4, 4}}, {"blk.0.attn_v.weight", []int{4, 4}},
		{"blk.0.attn_output.weight", []int{4, 4}}, {"blk.0.ffn_gate.weight", []int{2, 4}}, {"blk.0.ffn_up.weight", []int{2, 4}},
		{"blk.0.ffn_down.weight", []int{4, 2}},
	}
	u64(len(tensors))
	u64(len(numbers) + 1)
	str("general.architecture")
	u32(8)
	str("llama")
	for _, n := range numbers {
		str(n.key)
		u32(4)
		u32(n.v)
	}
	for _, t := range tensors {
		str(t.name)
		u32(uint32(len(t.shape)))
		n := 1
		for i := range t.shape {
			d := t.shape[len(t.shape)-1-i]
			u64(d)
			n *= d
		}
		one := []byte{0, 0, 0x80, 0x3F}
		if bf16 && len(t.shape) > 1 {
			u32(uint32(gguf.BF16))
			one = one[2:]
		} else {
			u32(uint32(gguf.F32))
		}
		for len(data)%32 != 0 {
			data = append(data, 0)
		}
		u64(len(data))
		data = append(data, bytes.Repeat(one, n)...)
	}
	for len(head)%32 != 0 {
		head = append(head, 0)
	}
	return append(head, data...)
}

func TestSmallGGUF(t *testing.T) {
	b := smallGGUF(false)
	r, err := gguf.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	m, err := LoadGGUF(context.Background(), r, LoadOptions{Jobs: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	cfg := m.Config()
	if cfg.BOSTokenID != -1 || len(cfg.EOSTokenIDs) != 1 || cfg.EOSTokenIDs[0] != 2 || !cfg.TieWordEmbeddings || cfg.HeadDim != 2 {
		t.Errorf("%+v", cfg)
	}
	// All logits are 4, since the final norm makes every state (1, 1, 1, 1).
	for _, l := range all(t, m, []int{0, 1, 2, 3}) {
		for _, v := range l {
			if v < 3.99 || v > 4 {
				t.Errorf("logits %v, want 4", l)
			}
		}
	}
}

// TestCacheFormat tells in which format keys and values are kept, and that the
// states of a GGUF file are not rounded.
func TestCacheFormat(t *testing.T) {
	wide := func(name string) []byte {
		g := golden(t, name)
		return changed(t, g, map[string]any{"hidden_size": 64, "intermediate_size": 96, "head_dim": 32})
	}
	hf := func(config []byte, opt LoadOptions) *Model {
		return goldenModel(t, goldenCase{Config: config}, opt)
	}
	file := func(bf16 bool) *Model {
		b := smallGGUF(bf16)
		r, err := gguf.NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatal(err)
		}
		m, err := LoadGGUF(context.Background(), r, LoadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Close)
		return m
	}
	for _, c := range []struct {
		name  string
		m     *Model
		kv    kernel.Format
		round bool
	}{
		{"F32", hf(golden(t, "llama").Config, LoadOptions{}), kernel.F32, false},
		{"F16", hf(golden(t, "llama f16").Config, LoadOptions{}), kernel.F16, false},
		{"BF16", hf(golden(t, "llama bf16").Config, LoadOptions{}), kernel.BF16, true},
		{"F32 to Q8_0", hf(wide("llama"), LoadOptions{Quantize: Q8_0}), kernel.F16, false},
		{"BF16 to Q8_0", hf(wide("llama bf16"), LoadOptions{Quantize: Q8_0}), kernel.F16, false},
		{"GGUF F32", file(false), kernel.F32, false},
		{"GGUF BF16", file(true), kernel.F16, false},
	} {
		if c.m.kv != c.kv || c.m.round != c.round {
			t.Errorf("%s: format %d, rounding %v; want %d, %v", c.name, c.m.kv, c.m.round, c.kv, c.round)
		}
	}
}
