package export

import (
	"errors"
	"fmt"
	"math"

	"expo/lm/model"
	"expo/weights/checkpoint"
	"expo/weights/tensor"
)

// A role is what a tensor is for, as far as its type depends on it.
type role uint8

const (
	roleOther role = iota
	roleTokens
	roleHead
	roleValue
	roleDown
)

// A part is one tensor of the file and where its rows come from.
type part struct {
	name       string
	role       role
	rows, cols int  // cols is the length of a vector, which has one row
	vector     bool // of one dimension in the file

	// source is the tensor of the checkpoint, of stored rows. The rows of the
	// file come in units of so many, from row at(u) of the source on; at is nil
	// where they stand in order.
	source string
	stored int
	unit   int
	at     func(u int) int

	// turn is head_dim where rows of a unit change from rotate-half order to that
	// of neighbours, see [part.arrange]; otherwise 0.
	turn int

	// values are those of a tensor that the checkpoint does not have.
	values []float32
}

func (p *part) shape() []int {
	if p.vector {
		return []int{p.cols}
	}
	return []int{p.rows, p.cols}
}

// layout are the names of a model's tensors, without ".weight".
type layout struct {
	tokens, norm, head     string
	attentionNorm, mlpNorm string
	q, k, v, o             string
	gate, up, down         string
	fused                  bool // q is queries, keys and values
}

var llamaLayout = layout{
	tokens: "model.embed_tokens", norm: "model.norm", head: "lm_head",
	attentionNorm: "input_layernorm", mlpNorm: "post_attention_layernorm",
	q: "self_attn.q_proj", k: "self_attn.k_proj", v: "self_attn.v_proj", o: "self_attn.o_proj",
	gate: "mlp.gate_proj", up: "mlp.up_proj", down: "mlp.down_proj",
}

var internLayout = layout{
	tokens: "model.tok_embeddings", norm: "model.norm", head: "output",
	attentionNorm: "attention_norm", mlpNorm: "ffn_norm",
	q: "attention.wqkv", o: "attention.wo",
	gate: "feed_forward.w1", up: "feed_forward.w3", down: "feed_forward.w2",
	fused: true,
}

