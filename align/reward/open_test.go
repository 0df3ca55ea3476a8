package reward

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"expo/internal/kernel"
	"expo/lm/chat"
	"expo/lm/model"
	"expo/weights/checkpoint"
	"expo/weights/tensor"
)

const llamaConfig = `{"architectures":["LlamaForSequenceClassification"],"model_type":"llama","hidden_size":32,"intermediate_size":48,
"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"vocab_size":200,"max_position_embeddings":48,
"rms_norm_eps":1e-5,"id2label":{"0":"LABEL_0"},"pad_token_id":0,"bos_token_id":1,"eos_token_id":2}`

const llamaTemplate = `{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}`

// llama is a small classifier; labels outputs. The tensor "broken", if named,
// holds a NaN.
func llama(t testing.TB, config string, labels int, template, broken string) *checkpoint.Checkpoint {
	t.Helper()
	const h, f = 32, 48
	shapes := map[string][]int{"model.embed_tokens.weight": {200, h}, "model.norm.weight": {h}, "score.weight": {labels, h}}
	for i := range 2 {
		for name, shape := range map[string][]int{
			"self_attn.q_proj": {h, h}, "self_attn.k_proj": {h / 2, h}, "self_attn.v_proj": {h / 2, h}, "self_attn.o_proj": {h, h},
			"mlp.gate_proj": {f, h}, "mlp.up_proj": {f, h}, "mlp.down_proj": {h, f}, "input_layernorm": {h}, "post_attention_layernorm": {h},
		} {
			shapes[fmt.Sprintf("model.layers.%d.%s.weight", i, name)] = shape
		}
	}
	var ts []tensor.Tensor
	for _, name := range slices.Sorted(maps.Keys(shapes)) {
		x := hashed(name, tensor.F32, shapes[name]...)
		if name == broken {
			b := bytes.Clone(x.Data.(tensor.Bytes))
			kernel.Narrow(b[4*h*7:], []float32{float32(math.NaN())}, kernel.F32) // row 7
			x.Data = tensor.Bytes(b)
		}
		ts = append(ts, x)
	}
	files := fstest.MapFS{
		"config.json": {Data: []byte(config)}, "tokenizer.json": {Data: smallTokenizer(t)},
		"tokenizer_config.json": {Data: []byte(`{"bos_token":"[CLS]","eos_token":"[SEP]","unk_token":"[UNK]","pad_token":"[PAD]"}`)},
	}
	if template != "" {
		files["chat_template.jinja"] = &fstest.MapFile{Data: []byte(template)}
	}
	return made(t, ts, files)
}

func user(texts ...string) []chat.Message {
	var ms []chat.Message
	for i, s := range texts {
		ms = append(ms, chat.Message{Role: [...]string{"user", "assistant"}[i%2], Content: s})
	}
	return ms
}

// TestClassifierText checks what the model is given to read.
func TestClassifierText(t *testing.T) {
	ctx := context.Background()
	r := opened[*Classifier](t, llama(t, llamaConfig, 1, llamaTemplate, ""), Options{})
	for _, c := range []struct {
		name string
		item Item
		text string // what stands between the tokens that the tokenizer adds
		eos  bool
	}{
		{"conversation", Item{Messages: user("hello [CLS]friend"), Response: "the cat"}, "user: hello friend[SEP]assistant: the cat[SEP]", false},
		{"turns", Item{Messages: user("a", "b", "c"), Response: "d"}, "user: a[SEP]assistant: b[SEP]user: c[SEP]assistant: d[SEP]", false},
		{"raw", Item{Prompt: "hello ", Response: "friend"}, "hello friend", false},
		{"raw, ended", Item{Prompt: "hello ", Response: "friend", Ended: true}, "hello friend", false}, // this tokenizer ends texts itself
	} {
		got, err := r.Tokens(ctx, c.item)
		want := append(append([]int{1}, r.tok.Encode(c.text, false)...), 2)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %v, %v, want %v", c.name, got, err, want)
		}
	}

	long := Item{Prompt: strings.Repeat("hello ", 50), Response: "cat"}
	if _, err := r.Tokens(ctx, long); !errors.Is(err, ErrTooLong) {
		t.Errorf("a long text: %v", err)
	}
	r.opt.Truncate, r.opt.MaxTokens = true, 5
	got, err := r.Tokens(ctx, long)
	whole := r.tok.Encode(long.Prompt+long.Response, true)
	if want := append([]int{1}, whole[len(whole)-4:]...); err != nil || !slices.Equal(got, want) {
		t.Errorf("truncated: got %v, %v, want %v", got, err, want)
	}

	r.tmpl = nil
	if _, err := r.Tokens(ctx, Item{Messages: user("a")}); err == nil || !strings.Contains(err.Error(), "no chat template") {
		t.Errorf("without a template: %v", err)
	}
}

