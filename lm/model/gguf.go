package model

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"expo/internal/kernel"
	"expo/internal/quant"
	"expo/weights/gguf"
	"expo/weights/tensor"
)

var ggufNames = tensorNames{
	tokens: "token_embd", norm: "output_norm", head: "output", score: "cls.output",
	attentionNorm: "blk.%d.attn_norm", mlpNorm: "blk.%d.ffn_norm",
	q: "blk.%d.attn_q", k: "blk.%d.attn_k", v: "blk.%d.attn_v", o: "blk.%d.attn_output",
	gate: "blk.%d.ffn_gate", up: "blk.%d.ffn_up", down: "blk.%d.ffn_down",
	gguf: true,
}

var ggufArchitectures = []string{"llama", "qwen2", "internlm2"}

// blockFormats are the quantized types whose products can be computed.
var blockFormats = map[gguf.Type]quant.Format{
	gguf.Q4_0: quant.Q4_0, gguf.Q4_1: quant.Q4_1, gguf.Q5_0: quant.Q5_0, gguf.Q5_1: quant.Q5_1,
	gguf.Q8_0: quant.Q8_0, gguf.Q4_K: quant.Q4_K, gguf.Q5_K: quant.Q5_K, gguf.Q6_K: quant.Q6_K,
}

// LoadGGUF reads a model of one GGUF file into memory, its weights as they are
// stored. Queries and keys of the architectures whose rope turns neighbours
// have their rows put into the order of halves.
func LoadGGUF(ctx context.Context, r *gguf.Reader, opt LoadOptions) (*Model, error) {
	find := func(name string) (source, error) {
		t, ok := r.Tensor(name)
		if !ok {
			return source{}, errors.New("is missing")
		}
		if p, ok := t.Plain(); ok {
			switch f := p.DType.Format(); f {
			case kernel.BF16, kernel.F16, kernel.F32:
				return source{p, format{plain: f}}, nil
			}
		}
		if f, ok := blockFormats[t.Type]; ok {
			return source{tensor.Tensor{Name: t.Name, Shape: t.Shape, Data: t.Data}, format{block: f}}, nil
		}
		return source{}, fmt.Errorf("is %v, which cannot be computed with; the types that can are F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K and Q6_K", t.Type)
	}
	cfg, err := configOfGGUF(r, find)
	if err != nil {
		return nil, err
	}
	names := ggufNames
	names.interleaved = cfg.ModelType != "qwen2"
	m, err := load(ctx, cfg, names, find, opt)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	return m, nil
}

// configOfGGUF is what a file's metadata says, under config.json's names.
// Biases and a tied head are told by which tensors there are.
func configOfGGUF(r *gguf.Reader, find func(string) (source, error)) (*Config, error) {
	md := r.Metadata()
	arch, _ := md.String("general.architecture")
	if !slices.Contains(ggufArchitectures, arch) {
		return nil, &UnsupportedError{"general.architecture", arch, ggufArchitectures}
	}
	p := &metadataParser{md: md, arch: arch}
	tokens, ok := r.Tensor(ggufNames.tokens + ".weight")
	if !ok || len(tokens.Shape) != 2 {
		return nil, fmt.Errorf("model: %s.weight is missing or no matrix", ggufNames.tokens)
	}
	has := func(name string) bool { _, ok := r.Tensor(name); return ok }
	cfg := &Config{
		ModelType:             arch,
		HiddenSize:            p.count("embedding_length", 0),
		IntermediateSize:      p.count("feed_forward_length", 0),
		NumHiddenLayers:       p.count("block_count", 0),
		NumAttentionHeads:     p.count("attention.head_count", 0),
		VocabSize:             tokens.Shape[0],
		MaxPositionEmbeddings: p.count("context_length", 0),
		RMSNormEps:            p.float("attention.layer_norm_rms_epsilon", 1e-6),
		TieWordEmbeddings:     !has("output.weight"),
		QKVBias:               has("blk.0.attn_q.bias"),
		OutBias:               has("blk.0.attn_output.bias"),
		MLPBias:               has("blk.0.ffn_gate.bias"),
		BOSTokenID:            p.token("bos_token_id"),
		PadTokenID:            p.token("padding_token_id"),
	}
	cfg.NumKeyValueHeads = p.count("attention.head_count_kv", cfg.NumAttentionHeads)
	cfg.HeadDim = p.count("attention.key_length", max(1, cfg.HiddenSize/cfg.NumAttentionHeads))
	for _, key := range []string{"eos_token_id", "eot_token_id", "eom_token_id"} {
		if id := p.token(key); id >= 0 && !slices.Contains(cfg.EOSTokenIDs, id) {
			cfg.EOSTokenIDs = append(cfg.EOSTokenIDs, id)
		}
	}
	if n := p.count("attention.value_length", cfg.HeadDim); n != cfg.HeadDim {
		p.fail("attention.value_length is %d and key_length %d; they must be equal", n, cfg.HeadDim)
	}
	if n := p.count("rope.dimension_count", cfg.HeadDim); n != cfg.HeadDim {
		p.fail("rope.dimension_count is %d, but a head has %d", n, cfg.HeadDim)
	}
	if p.err == nil && (cfg.NumHiddenLayers > r.Len() || cfg.NumHiddenLayers > maxLayers) {
		p.fail("block_count is %d, but there are %d tensors", cfg.NumHiddenLayers, r.Len())
	}
	if arch == "llama" {
		if w, ok := md.Int(arch + ".attention.sliding_window"); ok && w > 0 && p.err == nil {
			cfg.slide(int(w), func(int) bool { return true })
		}
	}
	cfg.Rope = p.rope(cfg)
	if p.err != nil {
		return nil, p.err
	}
	if src, err := find("rope_freqs.weight"); err == nil {
		if err := cfg.divisors(src); err != nil {
			return nil, err
		}
	}
	return cfg, cfg.check()
}