// architectures are the values of general.architecture by model_type.
var architectures = map[string]string{"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "internlm2": "internlm2"}

// parts are the tensors of the file, in its order.
func parts(cfg *model.Config) []part {
	names := llamaLayout
	if cfg.ModelType == "internlm2" {
		names = internLayout
	}
	h, d := cfg.HiddenSize, cfg.HeadDim
	turn := d
	if cfg.ModelType == "qwen2" {
		turn = 0 // llama.cpp turns halves there
	}
	qRows, kvRows := cfg.NumAttentionHeads*d, cfg.NumKeyValueHeads*d
	group := cfg.NumAttentionHeads / cfg.NumKeyValueHeads

	var ps []part
	add := func(p part, biased bool) {
		name, source := p.name, p.source
		p.name, p.source = name+".weight", source+".weight"
		if p.stored == 0 {
			p.stored = p.rows
		}
		ps = append(ps, p)
		if biased {
			p.name, p.source, p.role = name+".bias", source+".bias", roleOther
			p.vector, p.cols = true, p.rows
			ps = append(ps, p)
		}
	}
	vector := func(name, source string) {
		add(part{name: name, source: source, vector: true, rows: h, cols: h}, false)
	}
	if f := frequencies(cfg); f != nil {
		ps = append(ps, part{name: "rope_freqs.weight", vector: true, rows: len(f), cols: len(f), values: f})
	}
	add(part{name: "token_embd", role: roleTokens, source: names.tokens, rows: cfg.VocabSize, cols: h}, false)
	for i := range cfg.NumHiddenLayers {
		to := func(name string) string { return fmt.Sprintf("blk.%d.%s", i, name) }
		from := func(name string) string { return fmt.Sprintf("model.layers.%d.%s", i, name) }
		vector(to("attn_norm"), from(names.attentionNorm))
		q := part{name: to("attn_q"), source: from(names.q), rows: qRows, cols: h, unit: d, turn: turn}
		k := part{name: to("attn_k"), source: from(names.k), rows: kvRows, cols: h, unit: d, turn: turn}
		v := part{name: to("attn_v"), role: roleValue, source: from(names.v), rows: kvRows, cols: h}
		if names.fused {
			// For each key-value head its query heads, then the key, then the value.
			q.stored = cfg.NumKeyValueHeads * (group + 2) * d
			q.at = func(u int) int { return (u/group*(group+2) + u%group) * d }
			k.source, k.stored = q.source, q.stored
			k.at = func(u int) int { return (u*(group+2) + group) * d }
			v.source, v.stored, v.unit = q.source, q.stored, d
			v.at = func(u int) int { return (u*(group+2) + group + 1) * d }
		}
		add(q, cfg.QKVBias)
		add(k, cfg.QKVBias)
		add(v, cfg.QKVBias)
		add(part{name: to("attn_output"), source: from(names.o), rows: h, cols: qRows}, cfg.OutBias)
		vector(to("ffn_norm"), from(names.mlpNorm))
		add(part{name: to("ffn_gate"), source: from(names.gate), rows: cfg.IntermediateSize, cols: h}, cfg.MLPBias)
		add(part{name: to("ffn_up"), source: from(names.up), rows: cfg.IntermediateSize, cols: h}, cfg.MLPBias)
		add(part{name: to("ffn_down"), role: roleDown, source: from(names.down), rows: h, cols: cfg.IntermediateSize}, cfg.MLPBias)
	}
	vector("output_norm", names.norm)
	if !cfg.TieWordEmbeddings {
		add(part{name: "output", role: roleHead, source: names.head, rows: cfg.VocabSize, cols: h}, false)
	}
	return ps
}

// frequencies are what Llama 3's scaling divides the frequencies of rope by, one
// for each pair; nil for other kinds of scaling.
func frequencies(cfg *model.Config) []float32 {
	r := cfg.Rope
	if r.Type != "llama3" {
		return nil
	}
	out := make([]float32, cfg.HeadDim/2)
	original := float64(r.OriginalMaxPositionEmbeddings)
	for i := range out {
		wavelength := 2 * math.Pi * math.Pow(r.Theta, float64(2*i)/float64(cfg.HeadDim))
		switch {
		case wavelength < original/r.HighFreqFactor:
			out[i] = 1
		case wavelength > original/r.LowFreqFactor:
			out[i] = float32(r.Factor)
		default:
			s := (original/wavelength - r.LowFreqFactor) / (r.HighFreqFactor - r.LowFreqFactor)
			out[i] = float32(1 / ((1-s)/r.Factor + s))
		}
	}
	return out
}

// check compares the parts with what a checkpoint has and gives all that is wrong,
// and the tensors that no part uses.
func check(ps []part, c *checkpoint.Checkpoint) (unused []string, err error) {
	used := map[string]bool{}
	var errs []error
	for _, p := range ps {
		if p.values != nil {
			continue
		}
		used[p.source] = true
		t, ok := c.Tensor(p.source)
		want := []int{p.stored, p.cols}
		if p.vector {
			want = want[:1]
		}
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("%s is missing", p.source))
		case !t.DType.Float():
			errs = append(errs, fmt.Errorf("%s is %v, which has no weights", p.source, t.DType))
		case fmt.Sprint(t.Shape) != fmt.Sprint(want):
			errs = append(errs, fmt.Errorf("%s has shape %v, config.json wants %v", p.source, t.Shape, want))
		}
	}
	for t := range c.Tensors() {
		if !used[t.Name] {
			unused = append(unused, t.Name)
		}
	}
	return unused, errors.Join(errs...)
}

// read fills x with whole units of p from a row of the file on, in the order of
// the file. buf is as long as x.
func (p *part) read(c *checkpoint.Checkpoint, x, buf []float32, row int) error {
	if p.values != nil {
		copy(x, p.values[row:])
		return nil
	}
	t, ok := c.Tensor(p.source)
	if !ok {
		return fmt.Errorf("export: %s: %s is missing", c.Name(), p.source)
	}
	width := p.width()
	dst := x
	if p.turn > 0 {
		dst = buf[:len(x)]
	}
	if p.at == nil {
		if err := readFloat32(t, dst, int64(row)*int64(width)); err != nil {
			return err
		}
	} else {
		for n := p.unit * width; len(dst) > 0; row += p.unit {
			if err := readFloat32(t, dst[:n], int64(p.at(row/p.unit))*int64(width)); err != nil {
				return err
			}
			dst = dst[n:]
		}
	}
	if p.turn > 0 {
		p.arrange(x, buf[:len(x)])
	}
	return nil
}

func readFloat32(t tensor.Tensor, dst []float32, first int64) error {
	if err := t.ReadFloat32(dst, first); err != nil {
		return fmt.Errorf("export: reading %s: %w", t.Name, err)
	}
	return nil
}

// width is the number of elements of a row of the source: 1 in a vector.
func (p *part) width() int {
	if p.vector {
		return 1
	}
	return p.cols
}

// arrange puts the rows of heads into the order in which pairs that turn together
// are neighbours: row 2i+s of a head is row s·d/2 + i of the source.
func (p *part) arrange(dst, src []float32) {
	d, w := p.turn, p.width()
	for h := 0; h < len(src); h += d * w {
		for r := range d {
			from := h + (r%2*(d/2)+r/2)*w
			copy(dst[h+r*w:h+(r+1)*w], src[from:from+w])
		}
	}
}
