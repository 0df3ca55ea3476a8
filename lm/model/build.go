package model

import (
	"fmt"

	"expo/internal/kernel"
	"expo/internal/quant"
)

// tensorNames are the names of a layout, without the final ".weight" or
// ".bias"; those of layers contain %d.
type tensorNames struct {
	tokens, norm, head, score string
	attentionNorm, mlpNorm    string
	q, k, v, o                string
	gate, up, down            string

	fused       bool // q names the one tensor of queries, keys and values
	interleaved bool // rows of q and k turn by neighbours rather than by halves
	gguf        bool // states are float32 whatever the weights are, as in llama.cpp
}

var hfNames = tensorNames{
	tokens: "model.embed_tokens", norm: "model.norm", head: "lm_head", score: "score",
	attentionNorm: "model.layers.%d.input_layernorm", mlpNorm: "model.layers.%d.post_attention_layernorm",
	q: "model.layers.%d.self_attn.q_proj", k: "model.layers.%d.self_attn.k_proj",
	v: "model.layers.%d.self_attn.v_proj", o: "model.layers.%d.self_attn.o_proj",
	gate: "model.layers.%d.mlp.gate_proj", up: "model.layers.%d.mlp.up_proj", down: "model.layers.%d.mlp.down_proj",
}

var internNames = tensorNames{
	tokens: "model.tok_embeddings", norm: "model.norm", head: "output", score: "score",
	attentionNorm: "model.layers.%d.attention_norm", mlpNorm: "model.layers.%d.ffn_norm",
	q: "model.layers.%d.attention.wqkv", o: "model.layers.%d.attention.wo",
	gate: "model.layers.%d.feed_forward.w1", up: "model.layers.%d.feed_forward.w3", down: "model.layers.%d.feed_forward.w2",
	fused: true,
}

// builder makes the structure of a model from a configuration, checking every
// shape against what is stored before anything is allocated for it.
type builder struct {
	m    *Model
	find func(string) (source, error)
	opt  LoadOptions
	err  error
}

func build(cfg *Config, names tensorNames, find func(string) (source, error), opt LoadOptions) (*Model, error) {
	m := &Model{cfg: cfg, jobs: jobsOr(opt.Jobs), noMap: opt.NoMap, round: !names.gguf}
	b := &builder{m: m, find: find, opt: opt}
	h, d := cfg.HiddenSize, cfg.HeadDim
	qRows, kvRows := cfg.NumAttentionHeads*d, cfg.NumKeyValueHeads*d

	m.tokens = b.matrix(part{name: names.tokens, rows: cfg.VocabSize, cols: h}, false)
	for i := range cfg.NumHiddenLayers {
		at := func(name string) string { return fmt.Sprintf(name, i) }
		l := layer{
			attentionNorm: b.vector(part{name: at(names.attentionNorm) + ".weight", rows: h}),
			mlpNorm:       b.vector(part{name: at(names.mlpNorm) + ".weight", rows: h}),
			o:             b.matrix(part{name: at(names.o), rows: h, cols: qRows}, cfg.OutBias),
			gate:          b.matrix(part{name: at(names.gate), rows: cfg.IntermediateSize, cols: h}, cfg.MLPBias),
			up:            b.matrix(part{name: at(names.up), rows: cfg.IntermediateSize, cols: h}, cfg.MLPBias),
			down:          b.matrix(part{name: at(names.down), rows: h, cols: cfg.IntermediateSize}, cfg.MLPBias),
		}
		var q, k, v part
		if names.fused {
			q, k, v = fusedParts(cfg, at(names.q))
		} else {
			q = part{name: at(names.q), rows: qRows, cols: h}
			k = part{name: at(names.k), rows: kvRows, cols: h}
			v = part{name: at(names.v), rows: kvRows, cols: h}
		}
		if names.interleaved {
			q.block, q.at = 1, fromInterleaved(d)
			k.block, k.at = 1, fromInterleaved(d)
		}
		l.q, l.k, l.v = b.matrix(q, cfg.QKVBias), b.matrix(k, cfg.QKVBias), b.matrix(v, cfg.QKVBias)
		m.layers = append(m.layers, l)
		if b.err != nil {
			break
		}
	}
	m.norm = b.vector(part{name: names.norm + ".weight", rows: h})
	switch {
	case cfg.NumLabels > 0:
		m.head = b.matrix(part{name: names.score, rows: cfg.NumLabels, cols: h}, false)
	case cfg.TieWordEmbeddings:
		m.head = m.tokens
	default:
		m.head = b.matrix(part{name: names.head, rows: cfg.VocabSize, cols: h}, false)
	}
	if b.err != nil {
		return nil, b.err
	}
	m.kv = cacheFormat(m)
	m.pages.size = cfg.NumHiddenLayers * cfg.NumKeyValueHeads * 2 * pageLen * d * m.kv.Bytes()
	return m, nil
}

