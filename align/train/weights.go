package train

import (
	"fmt"
	"math/rand/v2"

	"expo/lm/model"
)

// A parameter is one tensor of the network, a range of the flat array that holds
// all of them.
type parameter struct {
	name  string
	shape []int
	at, n int
	kind  kind
}

// kind says how a parameter begins and whether it decays.
type kind uint8

const (
	matrix kind = iota // N(0, initializer_range); weight decay
	bias               // 0
	gain               // of a norm: 1
)

// A layout lists the parameters of a network under the names of transformers'
// Llama, Mistral and Qwen2.
type layout struct {
	list  []parameter
	total int
}

func (l *layout) add(k kind, name string, shape ...int) {
	n := 1
	for _, d := range shape {
		n *= d
	}
	l.list = append(l.list, parameter{name, shape, l.total, n, k})
	l.total += n
}

// newLayout lays the parameters out in the order of the state dict. With
// labels > 0 the head is that of a sequence classifier.
func newLayout(cfg *model.Config, labels int) *layout {
	l := &layout{}
	h, d := cfg.HiddenSize, cfg.HeadDim
	q, kv := cfg.NumAttentionHeads*d, cfg.NumKeyValueHeads*d
	linear := func(name string, rows, cols int, biased bool) {
		l.add(matrix, name+".weight", rows, cols)
		if biased {
			l.add(bias, name+".bias", rows)
		}
	}
	l.add(matrix, "model.embed_tokens.weight", cfg.VocabSize, h)
	for i := range cfg.NumHiddenLayers {
		at := fmt.Sprintf("model.layers.%d.", i)
		linear(at+"self_attn.q_proj", q, h, cfg.QKVBias)
		linear(at+"self_attn.k_proj", kv, h, cfg.QKVBias)
		linear(at+"self_attn.v_proj", kv, h, cfg.QKVBias)
		linear(at+"self_attn.o_proj", h, q, cfg.OutBias)
		linear(at+"mlp.gate_proj", cfg.IntermediateSize, h, cfg.MLPBias)
		linear(at+"mlp.up_proj", cfg.IntermediateSize, h, cfg.MLPBias)
		linear(at+"mlp.down_proj", h, cfg.IntermediateSize, cfg.MLPBias)
		l.add(gain, at+"input_layernorm.weight", h)
		l.add(gain, at+"post_attention_layernorm.weight", h)
	}
	l.add(gain, "model.norm.weight", h)
	switch {
	case labels > 0:
		l.add(matrix, "score.weight", labels, h)
	case !cfg.TieWordEmbeddings:
		l.add(matrix, "lm_head.weight", cfg.VocabSize, h)
	}
	return l
}

// initialize draws the parameters as transformers' _init_weights does. Each has
// a generator of its own, so that one model's are a part of a larger one's.
func (l *layout) initialize(w []float32, std float64, seed uint64, only func(name string) bool) {
	for i, p := range l.list {
		if only != nil && !only(p.name) {
			continue
		}
		x := w[p.at : p.at+p.n]
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		for k := range x {
			switch p.kind {
			case matrix:
				x[k] = float32(rng.NormFloat64() * std)
			case bias:
				x[k] = 0
			case gain:
				x[k] = 1
			}
		}
	}
}

// A projection is a matrix (rows, cols) and the bias of its output, nil if there
// is none.
type projection struct {
	w, bias    []float32
	rows, cols int
}

// tensors is the flat array of weights, or of their gradients, by role.
type tensors struct {
	tokens []float32 // (vocab_size, hidden_size)
	layers []layerTensors
	norm   []float32
	head   projection // the embedding's memory if tied
}

type layerTensors struct {
	attentionNorm, mlpNorm     []float32
	q, k, v, o, gate, up, down projection
}

// view finds the roles in x, which is laid out as l says.
func (l *layout) view(cfg *model.Config, labels int, x []float32) *tensors {
	i := 0
	vector := func() []float32 {
		p := l.list[i]
		i++
		return x[p.at : p.at+p.n : p.at+p.n]
	}
	matrix := func(biased bool) projection {
		s := l.list[i].shape
		p := projection{w: vector(), rows: s[0], cols: s[1]}
		if biased {
			p.bias = vector()
		}
		return p
	}
	t := &tensors{tokens: vector()}
	for range cfg.NumHiddenLayers {
		t.layers = append(t.layers, layerTensors{
			q: matrix(cfg.QKVBias), k: matrix(cfg.QKVBias), v: matrix(cfg.QKVBias), o: matrix(cfg.OutBias),
			gate: matrix(cfg.MLPBias), up: matrix(cfg.MLPBias), down: matrix(cfg.MLPBias),
			attentionNorm: vector(), mlpNorm: vector(),
		})
	}
	t.norm = vector()
	if labels == 0 && cfg.TieWordEmbeddings {
		t.head = projection{w: t.tokens, rows: cfg.VocabSize, cols: cfg.HiddenSize}
	} else {
		t.head = matrix(false)
	}
	return t
}
