package export

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strings"

	"expo/lm/model"
	"expo/weights/gguf"
)

// A BaseModel is a model that the exported one was made of.
type BaseModel struct {
	Name     string // needed
	Repo     string // owner/name on the Hugging Face Hub, or ""
	Revision string
}

// The keys of our own. [Write] fills in the effective α when it is known.
const (
	alphaKey     = "general.expo.alpha"
	effectiveKey = "general.expo.effective_alpha"
)

// metadata are all pairs of a file but those of the vocabulary.
func metadata(cfg *model.Config, f File, opt Options, parameters int64, generation map[string]any) []gguf.Pair {
	var ps []gguf.Pair
	add := func(key string, v any) { ps = append(ps, gguf.Pair{Key: key, Value: v}) }
	arch := architectures[cfg.ModelType]
	add("general.architecture", arch)
	add("general.type", "model")
	add("general.name", opt.name(f))
	add("general.size_label", sizeLabel(parameters))
	if opt.License != "" {
		add("general.license", opt.License)
	}
	if f.Alpha != nil {
		add("general.description", fmt.Sprintf("Extrapolated beyond preference training: aligned + %v (aligned - SFT), arXiv 2404.16792", *f.Alpha))
		add(alphaKey, *f.Alpha)
	}
	if opt.Aligned != nil {
		add(effectiveKey, float64(0))
	}
	if len(opt.BaseModels) > 0 {
		add("general.base_model.count", uint32(len(opt.BaseModels)))
		for i, b := range opt.BaseModels {
			key := fmt.Sprintf("general.base_model.%d.", i)
			add(key+"name", b.Name)
			if b.Revision != "" {
				add(key+"version", b.Revision)
			}
			if owner, _, ok := strings.Cut(b.Repo, "/"); ok {
				add(key+"organization", owner)
				add(key+"repo_url", "https://huggingface.co/"+b.Repo)
			}
		}
	}
	for _, s := range []string{"temperature", "top_k", "top_p", "min_p"} {
		n, ok := generation[s].(json.Number)
		if sampled, set := generation["do_sample"].(bool); !ok || set && !sampled {
			continue
		}
		if k, err := n.Int64(); s == "top_k" && err == nil {
			add("general.sampling.top_k", int32(k))
		} else if x, err := n.Float64(); s != "top_k" && err == nil {
			add("general.sampling."+strings.TrimSuffix(s, "erature"), float32(x))
		}
	}

	key := func(name string) string { return arch + "." + name }
	add(key("block_count"), uint32(cfg.NumHiddenLayers))
	add(key("context_length"), uint32(cfg.MaxPositionEmbeddings))
	add(key("embedding_length"), uint32(cfg.HiddenSize))
	add(key("feed_forward_length"), uint32(cfg.IntermediateSize))
	add(key("vocab_size"), uint32(cfg.VocabSize))
	add(key("attention.head_count"), uint32(cfg.NumAttentionHeads))
	add(key("attention.head_count_kv"), uint32(cfg.NumKeyValueHeads))
	add(key("attention.key_length"), uint32(cfg.HeadDim))
	add(key("attention.value_length"), uint32(cfg.HeadDim))
	add(key("attention.layer_norm_rms_epsilon"), float32(cfg.RMSNormEps))
	if cfg.SlidingWindow > 0 && arch == "llama" {
		add(key("attention.sliding_window"), uint32(cfg.SlidingWindow))
	}
	add(key("rope.dimension_count"), uint32(cfg.HeadDim))
	add(key("rope.freq_base"), float32(cfg.Rope.Theta))
	switch r := cfg.Rope; r.Type {
	case "linear":
		add(key("rope.scaling.type"), "linear")
		add(key("rope.scaling.factor"), float32(r.Factor))
	case "yarn":
		add(key("rope.scaling.type"), "yarn")
		add(key("rope.scaling.factor"), float32(r.Factor))
		add(key("rope.scaling.original_context_length"), uint32(r.OriginalMaxPositionEmbeddings))
		add(key("rope.scaling.yarn_beta_fast"), float32(r.BetaFast))
		add(key("rope.scaling.yarn_beta_slow"), float32(r.BetaSlow))
		// Readers multiply by what the factor makes by default.
		add(key("rope.scaling.attn_factor"), float32(r.AttentionFactor/(0.1*math.Log(max(r.Factor, 1))+1)))
	}
	if f.Type.quantized() {
		add("general.quantization_version", uint32(2))
	}
	add("general.file_type", types[f.Type].fileType)
	return ps
}

// templates are the pairs of the chat templates by name, "default" being the one
// that is used where nothing else is asked for.
func templates(all map[string]string) []gguf.Pair {
	var ps []gguf.Pair
	var names []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if name == "default" {
			ps = append(ps, gguf.Pair{Key: "tokenizer.chat_template", Value: all[name]})
			continue
		}
		names = append(names, name)
		ps = append(ps, gguf.Pair{Key: "tokenizer.chat_template." + name, Value: all[name]})
	}
	if names != nil {
		ps = append(ps, gguf.Pair{Key: "tokenizer.chat_templates", Value: names})
	}
	return ps
}

// limits says what of the configuration the architecture cannot express.
func limits(cfg *model.Config) []string {
	var notes []string
	if cfg.Rope.Type == "dynamic" {
		notes = append(notes, fmt.Sprintf("rope scaling \"dynamic\" has no counterpart: use the file up to %d tokens", cfg.MaxPositionEmbeddings))
	}
	if cfg.SlidingWindow > 0 && cfg.SlidingWindow < cfg.MaxPositionEmbeddings {
		notes = append(notes, fmt.Sprintf("llama.cpp attends to all tokens where this model sees %d: beyond that answers will differ", cfg.SlidingWindow))
	}
	return notes
}

// generationConfig is generation_config.json; nil if there is none.
func generationConfig(files fs.FS) map[string]any {
	b, err := fs.ReadFile(files, "generation_config.json")
	if err != nil {
		return nil
	}
	dec := json.NewDecoder(strings.NewReader(string(b)))
	dec.UseNumber()
	var m map[string]any
	if dec.Decode(&m) != nil {
		return nil
	}
	return m
}

// stopTokens are the tokens that end an answer, in order.
func stopTokens(cfg *model.Config, generation map[string]any) []int {
	out := slices.Clone(cfg.EOSTokenIDs)
	list, ok := generation["eos_token_id"].([]any)
	if !ok {
		list = []any{generation["eos_token_id"]}
	}
	for _, v := range list {
		if n, ok := v.(json.Number); ok {
			if id, err := n.Int64(); err == nil && !slices.Contains(out, int(id)) {
				out = append(out, int(id))
			}
		}
	}
	return out
}

// sizeLabel is the number of parameters in words, as Hugging Face's tools write
// it: 135M, 7.2B.
func sizeLabel(n int64) string {
	x, unit := float64(n), ""
	for _, u := range []string{"K", "M", "B", "T"} {
		if x < 999.5 {
			break
		}
		x, unit = x/1000, u
	}
	if x < 9.95 {
		return fmt.Sprintf("%.1f%s", x, unit)
	}
	return fmt.Sprintf("%.0f%s", x, unit)
}
