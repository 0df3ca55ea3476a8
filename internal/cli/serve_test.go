//go:build unix

package cli_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"expo/weights/safetensors"
	"expo/weights/tensor"
)

// speakingPair makes two models of one layer that speak ASCII, a character a
// token.
func speakingPair(t *testing.T) (sft, aligned string) {
	t.Helper()
	vocab := map[string]int{"<s>": 0, "</s>": 1, "Ġ": 2, "Ċ": 3}
	for c := '!'; c <= '~'; c++ {
		vocab[string(c)] = len(vocab)
	}
	const h = 8
	type object = map[string]any
	bytelevel := object{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}
	special := func(id int, s string) object {
		return object{"id": id, "content": s, "special": true, "normalized": false, "single_word": false, "lstrip": false, "rstrip": false}
	}
	files := map[string]object{
		"config.json": {
			"model_type": "llama", "architectures": []string{"LlamaForCausalLM"}, "hidden_size": h, "intermediate_size": 16,
			"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": len(vocab), "max_position_embeddings": 256,
			"rms_norm_eps": 1e-5, "bos_token_id": 0, "eos_token_id": 1, "tie_word_embeddings": true,
		},
		"tokenizer.json": {
			"version": "1.0", "added_tokens": []any{special(0, "<s>"), special(1, "</s>")}, "normalizer": nil,
			"pre_tokenizer": bytelevel, "decoder": bytelevel, "post_processor": nil,
			"model": object{"type": "BPE", "vocab": vocab, "merges": []string{}},
		},
		"tokenizer_config.json": {"bos_token": "<s>", "eos_token": "</s>"},
	}
	dir := t.TempDir()
	for seed, side := range []string{"sft", "aligned"} {
		base, moved := rand.New(rand.NewPCG(1, 1)), rand.New(rand.NewPCG(2, 2))
		var ts []tensor.Tensor
		add := func(name string, shape ...int) {
			n := 1
			for _, d := range shape {
				n *= d
			}
			var b []byte
			for range n {
				x := float32(0.6*base.NormFloat64() + float64(seed)*0.1*moved.NormFloat64())
				b = append(b, byte(math.Float32bits(x)), byte(math.Float32bits(x)>>8), byte(math.Float32bits(x)>>16), byte(math.Float32bits(x)>>24))
			}
			ts = append(ts, tensor.Tensor{Name: name + ".weight", DType: tensor.F32, Shape: shape, Data: tensor.Bytes(b)})
		}
		add("model.embed_tokens", len(vocab), h)
		for _, name := range []string{"q", "k", "v", "o"} {
			add("model.layers.0.self_attn."+name+"_proj", h, h)
		}
		add("model.layers.0.mlp.gate_proj", 16, h)
		add("model.layers.0.mlp.up_proj", 16, h)
		add("model.layers.0.mlp.down_proj", h, 16)
		add("model.layers.0.input_layernorm", h)
		add("model.layers.0.post_attention_layernorm", h)
		add("model.norm", h)
		safetensors.Sort(ts)
		var b bytes.Buffer
		if err := safetensors.Write(&b, ts, map[string]string{"format": "pt"}); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, side)
		if err := os.Mkdir(path, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "model.safetensors"), b.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
		if side == "aligned" {
			// The template comes with the second training, as it often does.
			files["tokenizer_config.json"]["chat_template"] = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
		}
		for name, doc := range files {
			b, err := json.Marshal(doc)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(path, name), b, 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
	return filepath.Join(dir, "sft"), filepath.Join(dir, "aligned")
}

// ask posts to a server.
func ask(t *testing.T, url, body string) map[string]any {
	t.Helper()
	r, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(b, &doc); err != nil || r.StatusCode != 200 {
		t.Fatalf("%s: %d %s", body, r.StatusCode, b)
	}
	return doc
}

// TestServe starts a server, asks it as clients and harnesses do, and ends it.
func TestServe(t *testing.T) {
	sft, aligned := speakingPair(t)
	keys := filepath.Join(t.TempDir(), "keys")
	for _, c := range []struct {
		name string
		args []string
	}{
		{"pair", []string{"--sft", sft, "--aligned", aligned, "--alpha", "0.5"}},
		{"dressed", []string{"--sft", sft, "--aligned", aligned, "--chat-template", "chatml", "--json"}},
		{"single", []string{sft, "--chat-template", "chatml", "--quantize", "q8_0", "--kv-memory", "64KB"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := program(t, append([]string{"serve", "--listen", "127.0.0.1:0", "--votes", filepath.Join(t.TempDir(), "v.jsonl")}, c.args...)...)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Process.Kill()
			lines := bufio.NewReader(out)
			url, err := lines.ReadString('\n')
			if err != nil {
				t.Fatalf("no address: %v\n%s", err, stderr.String())
			}
			if c.name == "dressed" {
				var doc struct{ URL string }
				if err := json.Unmarshal([]byte(url), &doc); err != nil {
					t.Fatalf("%v: %s", err, url)
				}
				url = doc.URL
			}
			// Once it is told, it answers.
			url = strings.TrimSpace(url)
			if r, err := http.Get(url + "/health"); err != nil || r.StatusCode != 200 {
				t.Fatalf("health: %v %v", r, err)
			}
			model := ""
			if c.name == "pair" {
				likelihoods(t, url, sft)
				model = `"model":"sft",`
			}
			if doc := ask(t, url+"/v1/chat/completions", `{`+model+`"messages":[{"role":"user","content":"hi"}],"max_tokens":3,"ignore_eos":true}`); doc["object"] != "chat.completion" {
				t.Errorf("%v", doc)
			}
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- cmd.Wait() }()
			select {
			case err := <-done:
				if err != nil {
					t.Errorf("after ^C: %v\n%s", err, stderr.String())
				}
			case <-time.After(20 * time.Second):
				t.Fatal("^C does not end it")
			}
			memory := "memory for keys and values: "
			if c.name == "single" {
				memory += "64 KB, 960 tokens\n"
			}
			if !strings.Contains(stderr.String(), memory) {
				t.Errorf("no %q on standard error:\n%s", memory, stderr.String())
			}
			if s := stderr.String(); strings.Contains(s, "secret") || strings.Contains(s, "panic") {
				t.Errorf("the log says\n%s", s)
			}
		})
	}

	// With keys, others may be listened to.
	if err := os.WriteFile(keys, []byte("# for tests\nopen sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := program(t, "serve", sft, "--listen", "127.0.0.1:0", "--api-key-file", keys, "-q")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest("GET", strings.TrimSpace(url)+"/v1/models", nil)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]int{"": 401, "Bearer open sesame": 200} {
		req.Header.Set("Authorization", key)
		r, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != want {
			t.Errorf("key %q: %d, want %d", key, r.StatusCode, want)
		}
	}
}

// likelihoods compares what a server says of a text with expo score.
func likelihoods(t *testing.T, url, model string) {
	t.Helper()
	const prompt, continuation = "secret words and", " what follows"
	cmd := program(t, "score", model)
	cmd.Stdin = strings.NewReader(fmt.Sprintf(`{"prompt":%q,"continuation":%q}`, prompt, continuation))
	b, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		TokenLogprobs []float64 `json:"token_logprobs"`
		TokenIDs      []int     `json:"token_ids"`
	}
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	doc := ask(t, url+"/v1/completions", fmt.Sprintf(`{"model":"sft","prompt":%q,"echo":true,"logprobs":1,"max_tokens":1,"temperature":0}`, prompt+continuation))
	choice := doc["choices"].([]any)[0].(map[string]any)
	got := choice["logprobs"].(map[string]any)["token_logprobs"].([]any)
	got = got[len(got)-1-len(want.TokenIDs) : len(got)-1]
	for i, w := range want.TokenLogprobs {
		if g := got[i].(float64); g != w {
			t.Errorf("token %d: the server says %v, expo score %v", i, g, w)
		}
	}
	// The one token that is generated along is the one that generating gives.
	text := choice["text"].(string)
	doc = ask(t, url+"/v1/completions", fmt.Sprintf(`{"model":"sft","prompt":%q,"max_tokens":1,"temperature":0}`, prompt+continuation))
	if bare := doc["choices"].([]any)[0].(map[string]any)["text"]; text != prompt+continuation+bare.(string) {
		t.Errorf("echoed %q, generated %q", text, bare)
	}
	// The ends of the dial are the ends of the pair.
	answer := func(model string) any {
		doc := ask(t, url+"/v1/completions", fmt.Sprintf(`{"model":%q,"prompt":"abc","max_tokens":40,"temperature":0,"ignore_eos":true}`, model))
		return doc["choices"].([]any)[0].(map[string]any)["text"]
	}
	for end, name := range map[string]string{"expo@-1": "sft", "expo@0": "aligned", "expo@0.5": "expo"} {
		if a, b := answer(end), answer(name); a != b {
			t.Errorf("%s answers %q, %s %q", end, a, name, b)
		}
	}
}
