package export

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"expo/lm/model"
	"expo/weights/gguf"
)

// TestMixtures has the types that llama-cpp-python 0.3.36 gives the tensors of
// models of 16 and 5 layers; scripts/against_quantize.py compares whole files.
func TestMixtures(t *testing.T) {
	config := func(layers, cols int, tied bool) *model.Config {
		return &model.Config{
			ModelType: "llama", HiddenSize: cols, IntermediateSize: 2 * cols, NumHiddenLayers: layers, NumAttentionHeads: 4, NumKeyValueHeads: 2,
			HeadDim: cols / 4, VocabSize: 300, TieWordEmbeddings: tied,
		}
	}
	more16, more5 := "0 1 4 7 10 13 14 15", "2 4"
	for _, c := range []struct {
		typ                Type
		cfg                *model.Config
		base, tokens, head gguf.Type
		better             gguf.Type // of attn_v and ffn_down in the layers below
		values, downs      string
		weighed            bool // by an importance matrix
	}{
		{typ: F16, cfg: config(16, 256, false), base: gguf.F16, tokens: gguf.F16, head: gguf.F16},
		{typ: BF16, cfg: config(16, 256, true), base: gguf.BF16, tokens: gguf.BF16},
		{typ: Q4_0, cfg: config(16, 256, false), base: gguf.Q4_0, tokens: gguf.Q4_0, head: gguf.Q6_K},
		{typ: Q5_1, cfg: config(16, 256, true), base: gguf.Q5_1, tokens: gguf.Q6_K},
		{typ: Q8_0, cfg: config(16, 256, false), base: gguf.Q8_0, tokens: gguf.Q8_0, head: gguf.Q8_0},
		{typ: Q4_K_S, cfg: config(16, 256, false), base: gguf.Q4_K, tokens: gguf.Q4_K, head: gguf.Q6_K, values: "0 1 2 3", downs: "0 1", better: gguf.Q5_K},
		{typ: Q4_K_M, cfg: config(16, 256, false), base: gguf.Q4_K, tokens: gguf.Q4_K, head: gguf.Q6_K, values: more16, downs: more16, better: gguf.Q6_K},
		{typ: Q4_K_M, cfg: config(5, 256, true), base: gguf.Q4_K, tokens: gguf.Q6_K, values: more5, downs: more5, better: gguf.Q6_K},
		{typ: Q5_K_S, cfg: config(16, 256, false), base: gguf.Q5_K, tokens: gguf.Q5_K, head: gguf.Q6_K},
		{typ: Q5_K_M, cfg: config(16, 256, false), base: gguf.Q5_K, tokens: gguf.Q5_K, head: gguf.Q6_K, values: more16, downs: more16, better: gguf.Q6_K},
		{typ: Q6_K, cfg: config(16, 256, false), base: gguf.Q6_K, tokens: gguf.Q6_K, head: gguf.Q6_K},
		// Rows that do not fill blocks.
		{typ: Q4_K_M, cfg: config(5, 96, false), base: gguf.Q5_0, tokens: gguf.Q5_0, head: gguf.Q8_0, values: more5, downs: more5, better: gguf.Q8_0},
		{typ: Q4_K_S, cfg: config(5, 96, true), base: gguf.Q5_0, tokens: gguf.Q8_0, values: "0 1 2 3", better: gguf.Q5_1},
		{typ: Q5_K_S, cfg: config(5, 96, false), base: gguf.Q5_1, tokens: gguf.Q5_1, head: gguf.Q8_0},
		{typ: Q6_K, cfg: config(5, 96, false), base: gguf.Q8_0, tokens: gguf.Q8_0, head: gguf.Q8_0},
		{typ: Q4_0, cfg: config(5, 24, false), base: gguf.F16, tokens: gguf.F16, head: gguf.F16},
		// With an importance matrix.
		{typ: Q4_0, cfg: config(16, 256, false), base: gguf.Q4_0, tokens: gguf.Q4_0, head: gguf.Q6_K, downs: "0 1", better: gguf.Q4_1, weighed: true},
		{typ: Q5_0, cfg: config(16, 256, true), base: gguf.Q5_0, tokens: gguf.Q6_K, downs: "0 1", better: gguf.Q5_1, weighed: true},
		{typ: Q4_1, cfg: config(16, 256, false), base: gguf.Q4_1, tokens: gguf.Q4_1, head: gguf.Q6_K, weighed: true},
		{typ: Q4_K_S, cfg: config(16, 256, false), base: gguf.Q4_K, tokens: gguf.Q4_K, head: gguf.Q6_K, values: "0 1 2 3", downs: "0 1", better: gguf.Q5_K, weighed: true},
		{typ: Q4_K_M, cfg: config(16, 256, false), base: gguf.Q4_K, tokens: gguf.Q4_K, head: gguf.Q6_K, values: more16, downs: more16, better: gguf.Q6_K, weighed: true},
	} {
		ps := parts(c.cfg)
		got := mix(ps, c.typ, c.cfg.NumHiddenLayers, false, c.weighed)
		for i, p := range ps {
			want := c.base
			layer := ""
			fmt.Sscanf(p.name, "blk.%s", &layer)
			layer, _, _ = strings.Cut(layer, ".")
			in := func(list string) bool { return slices.Contains(strings.Fields(list), layer) }
			switch {
			case p.vector:
				want = gguf.F32
			case p.name == "token_embd.weight":
				want = c.tokens
			case p.name == "output.weight":
				want = c.head
			case strings.HasSuffix(p.name, "attn_v.weight") && in(c.values), strings.HasSuffix(p.name, "ffn_down.weight") && in(c.downs):
				want = c.better
			}
			if got[i] != want {
				t.Errorf("%v of %d layers, rows of %d: %s is %v, want %v", c.typ, c.cfg.NumHiddenLayers, c.cfg.HiddenSize, p.name, got[i], want)
			}
		}
	}
	ps := parts(config(80, 256, false))
	for i, typ := range mix(ps, Q4_K_M, 80, true, false) {
		if strings.HasSuffix(ps[i].name, "attn_v.weight") && typ != gguf.Q5_K && typ != gguf.Q6_K {
			t.Errorf("70B: %s is %v", ps[i].name, typ)
		}
	}
}

func TestParseType(t *testing.T) {
	for _, typ := range Types() {
		for _, name := range []string{typ.String(), strings.ToLower(typ.String())} {
			if got, err := ParseType(name); err != nil || got != typ {
				t.Errorf("ParseType(%q) = %v, %v", name, got, err)
			}
		}
	}
	for name, want := range map[string]Type{"Q4_K": Q4_K_M, "q5_k": Q5_K_M} {
		if got, err := ParseType(name); err != nil || got != want {
			t.Errorf("ParseType(%q) = %v, %v", name, got, err)
		}
	}
	for _, name := range []string{"", "Q4", "IQ2_XS", "Q4_K_L"} {
		if _, err := ParseType(name); err == nil {
			t.Errorf("ParseType(%q): no error", name)
		}
	}
}
