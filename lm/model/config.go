package model

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"expo/weights/checkpoint"
)

// Config is what a model's config.json says, under its names, with the
// defaults of its model type filled in.
type Config struct {
	ModelType             string // "llama", "mistral", "qwen2", "internlm2"
	HiddenSize            int
	IntermediateSize      int
	NumHiddenLayers       int
	NumAttentionHeads     int
	NumKeyValueHeads      int
	HeadDim               int
	VocabSize             int
	MaxPositionEmbeddings int
	RMSNormEps            float64
	Rope                  Rope

	// SlidingWindow is how many keys a query of a sliding layer sees, itself
	// included; 0 where no layer slides.
	SlidingWindow int
	// Sliding tells for each layer whether it slides; nil if none does.
	Sliding []bool

	TieWordEmbeddings bool
	QKVBias           bool // query, key and value projections have biases
	OutBias           bool // the output projection of attention has one
	MLPBias           bool

	// BOSTokenID and PadTokenID are -1 where there is none. EOSTokenIDs may be
	// empty.
	BOSTokenID  int
	EOSTokenIDs []int
	PadTokenID  int

	// NumLabels is the width of a sequence classifier's head, 0 for a language
	// model.
	NumLabels int
}

// UnsupportedError is a model that this package cannot run.
type UnsupportedError struct {
	Key, Value string // of config.json, or of a GGUF file
	Supported  []string
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("model: %s %q is not supported; supported are %s", e.Key, e.Value, strings.Join(e.Supported, ", "))
}

// ModelTypes lists the values of model_type that can be run.
func ModelTypes() []string { return []string{"llama", "mistral", "qwen2", "internlm2"} }

// Integers of config.json are counts, and their products must not overflow.
const maxCount = 1 << 28

// ParseConfig reads the keys of transformers 4 and 5 alike. Shapes are taken
// on trust here; Load compares them with the tensors.
func ParseConfig(c *checkpoint.Config) (*Config, error) {
	if !c.Exists() {
		return nil, fmt.Errorf("model: there is no config.json")
	}
	p := &configParser{c: c}
	cfg := &Config{}
	cfg.ModelType, _ = c.String("model_type")
	if !slices.Contains(ModelTypes(), cfg.ModelType) {
		return nil, &UnsupportedError{"model_type", cfg.ModelType, ModelTypes()}
	}
	if act, ok := c.String("hidden_act"); ok && act != "silu" && act != "swish" {
		return nil, &UnsupportedError{"hidden_act", act, []string{"silu"}}
	}
	if err := cfg.parseArchitecture(c); err != nil {
		return nil, err
	}

	cfg.HiddenSize = p.count("hidden_size", 0)
	cfg.IntermediateSize = p.count("intermediate_size", 0)
	cfg.NumHiddenLayers = p.count("num_hidden_layers", 0)
	cfg.NumAttentionHeads = p.count("num_attention_heads", 0)
	kv := cfg.NumAttentionHeads
	if cfg.ModelType == "mistral" {
		kv = 8
	}
	cfg.NumKeyValueHeads = p.count("num_key_value_heads", kv)
	cfg.VocabSize = p.count("vocab_size", 0)
	cfg.MaxPositionEmbeddings = p.count("max_position_embeddings", defaultPositions[cfg.ModelType])
	cfg.RMSNormEps = p.float("rms_norm_eps", 1e-6)
	if p.err != nil {
		return nil, p.err
	}
	if cfg.ModelType != "internlm2" {
		cfg.HeadDim = p.count("head_dim", max(1, cfg.HiddenSize/cfg.NumAttentionHeads))
	} else {
		cfg.HeadDim = max(1, cfg.HiddenSize/cfg.NumAttentionHeads)
	}

	cfg.TieWordEmbeddings = p.bool("tie_word_embeddings", false)
	switch cfg.ModelType {
	case "llama":
		cfg.QKVBias = p.bool("attention_bias", false)
		cfg.OutBias = cfg.QKVBias
		cfg.MLPBias = p.bool("mlp_bias", false)
	case "qwen2":
		cfg.QKVBias = true
	case "internlm2":
		cfg.QKVBias = p.bool("bias", false)
		cfg.OutBias = cfg.QKVBias
	}
	p.sliding(cfg)
	p.tokens(cfg)
	cfg.Rope = p.rope(cfg)
	if p.err != nil {
		return nil, p.err
	}
	return cfg, cfg.check()
}

