package train

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"expo/lm/model"
	"expo/weights/checkpoint"
)

// letters is a tokenizer with a token for each of its characters.
const letters = "abcdefghijklmnopqrstuvwxyz .,?\n"

const tinyConfig = `{
  "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
  "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
  "vocab_size": 40, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "initializer_range": 0.1,
  "tie_word_embeddings": true, "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "bfloat16"
}`

// tinyFiles are a config.json and a tokenizer.
func tinyFiles() fstest.MapFS {
	vocab := map[string]int{"<unk>": 0, "<s>": 1, "</s>": 2}
	for _, c := range letters {
		vocab[string(c)] = len(vocab)
	}
	special := func(id int, s string) map[string]any {
		return map[string]any{"id": id, "content": s, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}
	}
	tok, err := json.Marshal(map[string]any{
		"version":      "1.0",
		"added_tokens": []any{special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")},
		"model":        map[string]any{"type": "BPE", "unk_token": "<unk>", "vocab": vocab, "merges": []string{}},
		"post_processor": map[string]any{
			"type":           "TemplateProcessing",
			"single":         []any{map[string]any{"SpecialToken": map[string]any{"id": "<s>", "type_id": 0}}, map[string]any{"Sequence": map[string]any{"id": "A", "type_id": 0}}},
			"pair":           []any{},
			"special_tokens": map[string]any{"<s>": map[string]any{"id": "<s>", "ids": []int{1}, "tokens": []string{"<s>"}}},
		},
	})
	if err != nil {
		panic(err)
	}
	return fstest.MapFS{
		"config.json":           {Data: []byte(tinyConfig)},
		"tokenizer.json":        {Data: tok},
		"tokenizer_config.json": {Data: []byte(`{"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}`)},
	}
}

func tiny(t testing.TB) *Model {
	t.Helper()
	m, err := New(tinyFiles(), 3)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// rows are prompts with answers that a rule gives.
func someExamples(n int) (list []Example) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range n {
		w := ""
		for range 1 + rng.IntN(5) {
			w += string(letters[rng.IntN(26)])
		}
		list = append(list, Example{Prompt: w + "?\n", Response: strings.Repeat(w+" ", 1+rng.IntN(3)) + "."})
	}
	return list
}

func somePairs(n int) (list []Pair) {
	for i, e := range someExamples(n) {
		list = append(list, Pair{Prompt: e.Prompt, Chosen: e.Response, Rejected: strings.Repeat("no ", 1+i%3)})
	}
	return list
}

func TestModelFiles(t *testing.T) {
	m := tiny(t)
	c, err := m.Checkpoint("tiny")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "out")
	if _, err := checkpoint.Write(context.Background(), dir, c, checkpoint.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(b, &config); err != nil {
		t.Fatal(err)
	}
	if config["dtype"] != "float32" || config["torch_dtype"] != nil || config["hidden_size"] != 24.0 {
		t.Errorf("config.json is %s", b)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "generation_config.json")); !strings.Contains(string(b), `"eos_token_id": 2`) {
		t.Errorf("generation_config.json is %s", b)
	}
	// What was written is what was trained.
	again, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	m2, err := Open(context.Background(), again)
	if err != nil {
		t.Fatal(err)
	}
	if !sameFloats(m.w, m2.w) {
		t.Error("weights changed on the way through a directory")
	}
	// And package model computes with it what this package does.
	run, err := model.Load(context.Background(), again, model.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	tokens := []int{1, 5, 9, 4, 30, 7}
	team := newTeam(1)
	defer team.end()
	n := newNetwork(m.cfg, 0, m.layout, m.w, nil, 64, F32.format(), team)
	n.forward([][]int{tokens})
	var targets []target
	for i := range tokens {
		targets = append(targets, target{i, 11})
	}
	logp := make([]float64, len(targets))
	n.logProbs(targets, logp, nil)
	want := make([]float64, len(tokens))
	err = run.Forward(context.Background(), []model.Step{{Cache: run.NewCache(), Tokens: tokens, Want: []int{0, 1, 2, 3, 4, 5}, Logits: func(i int, logits []float32) {
		var sum float64
		for _, v := range logits {
			sum += math.Exp(float64(v))
		}
		want[i] = float64(logits[11]) - math.Log(sum)
	}}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if math.Abs(logp[i]-want[i]) > 1e-5 {
			t.Errorf("position %d: log-probability %v, package model says %v", i, logp[i], want[i])
		}
	}
}

func sameFloats(a, b []float32) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			return false
		}
	}
	return true
}