// TestClassifierScores checks that scores do not depend on company, and that
// one bad item costs no other its score.
func TestClassifierScores(t *testing.T) {
	ctx := context.Background()
	items := []Item{
		{Messages: user("hello"), Response: "the cat"}, {Prompt: "hello ", Response: "friend"}, {Messages: user("Tell me"), Response: ""},
		{Prompt: strings.Repeat("cat ", 60)}, {Messages: user("a", "b", "c"), Response: "good"},
	}
	var want []float64
	for _, opt := range []Options{{BatchTokens: 1}, {}, {Jobs: 1, BatchTokens: 30}} {
		r := opened[*Classifier](t, llama(t, llamaConfig, 1, llamaTemplate, ""), opt)
		got, err := r.Score(ctx, items)
		var some *PartialError
		if !errors.As(err, &some) || some.Failed() != 1 || !errors.Is(some.Errors[3], ErrTooLong) || !math.IsNaN(got[3]) {
			t.Fatalf("got %v, %v", got, err)
		}
		if want == nil {
			want = got
			if slices.Contains(got, 0) || got[0] == got[1] {
				t.Fatalf("got %v", got)
			}
		}
		for i := range got {
			if got[i] != want[i] && i != 3 {
				t.Errorf("%+v: item %d: got %v, want %v", opt, i, got[i], want[i])
			}
		}
	}

	// Token 7 makes everything NaN; it is in the first item alone.
	r := opened[*Classifier](t, llama(t, llamaConfig, 1, llamaTemplate, "model.embed_tokens.weight"), Options{})
	piece, _ := r.tok.Token(7)
	got, err := r.Score(ctx, []Item{{Prompt: strings.TrimPrefix(piece, "▁")}, items[1]})
	var some *PartialError
	var broken *model.NonFiniteError
	if !errors.As(err, &some) || some.Failed() != 1 || !errors.As(err, &broken) || !math.IsNaN(got[0]) || got[1] != want[1] {
		t.Errorf("got %v, %v, want NaN and %v", got, err, want[1])
	}

	done, cancel := context.WithCancel(ctx)
	cancel()
	if got, err := r.Score(done, items); got != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v, %v", got, err)
	}
	if got, err := r.Score(ctx, nil); len(got) != 0 || err != nil {
		t.Errorf("of nothing: %v, %v", got, err)
	}
}

func TestLabels(t *testing.T) {
	config := strings.Replace(llamaConfig, `{"0":"LABEL_0"}`, `{"0":"bad","1":"good"}`, 1)
	item := []Item{{Prompt: "hello"}}
	var got [2]float64
	for i, name := range []string{"0", "good"} {
		r := opened[*Classifier](t, llama(t, config, 2, "", ""), Options{Label: name})
		s, err := r.Score(context.Background(), item)
		if err != nil {
			t.Fatal(err)
		}
		got[i] = s[0]
	}
	if got[0] == got[1] {
		t.Errorf("both outputs are %v", got[0])
	}
	for name, want := range map[string]string{"": "2 outputs (bad, good)", "fine": `no output "fine"; the model has bad, good`} {
		if _, err := Open(context.Background(), llama(t, config, 2, "", ""), Options{Label: name}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", name, err, want)
		}
	}
}

