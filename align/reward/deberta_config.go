package reward

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"expo/weights/checkpoint"
)

// debertaConfig is what config.json says of a DeBERTa-v2 or -v3 encoder, under
// its names.
type debertaConfig struct {
	VocabSize             int
	HiddenSize            int
	EmbeddingSize         int
	IntermediateSize      int
	NumHiddenLayers       int
	NumAttentionHeads     int
	AttentionHeadSize     int
	MaxPositionEmbeddings int
	TypeVocabSize         int
	LayerNormEps          float64
	HiddenAct             string

	RelativeAttention    bool
	MaxRelativePositions int // max_position_embeddings where it is below 1
	PositionBuckets      int // 0 or less: distances are not put into buckets
	C2P, P2C             bool
	ShareAttKey          bool
	NormRelEbd           bool
	PositionBiasedInput  bool

	ConvKernelSize int // 0: no convolution
	ConvGroups     int
	ConvAct        string

	PoolerHiddenAct string
	NumLabels       int
}

// span is the number of distances in one direction that are told apart.
func (c *debertaConfig) span() int {
	if c.PositionBuckets > 0 {
		return c.PositionBuckets
	}
	return c.MaxRelativePositions
}

// maxSpan bounds the tables of projected distances; published models have 256
// or 512.
const maxSpan = 1 << 13

// A configReader takes values from config.json and notes what is wrong.
type configReader struct {
	c      *checkpoint.Config
	faults []string
}

func (r *configReader) fault(format string, args ...any) {
	r.faults = append(r.faults, fmt.Sprintf(format, args...))
}

func (r *configReader) err() error {
	if len(r.faults) == 0 {
		return nil
	}
	return fmt.Errorf("config.json: %s", strings.Join(r.faults, "; "))
}

// number is an integer of at least least; the default is not checked.
func (r *configReader) number(key string, least, without int) int {
	v, ok := r.c.Value(key)
	if !ok || v == nil {
		return without
	}
	n, ok := r.c.Int(key)
	if !ok || n < int64(least) || n > 1<<31-1 {
		r.fault("%s is %v", key, v)
		return without
	}
	return int(n)
}

func (r *configReader) bool(key string, without bool) bool {
	v, ok := r.c.Value(key)
	if !ok || v == nil {
		return without
	}
	b, ok := r.c.Bool(key)
	if !ok {
		r.fault("%s is %v, not true or false", key, v)
	}
	return b
}

func (r *configReader) text(key, without string) string {
	v, ok := r.c.Value(key)
	if !ok || v == nil {
		return without
	}
	s, ok := r.c.String(key)
	if !ok {
		r.fault("%s is %v, not a text", key, v)
	}
	return s
}

// real is a number above 0.
func (r *configReader) real(key string, without float64) float64 {
	v, ok := r.c.Value(key)
	if !ok || v == nil {
		return without
	}
	n, ok := v.(json.Number)
	f, err := n.Float64()
	if !ok || err != nil || !(f > 0) {
		r.fault("%s is %v", key, v)
		return without
	}
	return f
}

// list is a list of texts, or one text with bars between them.
func (r *configReader) list(key string) []string {
	v, ok := r.c.Value(key)
	var l []string
	switch v := v.(type) {
	case string:
		l = strings.Split(strings.ToLower(v), "|")
	case []any:
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				r.fault("%s holds %v", key, e)
			}
			l = append(l, s)
		}
	default:
		if ok && v != nil {
			r.fault("%s is %v", key, v)
		}
	}
	for i := range l {
		l[i] = strings.TrimSpace(l[i])
	}
	return l
}

// parseDeberta reads config.json with the defaults of transformers'
// DebertaV2Config.
func parseDeberta(c *checkpoint.Config) (*debertaConfig, error) {
	r := &configReader{c: c}
	d := &debertaConfig{
		VocabSize:             r.number("vocab_size", 1, 128100),
		HiddenSize:            r.number("hidden_size", 1, 1536),
		IntermediateSize:      r.number("intermediate_size", 1, 6144),
		NumHiddenLayers:       r.number("num_hidden_layers", 1, 24),
		NumAttentionHeads:     r.number("num_attention_heads", 1, 24),
		MaxPositionEmbeddings: r.number("max_position_embeddings", 1, 512),
		TypeVocabSize:         r.number("type_vocab_size", 0, 0),
		LayerNormEps:          r.real("layer_norm_eps", 1e-7),
		HiddenAct:             r.text("hidden_act", "gelu"),
		RelativeAttention:     r.bool("relative_attention", false),
		MaxRelativePositions:  r.number("max_relative_positions", -1, -1),
		PositionBuckets:       r.number("position_buckets", -1, -1),
		ShareAttKey:           r.bool("share_att_key", false),
		PositionBiasedInput:   r.bool("position_biased_input", true),
		ConvKernelSize:        r.number("conv_kernel_size", 0, 0),
		ConvGroups:            r.number("conv_groups", 1, 1),
		ConvAct:               r.text("conv_act", "tanh"),
		PoolerHiddenAct:       r.text("pooler_hidden_act", "gelu"),
	}
	d.EmbeddingSize = r.number("embedding_size", 1, d.HiddenSize)
	types := r.list("pos_att_type")
	d.C2P, d.P2C = slices.Contains(types, "c2p"), slices.Contains(types, "p2c")
	d.NormRelEbd = slices.Contains(r.list("norm_rel_ebd"), "layer_norm")
	d.NumLabels = labels(c)
	if d.NumLabels == 0 {
		d.NumLabels = 2
	}

	if d.MaxRelativePositions < 1 {
		d.MaxRelativePositions = d.MaxPositionEmbeddings
	}
	d.AttentionHeadSize = d.HiddenSize / d.NumAttentionHeads
	if d.HiddenSize%d.NumAttentionHeads != 0 || r.number("attention_head_size", 1, d.AttentionHeadSize) != d.AttentionHeadSize {
		r.fault("hidden_size %d is not num_attention_heads %d times the size of a head", d.HiddenSize, d.NumAttentionHeads)
	}
	if d.RelativeAttention && d.span() > maxSpan {
		r.fault("positions reach %d, more than the %d that are supported", d.span(), maxSpan)
	}
	if d.PositionBuckets == 1 || d.PositionBuckets > 0 && d.MaxRelativePositions <= d.PositionBuckets/2+1 {
		r.fault("position_buckets %d do not fit max_relative_positions %d", d.PositionBuckets, d.MaxRelativePositions)
	}
	if d.ConvKernelSize > 0 && (d.ConvKernelSize%2 == 0 || d.ConvGroups != 1) {
		r.fault("conv_kernel_size %d with conv_groups %d is not supported, only odd sizes and one group", d.ConvKernelSize, d.ConvGroups)
	}
	for _, name := range []string{d.HiddenAct, d.ConvAct, d.PoolerHiddenAct} {
		if _, ok := activations(name); !ok {
			r.fault("activation %q is not supported", name)
		}
	}
	return d, r.err()
}

// labels is num_labels, or the size of id2label, by which transformers writes
// it; 0 if there is neither.
func labels(c *checkpoint.Config) int {
	if m, ok := c.Object("id2label"); ok && len(m) > 0 {
		return len(m)
	}
	if n, ok := c.Int("num_labels"); ok && n > 0 && n <= 1<<20 {
		return int(n)
	}
	return 0
}