func TestNewIsSeeded(t *testing.T) {
	a, b := tiny(t), tiny(t)
	if !sameFloats(a.w, b.w) {
		t.Error("one seed, two models")
	}
	c, err := New(tinyFiles(), 4)
	if err != nil {
		t.Fatal(err)
	}
	if sameFloats(a.w, c.w) {
		t.Error("two seeds, one model")
	}
	var sum float64
	p := a.layout.list[0]
	for _, v := range a.w[p.at : p.at+p.n] {
		sum += float64(v) * float64(v)
	}
	if rms := math.Sqrt(sum / float64(p.n)); rms < 0.09 || rms > 0.11 {
		t.Errorf("embeddings have RMS %v, want initializer_range, 0.1", rms)
	}
}

func TestOpenFaults(t *testing.T) {
	m := tiny(t)
	for name, c := range map[string]struct{ from, to, want string }{
		"type":       {`"model_type": "llama"`, `"model_type": "internlm2"`, "not trained here"},
		"vocabulary": {`"vocab_size": 40`, `"vocab_size": 20`, "the tokenizer has"},
		"size":       {`"hidden_size": 24`, `"hidden_size": 200000000`, "parameters"},
		"width":      {`"intermediate_size": 40`, `"intermediate_size": 268435456`, "parameters"},
		"depth":      {`"num_hidden_layers": 2`, `"num_hidden_layers": 100000`, "100000 layers"},
		"labels":     {`"vocab_size": 40`, `"vocab_size": 40, "num_labels": 3, "architectures": ["LlamaForSequenceClassification"]`, "num_labels is 3"},
	} {
		t.Run(name, func(t *testing.T) {
			files := tinyFiles()
			config := strings.Replace(tinyConfig, c.from, c.to, 1)
			if name == "labels" {
				config = strings.Replace(config, `"architectures": ["LlamaForCausalLM"], `, "", 1)
			}
			files["config.json"] = &fstest.MapFile{Data: []byte(config)}
			_, err := New(files, 1)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want %q in it", err, c.want)
			}
		})
	}
	c, err := m.Checkpoint("tiny")
	if err != nil {
		t.Fatal(err)
	}
	shards := c.Shards()
	shards[0].Tensors = shards[0].Tensors[2:]
	cut, err := checkpoint.New("cut", shards, c.Files())
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(context.Background(), cut)
	if err == nil || strings.Count(err.Error(), "is missing") != 2 {
		t.Errorf("error is %v, want both missing tensors named", err)
	}
}

func TestFloatsReadAt(t *testing.T) {
	x := floats{1, -2, 3.5, float32(math.Inf(1)), 5}
	whole := make([]byte, 20)
	if n, err := x.ReadAt(whole, 0); n != 20 || err != nil {
		t.Fatalf("ReadAt: %d, %v", n, err)
	}
	for off := range 21 {
		for size := range 24 {
			p := make([]byte, size)
			n, err := x.ReadAt(p, int64(off))
			if want := min(size, 20-off); n != want || (err == io.EOF) != (want < size) || string(p[:n]) != string(whole[off:off+n]) {
				t.Fatalf("ReadAt of %d at %d: %d, %v, %s", size, off, n, err, fmt.Sprint(p))
			}
		}
	}
}

// A reward model gives in package model the scores that it was trained with.
func TestRewardModelRuns(t *testing.T) {
	ctx := context.Background()
	m := tiny(t)
	data := somePairs(6)
	o := quick()
	if _, err := Reward(ctx, m, data, RewardOptions{Options: o}); err != nil {
		t.Fatal(err)
	}
	c, err := m.Checkpoint("reward")
	if err != nil {
		t.Fatal(err)
	}
	run, err := model.Load(ctx, c, model.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	if cfg := run.Config(); cfg.NumLabels != 1 || cfg.PadTokenID != 0 {
		t.Errorf("the checkpoint has %d labels and padding token %d, want 1 and 0", cfg.NumLabels, cfg.PadTokenID)
	}
	e, err := m.newEncoder(false, 64)
	if err != nil {
		t.Fatal(err)
	}
	var inputs [][]int
	var targets []target
	rows := 0
	for _, p := range data {
		s, err := e.scored(ctx, p.Prompt, nil, p.Chosen)
		if err != nil {
			t.Fatal(err)
		}
		inputs = append(inputs, s.tokens)
		targets = append(targets, target{row: rows + lastRead(s.tokens, m.cfg.PadTokenID)})
		rows += len(s.tokens)
	}
	want, err := run.Classify(ctx, inputs)
	if err != nil {
		t.Fatal(err)
	}
	team := newTeam(1)
	defer team.end()
	n := newNetwork(m.cfg, 1, m.layout, m.w, nil, 64, F32.format(), team)
	got := make([]float64, len(targets))
	n.forward(inputs)
	n.scores(targets, got)
	for i := range got {
		if math.Abs(got[i]-float64(want[i][0])) > 1e-5 {
			t.Errorf("pair %d: score %v, package model says %v", i, got[i], want[i][0])
		}
	}
}
