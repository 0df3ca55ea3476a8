package export

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"expo/lm/model"
	"expo/weights/checkpoint"
	"expo/weights/checkpoint/checkpointtest"
	"expo/weights/gguf"
	"expo/weights/tensor"
)

// rows of every test model's embedding.
const testRows = 300

// testConfig is the config.json of a small model with some keys changed.
func testConfig(t testing.TB, modelType string, keys map[string]any) []byte {
	t.Helper()
	c := map[string]any{
		"architectures": []string{"XForCausalLM"}, "model_type": modelType, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
		"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": testRows, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
		"rope_theta": 10000.0, "tie_word_embeddings": false, "bos_token_id": 1, "eos_token_id": 2, "sliding_window": nil,
	}
	maps.Copy(c, keys)
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// llamaTokenizer is a tokenizer.json of the Llama family's kind with a piece for
// each byte and a few merges.
func llamaTokenizer(normalizer string) string {
	vocab := []string{`"<unk>":0`, `"<s>":1`, `"</s>":2`}
	for i := range 256 {
		vocab = append(vocab, fmt.Sprintf(`"<0x%02X>":%d`, i, i+3))
	}
	for _, piece := range []string{"▁", "t", "h", "e", "a", "o", "w", "▁t", "he", "▁the", "wo", "▁a"} {
		vocab = append(vocab, fmt.Sprintf(`%q:%d`, piece, len(vocab)))
	}
	added := make([]string, 3)
	for i, s := range []string{"<unk>", "<s>", "</s>"} {
		added[i] = fmt.Sprintf(`{"id":%d,"content":%q,"special":true,"single_word":false,"lstrip":false,"rstrip":false,"normalized":false}`, i, s)
	}
	return `{"version":"1.0","added_tokens":[` + strings.Join(added, ",") + `],"normalizer":` + normalizer + `,"pre_tokenizer":null,
"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[],"special_tokens":{"<s>":{"id":"<s>","ids":[1],"tokens":["<s>"]}}},
"decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"▁"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"}]},
"model":{"type":"BPE","unk_token":"<unk>","fuse_unk":true,"byte_fallback":true,"vocab":{` + strings.Join(vocab, ",") + `},"merges":["▁ t","h e","▁t he","w o","▁ a"]}}`
}

const prependSpace = `{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]}`

func testFiles(config []byte) fstest.MapFS {
	return fstest.MapFS{
		"config.json":           {Data: config},
		"tokenizer.json":        {Data: []byte(llamaTokenizer(prependSpace))},
		"tokenizer_config.json": {Data: []byte(`{"bos_token":"<s>","eos_token":"</s>","unk_token":"<unk>"}`)},
	}
}

// testModel is a model with random weights of the type d. change, if it is not
// nil, edits its tensors.
func testModel(t testing.TB, modelType string, keys map[string]any, d tensor.DType, seed uint64, change func([]tensor.Tensor) []tensor.Tensor) *checkpoint.Checkpoint {
	t.Helper()
	config := testConfig(t, modelType, keys)
	parsed, err := checkpoint.ParseConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := model.ParseConfig(parsed)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(seed, 9))
	seen := map[string]bool{}
	var ts []tensor.Tensor
	for _, p := range parts(cfg) {
		if p.values != nil || seen[p.source] {
			continue
		}
		seen[p.source] = true
		shape := []int{p.stored, p.cols}
		if p.vector {
			shape = shape[:1]
		}
		n := p.stored
		if !p.vector {
			n *= p.cols
		}
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(rng.NormFloat64() * 0.3)
			if p.vector && strings.Contains(p.name, "norm") {
				x[i]++
			}
		}
		ts = append(ts, checkpointtest.Floats(p.source, d, shape, x))
	}
	if change != nil {
		ts = change(ts)
	}
	return testCheckpoint(t, ts, testFiles(config))
}

func testCheckpoint(t testing.TB, ts []tensor.Tensor, files fs.FS) *checkpoint.Checkpoint {
	t.Helper()
	c, err := checkpoint.New("test", []checkpoint.Shard{{File: "model.safetensors", Tensors: ts}}, files)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// openGGUF reads a file.
func openGGUF(t testing.TB, path string) *gguf.Reader {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	r, err := gguf.NewReader(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// testdata is a folder of data that is not kept here.
func testdata(t testing.TB, path string) string {
	t.Helper()
	root := os.Getenv("EXPO_TESTDATA")
	if root == "" {
		root = "../../../shared/data"
	}
	full := filepath.Join(root, path)
	if _, err := os.Stat(full); err != nil {
		t.Skipf("EXPO_TESTDATA: no %s", path)
	}
	return full
}