// cacheFormat is the format of keys and values: what transformers and llama.cpp
// keep, which is F16 for quantized weights, too.
func cacheFormat(m *Model) kernel.Format {
	if m.round {
		return kernel.BF16
	}
	for _, p := range m.parts {
		if p.matrix != nil && p.matrix.f.plain != kernel.F32 {
			return kernel.F16
		}
	}
	return kernel.F32
}

// fusedParts cuts InternLM2's wqkv: for each key-value head the rows of its
// query heads, then those of the key, then those of the value.
func fusedParts(cfg *Config, name string) (q, k, v part) {
	d := cfg.HeadDim
	g := cfg.NumAttentionHeads / cfg.NumKeyValueHeads
	stored := cfg.NumKeyValueHeads * (g + 2) * d
	cut := func(heads, first int) part {
		return part{
			name: name, rows: cfg.NumKeyValueHeads * heads * d, cols: cfg.HiddenSize, stored: stored,
			block: heads * d, at: func(j int) int { return ((g+2)*j + first) * d },
		}
	}
	return cut(g, 0), cut(1, g), cut(1, g+1)
}

// fromInterleaved finds a row of rotate-half order in a tensor where the pairs
// that turn together are neighbours, as in GGUF files.
func fromInterleaved(d int) func(row int) int {
	return func(row int) int {
		h, r := row/d*d, row%d
		return h + r%(d/2)*2 + r/(d/2)
	}
}

// stored finds a part's tensor and compares shapes.
func (b *builder) stored(p *part) (source, bool) {
	if b.err != nil {
		return source{}, false
	}
	if p.stored == 0 {
		p.stored = p.rows
	}
	src, err := b.find(p.name)
	if err == nil {
		err = p.fits(src)
	}
	if err != nil {
		b.err = fmt.Errorf("%s: %w", p.name, err)
		return source{}, false
	}
	return src, true
}

func (b *builder) vector(p part) []float32 {
	p.cols, p.vector = 1, []float32{}
	if _, ok := b.stored(&p); !ok {
		return nil
	}
	p.vector = make([]float32, p.rows)
	b.m.parts = append(b.m.parts, p)
	return p.vector
}

// matrix plans a matrix, p.name being without ".weight".
func (b *builder) matrix(p part, biased bool) *matrix {
	name := p.name
	p.name += ".weight"
	w := &matrix{name: p.name, rows: p.rows, cols: p.cols}
	p.matrix = w
	src, ok := b.stored(&p)
	if !ok {
		return w
	}
	w.f = src.f
	if w.f.plain != kernel.BF16 {
		b.m.round = false
	}
	if b.opt.Quantize == Q8_0 && w.f.block == quant.None && p.cols%quant.Q8_0.BlockSize() == 0 {
		w.f = format{block: quant.Q8_0}
		b.m.round = false
	}
	b.m.parts = append(b.m.parts, p)
	if biased {
		p.name = name + ".bias"
		p.matrix = nil
		w.bias = b.vector(p)
	}
	return w
}