// divisors reads llama3's scaling as files store it.
func (cfg *Config) divisors(src source) error {
	if src.rows() != cfg.HeadDim/2 || src.cols() != 1 || src.f.plain != kernel.F32 {
		return fmt.Errorf("model: rope_freqs.weight has shape %v, want F32 [%d]", src.tensor.Shape, cfg.HeadDim/2)
	}
	d := make([]float32, cfg.HeadDim/2)
	if err := src.tensor.ReadFloat32(d, 0); err != nil {
		return fmt.Errorf("model: %w", err)
	}
	cfg.Rope.Divisors = d
	return nil
}

// metadataParser keeps the first error.
type metadataParser struct {
	md   *gguf.Metadata
	arch string
	err  error
}

func (p *metadataParser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("model: GGUF metadata: "+format, args...)
	}
}

// count is a positive integer of the architecture; def 0 makes it required.
func (p *metadataParser) count(key string, def int) int {
	key = p.arch + "." + key
	v := p.md.Value(key)
	if v == nil && def > 0 {
		return def
	}
	n, ok := p.md.Int(key)
	switch {
	case v == nil:
		p.fail("%s is missing", key)
		return 1
	case !ok || n < 1 || n > maxCount:
		p.fail("%s is %s, want a whole number from 1 to %d", key, show(v), maxCount)
		return 1
	}
	return int(n)
}

func (p *metadataParser) float(key string, def float64) float64 {
	key = p.arch + "." + key
	v := p.md.Value(key)
	if v == nil {
		return def
	}
	f, ok := p.md.Float(key)
	if !ok || math.IsNaN(f) || math.IsInf(f, 0) {
		p.fail("%s is %s, want a number", key, show(v))
		return def
	}
	return f
}

// token is a token's id, -1 if there is none.
func (p *metadataParser) token(key string) int {
	n, ok := p.md.Int("tokenizer.ggml." + key)
	if !ok || n < 0 || n > maxCount {
		return -1
	}
	return int(n)
}

func (p *metadataParser) rope(cfg *Config) Rope {
	r := Rope{Type: "default", Factor: 1, Theta: p.float("rope.freq_base", 1e4)}
	kind, _ := p.md.String(p.arch + ".rope.scaling.type")
	factor := p.float("rope.scaling.factor", 0)
	if factor == 0 {
		// The older key, which has no type beside it.
		if factor = p.float("rope.scale_linear", 0); factor != 0 && kind == "" {
			kind = "linear"
		}
	}
	switch kind {
	case "", "none":
		return r
	case "linear", "yarn":
	default:
		if p.err == nil {
			p.err = &UnsupportedError{p.arch + ".rope.scaling.type", kind, []string{"none", "linear", "yarn"}}
		}
		return r
	}
	if factor <= 0 {
		p.fail("rope scaling %s needs a factor above 0", kind)
		return r
	}
	r.Type, r.Factor = kind, factor
	if kind == "yarn" {
		r.OriginalMaxPositionEmbeddings = p.count("rope.scaling.original_context_length", cfg.MaxPositionEmbeddings)
		r.BetaFast, r.BetaSlow = p.float("rope.scaling.yarn_beta_fast", 32), p.float("rope.scaling.yarn_beta_slow", 1)
		r.Truncate = true
		r.AttentionFactor = p.float("rope.scaling.attn_factor", 1) * yarnFactor(factor, 0, 0, 0)
	}
	return r
}
