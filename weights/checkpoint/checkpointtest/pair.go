package checkpointtest

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"

	"expo/weights/tensor"
)

// The sizes of Pair's models.
const (
	HiddenSize       = 16
	IntermediateSize = 24
	Layers           = 2
	Heads            = 4
	KeyValueHeads    = 2
	VocabSize        = 40
)

// Pair is a tiny Llama and its aligned twin, of type d (F32, BF16, F16 or an
// FP8 type without scales): the same tensors, config.json and tokenizer, and
// weights that differ as preference training makes them differ, by a few units
// in the last place and at many elements not at all. The same seed gives the
// same pair.
func Pair(seed uint64, d tensor.DType) (sft, aligned Model) {
	r := rand.New(rand.NewPCG(seed, 0x65787061697273))
	sft = Model{Config: config(d), Files: smallFiles()}
	aligned = Model{Config: config(d), Files: smallFiles()}
	for _, s := range llamaShapes() {
		t := random(r, s.name, d, s.shape)
		sft.Tensors = append(sft.Tensors, t)
		aligned.Tensors = append(aligned.Tensors, nudge(r, t))
	}
	return sft, aligned
}

type namedShape struct {
	name  string
	shape []int
}

// llamaShapes lists a Llama's parameters in the order of its state dict.
func llamaShapes() []namedShape {
	const h, kv = HiddenSize, HiddenSize / Heads * KeyValueHeads
	out := []namedShape{{"model.embed_tokens.weight", []int{VocabSize, h}}}
	for i := range Layers {
		p := fmt.Sprintf("model.layers.%d.", i)
		out = append(out,
			namedShape{p + "self_attn.q_proj.weight", []int{h, h}},
			namedShape{p + "self_attn.k_proj.weight", []int{kv, h}},
			namedShape{p + "self_attn.v_proj.weight", []int{kv, h}},
			namedShape{p + "self_attn.o_proj.weight", []int{h, h}},
			namedShape{p + "mlp.gate_proj.weight", []int{IntermediateSize, h}},
			namedShape{p + "mlp.up_proj.weight", []int{IntermediateSize, h}},
			namedShape{p + "mlp.down_proj.weight", []int{h, IntermediateSize}},
			namedShape{p + "input_layernorm.weight", []int{h}},
			namedShape{p + "post_attention_layernorm.weight", []int{h}},
		)
	}
	return append(out,
		namedShape{"model.norm.weight", []int{h}},
		namedShape{"lm_head.weight", []int{VocabSize, h}})
}

// random draws weights of about 0.05, and norms of about 1.
func random(r *rand.Rand, name string, d tensor.DType, shape []int) tensor.Tensor {
	n, err := tensor.Elements(shape)
	if err != nil {
		panic(err)
	}
	vals := make([]float32, n)
	for i := range vals {
		vals[i] = float32(0.05 * r.NormFloat64())
		if len(shape) == 1 {
			vals[i]++
		}
	}
	return Floats(name, d, shape, vals)
}

// nudge moves elements by up to 3 codes of their type (F32: by as much as 3
// codes of BF16), which at these values is a relative 10⁻³ to 10⁻². A third
// stays as it is. Signs do not change, and nothing becomes infinite.
func nudge(r *rand.Rand, t tensor.Tensor) tensor.Tensor {
	b := Bytes(t)
	bits := t.DType.Bits()
	magnitude := uint64(1)<<(bits-1) - 1
	for i := 0; i < len(b); i += bits / 8 {
		step := int64(r.IntN(9) - 4)
		if step < -3 || step > 3 {
			step = 0
		}
		fraction := r.Int64N(1 << 15)
		switch bits {
		case 32:
			step = step<<16 + step*fraction
		case 8:
			step = max(-1, min(step, 1))
		}
		var w [8]byte
		copy(w[:], b[i:i+bits/8])
		code := binary.LittleEndian.Uint64(w[:])
		if m := int64(code&magnitude) + step; m > 0 {
			code = code&^magnitude | uint64(m)
		}
		binary.LittleEndian.PutUint64(w[:], code)
		copy(b[i:], w[:bits/8])
	}
	return Raw(t.Name, t.DType, t.Shape, b)
}

func config(d tensor.DType) string {
	return fmt.Sprintf(`{
  "architectures": [
    "LlamaForCausalLM"
  ],
  "bos_token_id": 1,
  "eos_token_id": 2,
  "hidden_act": "silu",
  "hidden_size": %d,
  "intermediate_size": %d,
  "max_position_embeddings": 64,
  "model_type": "llama",
  "num_attention_heads": %d,
  "num_hidden_layers": %d,
  "num_key_value_heads": %d,
  "rms_norm_eps": 1e-05,
  "rope_theta": 10000.0,
  "tie_word_embeddings": false,
  "torch_dtype": %q,
  "transformers_version": "4.48.0",
  "use_cache": true,
  "vocab_size": %d
}
`, HiddenSize, IntermediateSize, Heads, Layers, KeyValueHeads, d.ConfigName(), VocabSize)
}

// smallFiles are a word-level tokenizer of VocabSize entries and what usually
// lies beside one. Special tokens are the first three.
func smallFiles() map[string]string {
	vocab := []string{`"<unk>": 0`, `"<s>": 1`, `"</s>": 2`}
	for i := 3; i < VocabSize; i++ {
		vocab = append(vocab, fmt.Sprintf(`"w%d": %d`, i, i))
	}
	return map[string]string{
		"tokenizer.json": `{
  "version": "1.0",
  "truncation": null,
  "padding": null,
  "added_tokens": [
    {"id": 0, "content": "<unk>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
    {"id": 1, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
    {"id": 2, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}
  ],
  "normalizer": null,
  "pre_tokenizer": {"type": "WhitespaceSplit"},
  "post_processor": null,
  "decoder": null,
  "model": {"type": "WordLevel", "vocab": {` + strings.Join(vocab, ", ") + `}, "unk_token": "<unk>"}
}
`,
		"tokenizer_config.json": `{
  "bos_token": "<s>",
  "chat_template": "{% for m in messages %}{{ m['content'] }}{% endfor %}",
  "eos_token": "</s>",
  "tokenizer_class": "PreTrainedTokenizerFast",
  "unk_token": "<unk>"
}
`,
		"generation_config.json": `{
  "bos_token_id": 1,
  "eos_token_id": 2,
  "transformers_version": "4.48.0"
}
`,
	}
}