func TestPairClassifier(t *testing.T) {
	g := readGoldens(t).Cases[4] // has token types
	ctx := context.Background()
	r := opened[*PairClassifier](t, g.checkpoint(t, tensor.F32, func(m map[string]any) {}), Options{})
	s, err := r.sequence(ctx, Item{Messages: user("hello [SEP] cat"), Response: "good"})
	a, b := r.tok.EncodeOrdinary("hello [SEP] cat"), r.tok.EncodeOrdinary("good")
	want := append(append(append(append([]int{1}, a...), 2), b...), 2)
	if err != nil || !slices.Equal(s.ids, want) || len(s.types) != len(s.ids) || s.types[len(a)+1] != 0 || s.types[len(a)+2] != 1 || s.types[len(s.types)-1] != 1 {
		t.Errorf("got %v, %v, want %v", s, err, want)
	}
	if slices.Contains(a, 2) {
		t.Errorf("[SEP] in a text became one: %v", a)
	}

	items := []Item{{Prompt: "a", Response: "b"}, {Messages: user("a", "b", "c"), Response: "d"}, {Prompt: strings.Repeat("cat ", 70)}}
	got, err := r.Score(ctx, items)
	var some *PartialError
	if !errors.As(err, &some) || some.Errors[0] != nil || !strings.Contains(fmt.Sprint(some.Errors[1]), "3 messages") || !errors.Is(some.Errors[2], ErrTooLong) {
		t.Fatalf("got %v, %v", got, err)
	}
	r.opt.Truncate = true
	if s, err = r.sequence(ctx, items[2]); err != nil || len(s.ids) != 64 {
		t.Errorf("truncated: %d tokens, %v", len(s.ids), err)
	}
	// The embedding of the case has 100 rows, and the tokenizer more tokens.
	if _, err := r.Score(ctx, []Item{{Prompt: "0123456789"}}); err == nil || !strings.Contains(err.Error(), "do not belong together") {
		t.Errorf("an ID beyond the vocabulary: %v", err)
	}

	tmpl, err := chat.Parse(llamaTemplate)
	if err != nil {
		t.Fatal(err)
	}
	r = opened[*PairClassifier](t, g.checkpoint(t, tensor.F32, nil), Options{Template: tmpl})
	if s, err = r.sequence(ctx, items[1]); err != nil || s.types != nil || s.ids[0] != 1 || s.ids[len(s.ids)-1] != 2 || len(s.ids) < 8 {
		t.Errorf("with a template: %v, %v", s, err)
	}
}

func TestPairRMConversation(t *testing.T) {
	g := readGoldens(t).Pairs[1]
	r := opened[*PairRM](t, g.checkpoint(t, tensor.F32, nil), Options{Instruction: "Go on. "})
	source, before, err := r.texts(user("a", "b", "c"), "")
	if err != nil || source != "Go on. USER: a\nAssistant: <Response 1>\nUSER: c\nAssistant: <Response 2>" || before != "<Response 1>: b\n<Response 2>: " {
		t.Errorf("got %q, %q, %v", source, before, err)
	}
	if source, before, err = r.texts(user("a"), ""); err != nil || source != "Go on. a" || before != "" {
		t.Errorf("got %q, %q, %v", source, before, err)
	}
	ctx := context.Background()
	ab, ba, err := r.Logits(ctx, []Pair{{Messages: user("a", "b")}, {Prompt: "a", A: "x", B: "y"}, {Messages: append(user("a", "b"), chat.Message{Role: "system"})}})
	var some *PartialError
	if !errors.As(err, &some) || some.Failed() != 2 || math.IsNaN(ab[1]) || !math.IsNaN(ba[0]) || !math.IsNaN(ab[2]) ||
		!strings.Contains(err.Error(), "ends with an answer") || !strings.Contains(err.Error(), `role "system"`) {
		t.Errorf("got %v, %v, %v", ab, ba, err)
	}
	if _, err := r.Score(ctx, []Item{{Prompt: "a", Response: "b"}}); err == nil || !strings.Contains(err.Error(), "reference") {
		t.Errorf("without a reference: %v", err)
	}
	if p, err := r.Prefer(ctx, []Pair{{Prompt: "a", A: "x", B: "y"}, {Prompt: "a", A: "y", B: "x"}}); err != nil || math.Abs(p[0]+p[1]-1) > 1e-12 {
		t.Errorf("both orders: %v, %v", p, err)
	}
}