var defaultPositions = map[string]int{"llama": 2048, "mistral": 4096 * 32, "qwen2": 32768, "internlm2": 2048}

// parseArchitecture finds out what head the model has. A config without
// architectures is a language model's.
func (cfg *Config) parseArchitecture(c *checkpoint.Config) error {
	v, ok := c.Value("architectures")
	if !ok {
		return nil
	}
	list, _ := v.([]any)
	var name string
	if len(list) > 0 {
		name, _ = list[0].(string)
	}
	switch {
	case name == "" || strings.HasSuffix(name, "ForCausalLM"):
		return nil
	case strings.HasSuffix(name, "ForSequenceClassification"):
		cfg.NumLabels = labels(c)
		return nil
	}
	return &UnsupportedError{"architecture", name, []string{"…ForCausalLM", "…ForSequenceClassification"}}
}

// labels counts a classifier's outputs: files carry id2label rather than
// num_labels, whose default is 2.
func labels(c *checkpoint.Config) int {
	if n, ok := c.Int("num_labels"); ok && n > 0 && n <= maxCount {
		return int(n)
	}
	if m, ok := c.Object("id2label"); ok && len(m) > 0 {
		return len(m)
	}
	return 2
}

// check refuses what no model can be.
func (cfg *Config) check() error {
	switch {
	case cfg.NumKeyValueHeads > cfg.NumAttentionHeads || cfg.NumAttentionHeads%cfg.NumKeyValueHeads != 0:
		return fmt.Errorf("model: num_attention_heads %d is not a multiple of num_key_value_heads %d", cfg.NumAttentionHeads, cfg.NumKeyValueHeads)
	case cfg.HeadDim%2 != 0:
		return fmt.Errorf("model: head_dim %d is odd; rope turns pairs", cfg.HeadDim)
	case !(cfg.RMSNormEps >= 0) || math.IsInf(cfg.RMSNormEps, 0):
		return fmt.Errorf("model: rms_norm_eps %v is not a number ≥ 0", cfg.RMSNormEps)
	case cfg.NumAttentionHeads > maxCount/cfg.HeadDim:
		return fmt.Errorf("model: %d heads of head_dim %d are too many", cfg.NumAttentionHeads, cfg.HeadDim)
	}
	return cfg.Rope.check(cfg.HeadDim)
}

// window is how many keys a query of a layer sees, 0 for all.
func (cfg *Config) window(layer int) int {
	if cfg.Sliding != nil && cfg.Sliding[layer] {
		return cfg.SlidingWindow
	}
	return 0
}

// configParser keeps the first error.
type configParser struct {
	c   *checkpoint.Config
	err error
}

func (p *configParser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("model: config.json: "+format, args...)
	}
}

// count is a positive integer; def 0 makes the key required.
func (p *configParser) count(key string, def int) int {
	if _, ok := p.c.Value(key); !ok {
		if def == 0 {
			p.fail("%s is missing", key)
			return 1
		}
		return def
	}
	n, ok := p.c.Int(key)
	if !ok || n < 1 || n > maxCount {
		v, _ := p.c.Value(key)
		p.fail("%s is %s, want a whole number from 1 to %d", key, show(v), maxCount)
		return 1
	}
	return int(n)
}

func (p *configParser) float(key string, def float64) float64 {
	v, ok := p.c.Value(key)
	if !ok {
		return def
	}
	f, ok := number(v)
	if !ok {
		p.fail("%s is %s, want a number", key, show(v))
	}
	return f
}

func (p *configParser) bool(key string, def bool) bool {
	v, ok := p.c.Value(key)
	if !ok {
		return def
	}
	b, ok := v.(bool)
	if !ok {
		p.fail("%s is %s, want true or false", key, show(v))
	}
	return b
}

func number(v any) (float64, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	f, err := n.Float64()
	return f, err == nil
}

