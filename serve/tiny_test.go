package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/fstest"

	"expo"
	"expo/internal/kernel"
	"expo/lm/generate/local"
	"expo/weights/checkpoint"
	"expo/weights/tensor"
)

// tinyCheckpoint is a Llama of random weights that speaks ASCII, a character a
// token. Two of one seed differ by delta.
func tinyCheckpoint(t testing.TB, delta float64, template bool) *checkpoint.Checkpoint {
	t.Helper()
	vocab := map[string]int{"<s>": 0, "</s>": 1, "Ġ": 2, "Ċ": 3}
	for c := '!'; c <= '~'; c++ {
		vocab[string(c)] = len(vocab)
	}
	const hidden, width, layers = 32, 48, 2
	files := fstest.MapFS{}
	put := func(name string, v any) {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: b}
	}
	type object = map[string]any
	put("config.json", object{
		"model_type": "llama", "architectures": []string{"LlamaForCausalLM"},
		"hidden_size": hidden, "intermediate_size": width, "num_hidden_layers": layers, "num_attention_heads": 4,
		"num_key_value_heads": 2, "vocab_size": len(vocab), "max_position_embeddings": 512,
		"rms_norm_eps": 1e-5, "bos_token_id": 0, "eos_token_id": 1, "tie_word_embeddings": false,
	})
	special := func(id int, s string) object {
		return object{"id": id, "content": s, "special": true, "normalized": false, "single_word": false, "lstrip": false, "rstrip": false}
	}
	bytes := object{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}
	put("tokenizer.json", object{
		"version": "1.0", "added_tokens": []any{special(0, "<s>"), special(1, "</s>")},
		"normalizer": nil, "pre_tokenizer": bytes, "decoder": bytes,
		"post_processor": object{
			"type":           "TemplateProcessing",
			"single":         []any{object{"SpecialToken": object{"id": "<s>", "type_id": 0}}, object{"Sequence": object{"id": "A", "type_id": 0}}},
			"pair":           []any{},
			"special_tokens": object{"<s>": object{"id": "<s>", "ids": []int{0}, "tokens": []string{"<s>"}}},
		},
		"model": object{"type": "BPE", "vocab": vocab, "merges": []string{}},
	})
	config := object{"bos_token": "<s>", "eos_token": "</s>"}
	if template {
		config["chat_template"] = "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
	}
	put("tokenizer_config.json", config)

	base, moved := rand.New(rand.NewPCG(1, 1)), rand.New(rand.NewPCG(2, 2))
	var ts []tensor.Tensor
	add := func(name string, shape ...int) {
		n := 1
		for _, d := range shape {
			n *= d
		}
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(0.4*base.NormFloat64() + delta*0.02*moved.NormFloat64())
			if strings.Contains(name, "norm") {
				x[i] = 1
			}
		}
		b := make([]byte, 4*n)
		kernel.Narrow(b, x, kernel.F32)
		ts = append(ts, tensor.Tensor{Name: name + ".weight", DType: tensor.F32, Shape: shape, Data: tensor.Bytes(b)})
	}
	add("model.embed_tokens", len(vocab), hidden)
	for i := range layers {
		p := fmt.Sprintf("model.layers.%d.", i)
		add(p+"input_layernorm", hidden)
		add(p+"post_attention_layernorm", hidden)
		add(p+"self_attn.q_proj", hidden, hidden)
		add(p+"self_attn.k_proj", hidden/2, hidden)
		add(p+"self_attn.v_proj", hidden/2, hidden)
		add(p+"self_attn.o_proj", hidden, hidden)
		add(p+"mlp.gate_proj", width, hidden)
		add(p+"mlp.up_proj", width, hidden)
		add(p+"mlp.down_proj", hidden, width)
	}
	add("model.norm", hidden)
	add("lm_head", len(vocab), hidden)
	c, err := checkpoint.New("tiny", []checkpoint.Shard{{File: "model.safetensors", Tensors: ts}}, files)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// opened calls local.Open with its default options for loading.
func opened[L any](ctx context.Context, open func(context.Context, *checkpoint.Checkpoint, L, local.Options) (*local.Engine, error), c *checkpoint.Checkpoint, m *local.Memory) (*local.Engine, error) {
	var load L
	return open(ctx, c, load, local.Options{Memory: m})
}

func tinyEngine(t testing.TB, c *checkpoint.Checkpoint, m *local.Memory) *local.Engine {
	t.Helper()
	e, err := opened(context.Background(), local.Open, c, m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Model().Close)
	return e
}

// tinyPair is a pair of tiny models and its dial.
func tinyPair(t testing.TB, template bool) *Pair { return tinyPairIn(t, template, nil) }

// tinyPairIn has its keys and values in m.
func tinyPairIn(t testing.TB, template bool, m *local.Memory) *Pair {
	sft, aligned := tinyCheckpoint(t, 0, template), tinyCheckpoint(t, 1, template)
	return &Pair{
		SFT: tinyEngine(t, sft, m), Aligned: tinyEngine(t, aligned, m), Alpha: 0.5,
		Mix: func(ctx context.Context, alpha float64, into *local.Engine) (*local.Engine, error) {
			view, err := expo.Extrapolate(expo.Pair{SFT: sft, Aligned: aligned}, expo.Options{Alpha: alpha})
			if err != nil {
				return nil, err
			}
			if into != nil {
				return into, into.Update(ctx, view)
			}
			return opened(ctx, local.Open, view, m)
		},
	}
}
