package checkpoint

import (
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"expo/weights/checkpoint/checkpointtest"
	"expo/weights/tensor"
)

func TestOverlay(t *testing.T) {
	base := fstest.MapFS{
		"config.json":    {Data: []byte("base")},
		"tokenizer.json": {Data: []byte("tok")},
		"gone.txt":       {Data: []byte("gone")},
		"sub/a.txt":      {Data: []byte("a")},
	}
	o := Overlay(base, map[string][]byte{
		"config.json": []byte("new"), "expo.json": []byte("{}"), "empty": {}, "gone.txt": nil, "never.txt": nil,
		"sub/a.txt": []byte("not on top"), ".": []byte("x"), "": []byte("x"), "..": []byte("x"),
	})
	want := map[string]string{"config.json": "new", "expo.json": "{}", "empty": "", "tokenizer.json": "tok", "sub/a.txt": "a"}
	for name, text := range want {
		if b, err := fs.ReadFile(o, name); err != nil || string(b) != text {
			t.Errorf("%s: %q, %v, want %q", name, b, err, text)
		}
	}
	for _, name := range []string{"gone.txt", "never.txt", "sub/b.txt"} {
		if _, err := fs.Stat(o, name); !isNotExist(err) {
			t.Errorf("%s: %v, want that it does not exist", name, err)
		}
	}
	if err := fstest.TestFS(o, "config.json", "expo.json", "empty", "tokenizer.json", "sub/a.txt"); err != nil {
		t.Error(err)
	}
	if got := walk(t, o); got != "config.json empty expo.json sub/a.txt tokenizer.json" {
		t.Errorf("walked %q", got)
	}
}

func TestOverlayWithoutBase(t *testing.T) {
	for _, files := range []map[string][]byte{nil, {"a.json": []byte("a"), "b.json": nil}} {
		o := Overlay(nil, files)
		var want []string
		if files != nil {
			want = []string{"a.json"}
		}
		if err := fstest.TestFS(o, want...); err != nil {
			t.Error(err)
		}
		if got := walk(t, o); got != strings.Join(want, " ") {
			t.Errorf("walked %q, want %q", got, want)
		}
		if _, err := fs.ReadDir(o, "sub"); !isNotExist(err) {
			t.Errorf("a folder that is not there: %v", err)
		}
		d, err := o.Open(".")
		if err != nil {
			t.Fatal(err)
		}
		if n, err := d.Read(make([]byte, 1)); n != 0 || err == nil || err == io.EOF {
			t.Errorf("reading a folder: %d, %v", n, err)
		}
	}
}

// TestOverlayOfDirectory lays files over a model on disk.
func TestOverlayOfDirectory(t *testing.T) {
	dir := t.TempDir()
	pair(t, 1).Write(t, dir)
	o := Overlay(mustOpen(t, dir).Files(), map[string][]byte{"config.json": []byte("{}")})
	if err := fstest.TestFS(o, "config.json", "tokenizer.json"); err != nil {
		t.Error(err)
	}
}

func isNotExist(err error) bool {
	pe, ok := err.(*fs.PathError)
	return ok && pe.Err == fs.ErrNotExist
}

func walk(t *testing.T, fsys fs.FS) string {
	t.Helper()
	var names []string
	err := fs.WalkDir(fsys, ".", func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return strings.Join(names, " ")
}

func TestSmallFiles(t *testing.T) {
	keep := []string{
		"config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json",
		"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "tokenizer.model", "added_tokens.json", "vocab.json",
		"merges.txt", "spiece.model", "chat_template.jinja", "chat_template.json", "additional_chat_templates/tool.jinja",
		"modeling_custom.py", "configuration_custom.py", "custom/deep/module.py",
		"LICENSE", "LICENSE.txt", "NOTICE", "USE_POLICY.md", "1_Pooling/config.json", "tiktoken.model", "vocab.txt", "tekken.json",
	}
	leave := []string{
		"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
		"model-00001-of-00002.safetensors", "pytorch_model-00001-of-00002.bin", "model.safetensors.index.fp16.json", "model.fp16.safetensors",
		"optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt", "rng_state.pth", "rng_state_0.pth", "training_args.bin", "trainer_state.json",
		"events.out.tfevents.1690000000.host.1.0", "runs/Jan01/events.out.tfevents.1", "global_step100/mp_rank_00_model_states.pt", "latest",
		"zero_to_fp32.py", "all_results.json", "train_results.json", "eval_results.json", "trainer_log.jsonl",
		"original/consolidated.00.pth", "original/params.json", "original/tokenizer.model", "checkpoint-500/config.json", "onnx/config.json", "onnx/model.onnx",
		"model-q4.gguf", "ggml-model.ggml", "tf_model.h5", "flax_model.msgpack", "rust_model.ot", "model.npz", "consolidated.00.pth", "model.onnx", "model.onnx_data",
		"README.md", "readme.md", ".gitattributes", ".git/config", ".cache/huggingface/download/config.json.metadata", ".expo/x",
		"expo.json", "__pycache__/modeling_custom.cpython-312.pyc", "tokenizer.json.incomplete", "x.lock", "x.tmp", "ADAPTER.SAFETENSORS",
	}
	dir := t.TempDir()
	for _, name := range append(append([]string(nil), keep...), leave...) {
		checkpointtest.File(t, dir+"/"+name, "{}")
	}
	one("x", 1).Write(t, dir)
	remove(t, dir+"/pytorch_model.bin")
	got, err := mustOpen(t, dir).SmallFiles()
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[string]bool)
	for _, name := range keep {
		want[name] = true
	}
	if g := strings.Join(got, " "); g != keysOf(want) {
		t.Errorf("got  %s\nwant %s", g, keysOf(want))
	}
	c, err := New("made", []Shard{{Tensors: []tensor.Tensor{checkpointtest.Floats("x", tensor.F32, nil, []float32{1})}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.SmallFiles(); err != nil || len(got) != 0 {
		t.Errorf("of a computed checkpoint: %v, %v", got, err)
	}
}
