package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"expo/internal/kernel"
	"expo/lm/chat"
	"expo/lm/generate"
	"expo/lm/model"
	"expo/weights/checkpoint"
	"expo/weights/tensor"
)

// tiny is a random Llama that speaks ASCII, a character a token.
func tiny(t testing.TB, opt Options, change func(config map[string]any)) *Engine {
	t.Helper()
	vocab := map[string]int{"<s>": 0, "</s>": 1, "Ġ": 2, "Ċ": 3}
	for c := '!'; c <= '~'; c++ {
		vocab[string(c)] = len(vocab)
	}
	config := map[string]any{
		"model_type": "llama", "architectures": []string{"LlamaForCausalLM"},
		"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
		"num_key_value_heads": 2, "vocab_size": len(vocab), "max_position_embeddings": 256,
		"rms_norm_eps": 1e-5, "bos_token_id": 0, "eos_token_id": 1, "tie_word_embeddings": false,
	}
	if change != nil {
		change(config)
	}
	special := func(id int, s string) map[string]any {
		return map[string]any{"id": id, "content": s, "special": true, "normalized": false, "single_word": false, "lstrip": false, "rstrip": false}
	}
	bytelevel := map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}
	files := fstest.MapFS{}
	put := func(name string, v any) {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = &fstest.MapFile{Data: b}
	}
	put("config.json", config)
	put("tokenizer.json", map[string]any{
		"version": "1.0", "added_tokens": []any{special(0, "<s>"), special(1, "</s>")},
		"normalizer": nil, "pre_tokenizer": bytelevel, "decoder": bytelevel,
		"post_processor": map[string]any{
			"type":           "TemplateProcessing",
			"single":         []any{map[string]any{"SpecialToken": map[string]any{"id": "<s>", "type_id": 0}}, map[string]any{"Sequence": map[string]any{"id": "A", "type_id": 0}}},
			"pair":           []any{},
			"special_tokens": map[string]any{"<s>": map[string]any{"id": "<s>", "ids": []int{0}, "tokens": []string{"<s>"}}},
		},
		"model": map[string]any{"type": "BPE", "vocab": vocab, "merges": []string{}},
	})
	put("tokenizer_config.json", map[string]any{
		"bos_token": "<s>", "eos_token": "</s>",
		"chat_template": "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}",
	})
	c, err := checkpoint.New("tiny", []checkpoint.Shard{{File: "model.safetensors", Tensors: weights(config)}}, files)
	if err != nil {
		t.Fatal(err)
	}
	e, err := Open(context.Background(), c, model.LoadOptions{Jobs: 2}, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Model().Close)
	return e
}

func weights(config map[string]any) []tensor.Tensor {
	h, f, v := config["hidden_size"].(int), config["intermediate_size"].(int), config["vocab_size"].(int)
	kv := h / 2
	seed := uint64(1)
	var ts []tensor.Tensor
	add := func(name string, shape ...int) {
		n, scale := 1, 3/math.Sqrt(float64(shape[len(shape)-1]))
		for _, s := range shape {
			n *= s
		}
		x := make([]float32, n)
		for i := range x {
			seed = seed*6364136223846793005 + 1442695040888963407
			x[i] = float32((float64(seed>>40)/(1<<24) - 0.5) * scale)
			if strings.Contains(name, "norm") {
				x[i] = 1
			}
		}
		b := make([]byte, 4*n)
		kernel.Narrow(b, x, kernel.F32)
		ts = append(ts, tensor.Tensor{Name: name + ".weight", DType: tensor.F32, Shape: shape, Data: tensor.Bytes(b)})
	}
	add("model.embed_tokens", v, h)
	for i := range config["num_hidden_layers"].(int) {
		p := fmt.Sprintf("model.layers.%d.", i)
		add(p+"input_layernorm", h)
		add(p+"post_attention_layernorm", h)
		add(p+"self_attn.q_proj", h, h)
		add(p+"self_attn.k_proj", kv, h)
		add(p+"self_attn.v_proj", kv, h)
		add(p+"self_attn.o_proj", h, h)
		add(p+"mlp.gate_proj", f, h)
		add(p+"mlp.up_proj", f, h)
		add(p+"mlp.down_proj", h, f)
	}
	add("model.norm", h)
	add("lm_head", v, h)
	return ts
}

