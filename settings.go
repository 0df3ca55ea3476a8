package expo

import (
	"encoding/json"
	"fmt"
	"reflect"

	"expo/weights/checkpoint"
)

// structural keys of config.json decide what the numbers of a tensor mean:
// the same shapes with another number of heads are another function. Values
// are compared after transformers' defaults have been filled in.
var structural = []string{"model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim"}

// behavioural keys change what the model computes from equal weights. The
// result takes the aligned model's, so a difference is worth a word but is no
// obstacle.
var behavioural = []string{"rope_theta", "rope_local_base_freq", "rope_scaling", "rope_type", "sliding_window", "hidden_act", "rms_norm_eps", "layer_norm_eps", "partial_rotary_factor", "tie_word_embeddings", "max_position_embeddings", "attention_bias", "bos_token_id", "eos_token_id", "pad_token_id"}

// unsaid is what a file means that lacks a key which files of other
// generations spell out.
var unsaid = map[string]any{"rope_theta": 1e4, "partial_rotary_factor": 1.0, "attention_bias": false}

func (m *matcher) configs() {
	s, a := m.sft.Config(), m.aligned.Config()
	if !s.Exists() || !a.Exists() {
		return
	}
	for _, key := range structural {
		sv, sok := setting(s, key)
		av, aok := setting(a, key)
		if sok && aok && !reflect.DeepEqual(sv, av) {
			m.diffs = append(m.diffs, Difference{Tensor: configKey + key, SFT: inJSON(sv), Aligned: inJSON(av),
				Remedy: "models whose structure differs do not pair: the aligned model must have been trained from the SFT model"})
		}
	}
}

// settings lists the keys of config.json that change what the model computes
// and differ between the two, as "rope_theta: SFT 10000, aligned 1000000".
func settings(sft, aligned *checkpoint.Config) []string {
	var out []string
	if !sft.Exists() || !aligned.Exists() {
		return nil
	}
	for _, key := range behavioural {
		sv, sok := setting(sft, key)
		av, aok := setting(aligned, key)
		if sok == aok && reflect.DeepEqual(sv, av) {
			continue
		}
		out = append(out, fmt.Sprintf("%s: SFT %s, aligned %s", key, printable(inJSON(sv)), printable(inJSON(av))))
	}
	return out
}

// setting is a key's value with the two generations of configuration files
// made alike: transformers 5 keeps the rope settings in rope_parameters, 4
// beside the others, and each leaves out what it can derive.
func setting(c *checkpoint.Config, key string) (any, bool) {
	switch key {
	case "rope_theta", "partial_rotary_factor":
		if v, ok := ropeParameters(c)[key]; ok {
			return plain(v), true
		}
	case "rope_local_base_freq":
		if m, ok := ropeOf(c, "sliding_attention"); ok {
			return plain(m["rope_theta"]), true
		}
	case "rope_type":
		for _, m := range []map[string]any{ropeParameters(c), ropeScaling(c)} {
			for _, k := range []string{"rope_type", "type"} {
				if v, ok := m[k]; ok {
					return v, true
				}
			}
		}
		return "default", true
	case "rope_scaling":
		merged := map[string]any{}
		for _, m := range []map[string]any{ropeParameters(c), ropeScaling(c)} {
			for k, v := range m {
				switch k {
				case "rope_theta", "partial_rotary_factor", "rope_type", "type": // keys of their own
				default:
					merged[k] = plain(v)
				}
			}
		}
		return merged, true
	case "head_dim":
		if _, ok := c.Value(key); !ok {
			h, hok := c.Int("hidden_size")
			n, nok := c.Int("num_attention_heads")
			if hok && nok && n > 0 {
				return float64(h / n), true
			}
		}
	case "num_key_value_heads":
		if _, ok := c.Value(key); !ok {
			if n, ok := c.Int("num_attention_heads"); ok {
				return float64(n), true
			}
		}
	}
	if v, ok := c.Value(key); ok {
		return plain(v), true
	}
	v, ok := unsaid[key]
	return v, ok
}

// ropeParameters is what transformers 5 writes: one object, or one per kind of
// attention layer, of which the full attention's counts here.
func ropeParameters(c *checkpoint.Config) map[string]any {
	if m, ok := ropeOf(c, "full_attention"); ok {
		return m
	}
	v, _ := c.Value("rope_parameters")
	m, _ := v.(map[string]any)
	return m
}

func ropeOf(c *checkpoint.Config, layers string) (map[string]any, bool) {
	v, _ := c.Value("rope_parameters")
	m, _ := v.(map[string]any)
	kind, ok := m[layers].(map[string]any)
	return kind, ok
}

// ropeScaling is what transformers 4 writes.
func ropeScaling(c *checkpoint.Config) map[string]any {
	v, _ := c.Value("rope_scaling")
	m, _ := v.(map[string]any)
	return m
}

// plain makes 1e4 and 10000.0 the same, at any depth.
func plain(v any) any {
	switch v := v.(type) {
	case json.Number:
		if f, err := v.Float64(); err == nil {
			return f
		}
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = plain(e)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = plain(e)
		}
		return out
	}
	return v
}

func inJSON(v any) string {
	if v == nil {
		return "none"
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}
