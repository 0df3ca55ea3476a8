package expo

import (
	"slices"
	"testing"

	"expo/weights/checkpoint"
)

// TestSettings compares configurations of both generations of transformers:
// what means the same must not be reported.
func TestSettings(t *testing.T) {
	for _, tt := range []struct {
		name, sft, aligned string
		want               []string
	}{
		{"equal", `{"rope_theta": 10000.0}`, `{"rope_theta": 1e4}`, nil},
		{"other theta", `{"rope_theta": 10000.0}`, `{"rope_theta": 1e6}`, []string{"rope_theta: SFT 10000, aligned 1000000"}},
		{"theta by default", `{}`, `{"rope_theta": 10000}`, nil},
		{"5 against 4", `{"rope_theta": 500000.0, "rope_scaling": null}`, `{"rope_parameters": {"rope_theta": 500000, "rope_type": "default"}}`, nil},
		{"5 against 4, other theta", `{"rope_theta": 500000.0}`, `{"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}`, []string{"rope_theta: SFT 500000, aligned 1000000"}},
		{"5 against 4, scaled", `{"rope_theta": 500000.0, "rope_scaling": {"factor": 8.0, "high_freq_factor": 4, "rope_type": "llama3"}}`,
			`{"rope_parameters": {"factor": 8, "high_freq_factor": 4.0, "rope_theta": 500000.0, "rope_type": "llama3"}}`, nil},
		{"type against rope_type", `{"rope_scaling": {"type": "linear", "factor": 2}}`, `{"rope_scaling": {"rope_type": "linear", "factor": 2.0}}`, nil},
		{"both type and rope_type", `{"rope_scaling": {"type": "linear", "rope_type": "linear", "factor": 2}}`, `{"rope_scaling": {"rope_type": "linear", "factor": 2.0}}`, nil},
		{"numbers inside lists", `{"rope_scaling": {"rope_type": "longrope", "short_factor": [1, 1.5]}}`, `{"rope_parameters": {"rope_type": "longrope", "short_factor": [1.0, 1.50]}}`, nil},
		{"numbers inside objects", `{"rope_scaling": {"rope_type": "x", "inner": {"a": 1}}}`, `{"rope_scaling": {"rope_type": "x", "inner": {"a": 1.0}}}`, nil},
		{"other factor", `{"rope_scaling": {"rope_type": "linear", "factor": 2}}`, `{"rope_scaling": {"rope_type": "linear", "factor": 4}}`, []string{`rope_scaling: SFT {"factor":2}, aligned {"factor":4}`}},
		{"scaled against not", `{}`, `{"rope_scaling": {"rope_type": "linear", "factor": 4}}`, []string{`rope_scaling: SFT {}, aligned {"factor":4}`, `rope_type: SFT "default", aligned "linear"`}},
		{"partial rotary moved", `{"partial_rotary_factor": 0.5, "rope_theta": 1e4}`, `{"rope_parameters": {"rope_theta": 1e4, "rope_type": "default", "partial_rotary_factor": 0.50}}`, nil},
		{"per kind of layer", `{"rope_theta": 1e6, "rope_local_base_freq": 10000.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}`,
			`{"rope_parameters": {"full_attention": {"rope_theta": 1000000, "rope_type": "linear", "factor": 8}, "sliding_attention": {"rope_theta": 10000, "rope_type": "default"}}}`, nil},
		{"inside text_config", `{"text_config": {"rope_theta": 5e5}}`, `{"text_config": {"rope_parameters": {"rope_theta": 500000}}}`, nil},
		{"null is silence", `{"sliding_window": null, "attention_bias": false}`, `{}`, nil},
		{"window", `{"sliding_window": 4096}`, `{"sliding_window": null}`, []string{"sliding_window: SFT 4096, aligned none"}},
		{"eos", `{"eos_token_id": 2}`, `{"eos_token_id": [2, 3]}`, []string{"eos_token_id: SFT 2, aligned [2,3]"}},
		{"ties", `{"tie_word_embeddings": true}`, `{"tie_word_embeddings": false}`, []string{"tie_word_embeddings: SFT true, aligned false"}},
		{"of no account", `{"use_cache": true, "torch_dtype": "float32"}`, `{"use_cache": false, "dtype": "bfloat16"}`, nil},
		{"steering a terminal", `{"hidden_act": "\u009b2J"}`, `{"hidden_act": "silu"}`, []string{`hidden_act: SFT "\"\u009b2J\"", aligned "silu"`}},
		{"rope as a string", `{"rope_parameters": "x", "rope_scaling": []}`, `{}`, nil},
	} {
		got := settings(parse(t, tt.sft), parse(t, tt.aligned))
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
		if back := settings(parse(t, tt.aligned), parse(t, tt.sft)); len(back) != len(tt.want) {
			t.Errorf("%s, the other way round: %q", tt.name, back)
		}
	}
	if got := settings(&checkpoint.Config{}, parse(t, `{"rope_theta": 1}`)); got != nil {
		t.Errorf("without a file: %q", got)
	}
}

func parse(t *testing.T, text string) *checkpoint.Config {
	t.Helper()
	c, err := checkpoint.ParseConfig([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}