func generateOne(t *testing.T, e *Engine, r generate.Request) generate.Response {
	t.Helper()
	got, err := e.Generate(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// content is what must not depend on circumstances.
func content(r generate.Response) generate.Response {
	r.Timings = generate.Timings{}
	r.Usage.CachedTokens = 0
	return r
}

func TestAloneAndTogether(t *testing.T) {
	var requests []generate.Request
	for i := range 24 {
		r := generate.Request{Prompt: strings.Repeat("a long beginning, ", 4) + fmt.Sprint("prompt ", i%9), MaxTokens: 5 + i}
		if i%3 > 0 {
			r.Sampling = generate.Sampling{Temperature: 1, TopP: 0.9, Seed: 7, Sample: i}
		}
		if i%4 == 0 {
			r.Prompt, r.Messages = "", []chat.Message{{Role: "user", Content: fmt.Sprint("hello ", i)}}
			r.FrequencyPenalty, r.RepetitionPenalty = 0.5, 1.2
		}
		if i%5 == 0 {
			r.TopLogprobs = 3
		}
		requests = append(requests, r)
	}
	want := make([]generate.Response, len(requests))
	for i, r := range requests {
		// Every one by itself: nothing kept, one thread's worth of batch.
		want[i] = content(generateOne(t, tiny(t, Options{KeepTokens: -1, MaxBatch: 1}, nil), r))
	}
	for _, opt := range []Options{{}, {MaxBatch: 3, StepTokens: 8}, {KeepTokens: 100}} {
		e := tiny(t, opt, nil)
		got := make([]generate.Response, len(requests))
		var wg sync.WaitGroup
		for i, r := range requests {
			wg.Go(func() {
				var err error
				if got[i], err = e.Generate(context.Background(), r); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for i := range got {
			if !reflect.DeepEqual(content(got[i]), want[i]) {
				t.Errorf("%+v: request %d differs:\n got %+v\nwant %+v", opt, i, content(got[i]), want[i])
			}
		}
		if n := len(e.running) + len(e.waiting) + len(e.arrived); n != 0 {
			t.Errorf("%d sequences left over", n)
		}
	}
}

func TestSharedPrefix(t *testing.T) {
	e := tiny(t, Options{}, nil)
	shared := strings.Repeat("shots ", 25)
	var wg sync.WaitGroup
	var mu sync.Mutex
	cached := 0
	for i := range 8 {
		wg.Go(func() {
			got, err := e.Generate(context.Background(), generate.Request{Prompt: shared + fmt.Sprint(i), MaxTokens: 2})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			cached += got.Usage.CachedTokens
		})
	}
	wg.Wait()
	if want := 7 * (len(shared) + 1); cached < want {
		t.Errorf("%d tokens were shared, want at least %d", cached, want)
	}
}

func TestStream(t *testing.T) {
	e := tiny(t, Options{}, nil)
	r := generate.Request{Prompt: "stream", MaxTokens: 30, IgnoreEOS: true, Logprobs: true}
	want := generateOne(t, e, r)
	var text strings.Builder
	var tokens []int
	var last *generate.Response
	for d, err := range e.Stream(context.Background(), r) {
		if err != nil {
			t.Fatal(err)
		}
		text.WriteString(d.Text)
		tokens = append(tokens, d.Tokens...)
		last = d.Response
	}
	if text.String() != want.Text || !slices.Equal(tokens, want.Tokens) || last == nil || !reflect.DeepEqual(content(*last), content(want)) {
		t.Errorf("streamed %q, want %q", text.String(), want.Text)
	}
	if want.FinishReason != generate.Length || len(want.Tokens) != 30 || len(want.Logprobs) != 30 {
		t.Errorf("got %+v", want)
	}

	// Walking away leaves nothing behind.
	for range e.Stream(context.Background(), r) {
		break
	}
	if len(e.running)+len(e.waiting) != 0 {
		t.Error("an abandoned stream is still running")
	}
}

func TestStop(t *testing.T) {
	e := tiny(t, Options{}, nil)
	base := generate.Request{Prompt: "stop", MaxTokens: 40, IgnoreEOS: true}
	whole := generateOne(t, e, base)
	// A stop string from the middle: the answer ends at its first occurrence.
	stop := whole.Text[10:13]
	r := base
	r.Stop = []string{"never in it", stop}
	got := generateOne(t, e, r)
	if want := whole.Text[:strings.Index(whole.Text, stop)]; got.Text != want || got.FinishReason != generate.Stop {
		t.Errorf("stopped at %q (%s), want %q", got.Text, got.FinishReason, want)
	}
	for d, err := range e.Stream(context.Background(), r) {
		if err != nil || strings.Contains(d.Text, stop) {
			t.Errorf("delta %q, %v", d.Text, err)
		}
	}
	// A stop token stays in the IDs and out of the text.
	r = base
	r.StopTokenIDs = []int{whole.Tokens[5]}
	got = generateOne(t, e, r)
	n := slices.Index(whole.Tokens, whole.Tokens[5])
	if !slices.Equal(got.Tokens, whole.Tokens[:n+1]) || len(got.Text) != n || got.FinishReason != generate.Stop {
		t.Errorf("got %v %q (%s), want the first %d of %v", got.Tokens, got.Text, got.FinishReason, n+1, whole.Tokens)
	}
}

func TestStopper(t *testing.T) {
	for _, c := range []struct {
		stops  []string
		pieces []string
		text   []string
		found  bool
		rest   string
	}{
		{[]string{"END"}, []string{"aE", "N", "x"}, []string{"a", "", "ENx"}, false, ""},
		{[]string{"END"}, []string{"aE", "N", "Dx"}, []string{"a", "", ""}, true, ""},
		{[]string{"END"}, []string{"E", "END"}, []string{"", "E"}, true, ""},
		{[]string{"END"}, []string{"abE"}, []string{"ab"}, false, "E"},
		{[]string{"aab", "b"}, []string{"a", "a", "a"}, []string{"", "", "a"}, false, "aa"},
		{nil, []string{"x"}, []string{"x"}, false, ""},
	} {
		s := stopper{stops: c.stops}
		var found bool
		for i, p := range c.pieces {
			var text string
			if text, found = s.add(p); text != c.text[i] {
				t.Errorf("%q after %q: %q, want %q", c.stops, c.pieces[:i+1], text, c.text[i])
			}
		}
		if rest := s.rest(); found != c.found || rest != c.rest {
			t.Errorf("%q in %q: found %v, rest %q, want %v, %q", c.stops, c.pieces, found, rest, c.found, c.rest)
		}
	}
}

func TestContext(t *testing.T) {
	e := tiny(t, Options{ContextLength: 20}, nil)
	long := strings.Repeat("x", 30)
	_, err := e.Generate(context.Background(), generate.Request{Prompt: long})
	if !errors.Is(err, ErrTooLong) || !strings.Contains(err.Error(), "31") || !strings.Contains(err.Error(), "20") {
		t.Errorf("error %v, want one with 31 and 20", err)
	}
	got := generateOne(t, e, generate.Request{Prompt: long, Truncate: true, MaxTokens: 4, IgnoreEOS: true})
	if got.Usage.PromptTokens != 16 || got.Usage.TruncatedTokens != 15 || len(got.Tokens) != 4 {
		t.Errorf("usage %+v", got.Usage)
	}
	got = generateOne(t, e, generate.Request{Prompt: "abc", IgnoreEOS: true})
	if len(got.Tokens) != 16 || got.FinishReason != generate.Length {
		t.Errorf("%d tokens (%s), want 16 up to the context's end", len(got.Tokens), got.FinishReason)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := e.Generate(ctx, generate.Request{Prompt: "abc", IgnoreEOS: true}); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestDynamicRope sees that prompts beyond the original length are fed whole.
func TestDynamicRope(t *testing.T) {
	change := func(config map[string]any) {
		config["max_position_embeddings"] = 32
		config["rope_scaling"] = map[string]any{"type": "dynamic", "factor": 2.0}
	}
	r := generate.Request{Prompt: strings.Repeat("dynamic ", 12), MaxTokens: 8, IgnoreEOS: true, Logprobs: true}
	opt := Options{ContextLength: 200}
	want := content(generateOne(t, tiny(t, opt, change), r))
	opt.StepTokens = 20
	e := tiny(t, opt, change)
	generateOne(t, e, generate.Request{Prompt: strings.Repeat("dynamic ", 3), MaxTokens: 1})
	if got := content(generateOne(t, e, r)); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got.Text, want.Text)
	}
}

func TestScore(t *testing.T) {
	e := tiny(t, Options{}, nil)
	shots := strings.Repeat("question and answer. ", 5)
	cs := []generate.Continuation{
		{Context: shots + "two plus two is", Text: " four"},
		{Context: shots + "two plus two is", Text: " five"},
		{Context: shots + "two plus two is ", Text: "four"}, // the space moves
		{Context: "", Text: "hello"},
		{Context: "", Text: "<s>hello"},
		{ContextTokens: []int{0, 5, 6}, Tokens: []int{7, 8}},
	}
	got, err := e.Score(context.Background(), cs)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got[0], got[2]) || !reflect.DeepEqual(got[3], got[4]) {
		t.Errorf("equal texts have different scores: %+v", got)
	}
	for i, c := range cs {
		before, ids, err := e.split(c)
		if err != nil {
			t.Fatal(err)
		}
		feed := append(slices.Clone(before), ids[:len(ids)-1]...)
		cache := e.model.NewCache()
		s := model.Step{Cache: cache, Tokens: feed}
		sum, greedy := 0.0, true
		var mu sync.Mutex
		for k, id := range ids {
			s.Want = append(s.Want, len(before)-1+k)
			_ = id
		}
		s.Logits = func(at int, l []float32) {
			mu.Lock()
			defer mu.Unlock()
			id := ids[at-len(before)+1]
			lp := float64(l[id]) - generate.LogSumExp(l)
			if lp != got[i].TokenLogprobs[at-len(before)+1] {
				t.Errorf("continuation %d, token %d: %v, want %v", i, at, got[i].TokenLogprobs[at-len(before)+1], lp)
			}
			sum += lp
			greedy = greedy && generate.Top(l, 1)[0] == id
		}
		if err := e.model.Forward(context.Background(), []model.Step{s}); err != nil {
			t.Fatal(err)
		}
		cache.Free()
		if math.Abs(sum-got[i].Logprob) > 1e-9 || greedy != got[i].IsGreedy {
			t.Errorf("continuation %d: %v %v, want %v %v", i, got[i].Logprob, got[i].IsGreedy, sum, greedy)
		}
	}
	// What the model would say itself is greedy.
	said := generateOne(t, e, generate.Request{Prompt: "say", MaxTokens: 5, IgnoreEOS: true})
	ids, _, err := e.Prompt(context.Background(), generate.Request{Prompt: "say"})
	if err != nil {
		t.Fatal(err)
	}
	own, err := e.Score(context.Background(), []generate.Continuation{{ContextTokens: ids, Tokens: said.Tokens}})
	if err != nil || !own[0].IsGreedy {
		t.Errorf("%+v, %v: want greedy", own, err)
	}
	for _, c := range []generate.Continuation{{Context: "a", Text: ""}, {ContextTokens: []int{0}, Tokens: []int{1 << 40}}, {Context: "a", Text: strings.Repeat("b", 300)}} {
		if _, err := e.Score(context.Background(), []generate.Continuation{c}); err == nil {
			t.Errorf("%.20q: no error", c.Text)
		}
	}
}

// TestFailure sees that a damaged model is an error for everyone, and that the
// engine survives it.
func TestFailure(t *testing.T) {
	e := tiny(t, Options{}, nil)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			ids := []int{0, 5 + i}
			if i == 2 {
				ids = []int{0, 1 << 30}
			}
			_, err := e.Generate(context.Background(), generate.Request{Tokens: ids, MaxTokens: 3})
			if (err != nil) != (i == 2) {
				t.Errorf("request %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}

func TestMessages(t *testing.T) {
	e := tiny(t, Options{}, nil)
	ids, text, err := e.Prompt(context.Background(), generate.Request{Messages: []chat.Message{{Role: "user", Content: "hi"}}})
	if err != nil {
		t.Fatal(err)
	}
	if want := "<s>[user]hi\n[assistant]"; text != want || ids[0] != 0 || ids[1] == 0 {
		t.Errorf("prompt %q %v, want %q with one BOS", text, ids, want)
	}
	ids, _, err = e.Prompt(context.Background(), generate.Request{Prompt: "<s>a"})
	if err != nil || len(ids) != 2 {
		t.Errorf("%v, %v: want one BOS and one letter", ids, err)
	}
	other, err := chat.Parse("<{{ messages[0].content }}>")
	if err != nil {
		t.Fatal(err)
	}
	e.opt.EOS, e.eos[7] = []int{7}, true
	changed := e.WithTemplate(other)
	if _, text, err = changed.Prompt(context.Background(), generate.Request{Messages: []chat.Message{{Role: "user", Content: "hi"}}}); err != nil || text != "<hi>" || !changed.eos[7] {
		t.Errorf("with another template: %q, %v; end tokens %v", text, err, changed.eos)
	}
	e.tmpl = nil
	if _, _, err := e.Prompt(context.Background(), generate.Request{Messages: []chat.Message{{Role: "user"}}}); !errors.Is(err, ErrNoTemplate) {
		t.Errorf("error %v, want ErrNoTemplate", err)
	}
}