// show keeps a foreign value short in an error line.
func show(v any) string {
	s := fmt.Sprintf("%q", fmt.Sprint(v))
	if len(s) > 60 {
		s = s[:57] + "…\""
	}
	return s
}

// sliding fills SlidingWindow and Sliding. Mistral's window is 4096 where the
// key is absent and none where it is null. Qwen2 slides in the layers that
// layer_types names, or from max_window_layers on, if use_sliding_window says
// so; a width beside use_sliding_window false means nothing.
func (p *configParser) sliding(cfg *Config) {
	raw, present := p.field("sliding_window")
	width := 0
	if raw != nil {
		n, ok := number(raw)
		if !ok || n != math.Trunc(n) || n < 1 || n > 1<<52 {
			p.fail("sliding_window is %s, want a whole number above 0 or null", show(raw))
			return
		}
		width = int(n)
	}
	switch cfg.ModelType {
	case "mistral":
		if !present {
			width = 4096
		}
		cfg.slide(width, func(int) bool { return true })
	case "qwen2":
		if !p.bool("use_sliding_window", false) {
			return
		}
		if !present {
			width = 4096
		}
		if v, ok := p.c.Value("layer_types"); ok {
			list, ok := v.([]any)
			if !ok || len(list) != cfg.NumHiddenLayers {
				p.fail("layer_types must name the kind of each of the %d layers", cfg.NumHiddenLayers)
				return
			}
			for i, kind := range list {
				if kind != "full_attention" && kind != "sliding_attention" {
					p.fail("layer_types of layer %d is %s, want full_attention or sliding_attention", i, show(kind))
					return
				}
			}
			cfg.slide(width, func(i int) bool { return list[i] == "sliding_attention" })
			return
		}
		first := 28
		if v, ok := p.c.Value("max_window_layers"); ok {
			n, ok := p.c.Int("max_window_layers")
			if !ok || n < 0 || n > maxCount {
				p.fail("max_window_layers is %s, want a number of layers", show(v))
			}
			first = int(n)
		}
		cfg.slide(width, func(i int) bool { return i >= first })
	}
}

func (cfg *Config) slide(width int, slides func(layer int) bool) {
	if width == 0 {
		return
	}
	kinds := make([]bool, min(cfg.NumHiddenLayers, maxLayers))
	any := false
	for i := range kinds {
		kinds[i] = slides(i)
		any = any || kinds[i]
	}
	if any {
		cfg.SlidingWindow, cfg.Sliding = width, kinds
	}
}

// maxLayers bounds what a config alone can make us allocate.
const maxLayers = 1 << 16

// field is a key at the top that may be null.
func (p *configParser) field(key string) (v any, present bool) {
	v, present = p.c.Fields()[key]
	return v, present
}

func (p *configParser) tokens(cfg *Config) {
	one := func(key string, def int) int {
		v, present := p.field(key)
		if !present {
			return def
		}
		if v == nil {
			return -1
		}
		n, ok := number(v)
		if !ok || n != math.Trunc(n) || math.Abs(n) > maxCount {
			p.fail("%s is %s, want a token id", key, show(v))
			return -1
		}
		return max(int(n), -1)
	}
	bos, eos := 1, 2
	if cfg.ModelType == "qwen2" {
		bos, eos = -1, -1
	}
	cfg.BOSTokenID = one("bos_token_id", bos)
	pad := -1
	if cfg.ModelType == "internlm2" {
		pad = 2
	}
	cfg.PadTokenID = one("pad_token_id", pad)
	if v, _ := p.field("eos_token_id"); v != nil {
		if list, ok := v.([]any); ok {
			for _, e := range list {
				n, ok := number(e)
				if !ok || n != math.Trunc(n) || n < 0 || n > maxCount {
					p.fail("eos_token_id holds %s, want token ids", show(e))
					return
				}
				cfg.EOSTokenIDs = append(cfg.EOSTokenIDs, int(n))
			}
			return
		}
	}
	if id := one("eos_token_id", eos); id >= 0 {
		cfg.EOSTokenIDs = []int{id}
	}
}