// TestOpenRefuses checks the errors for what cannot be loaded.
func TestOpenRefuses(t *testing.T) {
	g := readGoldens(t)
	deberta := func(edit func(m map[string]any)) *checkpoint.Checkpoint {
		return g.Cases[0].checkpoint(t, tensor.F32, edit)
	}
	set := func(key string, v any) *checkpoint.Checkpoint {
		return deberta(func(m map[string]any) { m[key] = v })
	}
	without := func(c *checkpoint.Checkpoint, file string) *checkpoint.Checkpoint {
		return made(t, slices.Collect(c.Tensors()), checkpoint.Overlay(c.Files(), map[string][]byte{file: nil}))
	}
	for name, c := range map[string]struct {
		c    *checkpoint.Checkpoint
		want string
	}{
		"language model":   {set("architectures", []string{"LlamaForCausalLM"}), "language model, not a reward model"},
		"other":            {set("architectures", []string{"BertForSequenceClassification"}), "not supported, only Deberta"},
		"no name":          {set("architectures", nil), "names no architecture"},
		"wrong list":       {set("architectures", 7), "names no architecture"},
		"no config":        {without(deberta(nil), "config.json"), "no config.json"},
		"no tokenizer":     {without(deberta(nil), "tokenizer.json"), "tokenizer"},
		"hidden size":      {set("hidden_size", 50), "hidden_size 50 is not num_attention_heads 4 times"},
		"two faults":       {deberta(func(m map[string]any) { m["hidden_act"], m["num_hidden_layers"] = "mish", -1 }), `num_hidden_layers is -1; activation "mish"`},
		"wrong types":      {deberta(func(m map[string]any) { m["share_att_key"], m["pos_att_type"] = "yes", 5 }), "share_att_key is yes, not true or false; pos_att_type is 5"},
		"layers":           {set("num_hidden_layers", 3), "encoder.layer.2.attention.self.query_proj.weight is missing"},
		"very many layers": {set("num_hidden_layers", 2000000000), "2000000000 layers"},
		"shape":            {set("intermediate_size", 81), "has shape [80 48], the configuration wants [81 48]"},
		"buckets":          {set("position_buckets", 1), "position_buckets 1"},
		"far positions":    {deberta(func(m map[string]any) { m["position_buckets"], m["max_position_embeddings"] = -1, 1000000 }), "positions reach 1000000"},
		"convolution":      {set("conv_kernel_size", 4), "conv_kernel_size 4"},
		"type":             {g.Cases[0].checkpoint(t, tensor.F64, nil), "F64"},
		"blender":          {g.Pairs[2].checkpoint(t, tensor.F32, func(m map[string]any) { m["model_name"] = "roberta-large" }), "only rankers over DeBERTa-v3"},
		"marks":            {g.Pairs[0].checkpoint(t, tensor.F32, func(m map[string]any) { m["cand1_prefix_id"] = 5 }), "cand1_prefix_id is 5"},
		"tasks":            {g.Pairs[0].checkpoint(t, tensor.F32, func(m map[string]any) { m["n_tasks"] = 2 }), "head_layer.4.weight has shape [1 48]"},
		"blender tensors":  {made(t, nil, g.Pairs[2].checkpoint(t, tensor.F32, nil).Files()), "not those of DeBERTa-v3"},
	} {
		m, err := Open(context.Background(), c.c, Options{})
		if err == nil {
			m.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "reward: golden: ") {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

// FuzzConfig checks that no config.json makes loading panic.
func FuzzConfig(f *testing.F) {
	g := readGoldens(f)
	for _, c := range append(g.Cases, g.Pairs...) {
		f.Add([]byte(c.Config))
	}
	f.Add([]byte(`{"architectures":["DebertaV2ForSequenceClassification"],"num_attention_heads":1e3,"pos_att_type":[[]],"id2label":{}}`))
	small := g.Pairs[0].checkpoint(f, tensor.F32, nil)
	ts := slices.Collect(small.Tensors())
	tok := smallTokenizer(f)
	f.Fuzz(func(t *testing.T, config []byte) {
		c, err := checkpoint.New("fuzz", []checkpoint.Shard{{File: "m", Tensors: ts}}, fstest.MapFS{"config.json": {Data: config}, "tokenizer.json": {Data: tok}})
		if err != nil {
			return
		}
		m, err := Open(context.Background(), c, Options{})
		if err != nil {
			return
		}
		m.Score(context.Background(), []Item{{Prompt: "hello", Response: "a", Reference: "b"}})
		m.Close()
	})
}
