package checkpoint

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"expo/weights/checkpoint/checkpointtest"
	"expo/weights/tensor"
)

func TestOpen(t *testing.T) {
	m := pair(t, 1)
	dir := t.TempDir()
	m.Write(t, dir)
	c := mustOpen(t, dir)
	if c.Name() != dir || c.Len() != len(m.Tensors) {
		t.Errorf("name %q, %d tensors, want %q, %d", c.Name(), c.Len(), dir, len(m.Tensors))
	}
	for _, want := range m.Tensors {
		got, ok := c.Tensor(want.Name)
		if !ok || string(checkpointtest.Bytes(got)) != string(checkpointtest.Bytes(want)) {
			t.Errorf("%s: found %v, or other bytes", want.Name, ok)
		}
	}
	if _, ok := c.Tensor("model.nothing"); ok {
		t.Error("a tensor that is not there was found")
	}
	var parameters int64
	for _, x := range m.Tensors {
		parameters += x.Elements()
	}
	if got := c.Parameters(); got != parameters {
		t.Errorf("%d parameters, want %d", got, parameters)
	}
	s := c.Sources()
	if len(s) != 1 || s[0].File != "model.safetensors" || s[0].SHA256 != "" || s[0].Size == 0 || s[0].ModTime.IsZero() {
		t.Errorf("sources %+v", s)
	}
	if h, ok := c.Head(); !ok || h != "lm_head.weight" {
		t.Errorf("head %q, %v", h, ok)
	}
	if e, ok := c.Embedding(); !ok || e != "model.embed_tokens.weight" {
		t.Errorf("embedding %q, %v", e, ok)
	}
	b, err := fs.ReadFile(c.Files(), "tokenizer.json")
	if err != nil || string(b) != m.Files["tokenizer.json"] {
		t.Errorf("tokenizer.json: %v", err)
	}
	// Breaking off the loop must be possible.
	for range c.Tensors() {
		break
	}
}

func TestOpenSharded(t *testing.T) {
	m := pair(t, 3)
	dir := t.TempDir()
	m.Write(t, dir)
	c := mustOpen(t, dir)
	var names []string
	for _, s := range c.Shards() {
		names = append(names, s.File)
	}
	want := []string{"model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"}
	if !slices.Equal(names, want) || len(c.Sources()) != 3 || c.Len() != len(m.Tensors) {
		t.Errorf("shards %v, %d sources, %d tensors, want %v, 3, %d", names, len(c.Sources()), c.Len(), want, len(m.Tensors))
	}
}

func TestPrecedence(t *testing.T) {
	sharded := func(v float32) checkpointtest.Model {
		m := one("x", v)
		m.Tensors = append(m.Tensors, one("y", v).Tensors...)
		m.Shards = 2
		return m
	}
	tests := []struct {
		name  string
		write func(dir string)
		want  float32
		files int
	}{
		{"a single file before a stale index", func(dir string) { sharded(2).Write(t, dir); one("x", 1).Write(t, dir) }, 1, 1},
		{"safetensors before bin", func(dir string) { one("x", 2).WriteBin(t, dir); one("x", 1).Write(t, dir) }, 1, 1},
		{"sharded safetensors before bin", func(dir string) { one("x", 2).WriteBin(t, dir); sharded(1).Write(t, dir) }, 1, 2},
		{"bin alone", func(dir string) { one("x", 1).WriteBin(t, dir) }, 1, 1},
		{"bin in shards", func(dir string) { sharded(1).WriteBin(t, dir) }, 1, 2},
		{"a single bin before a stale index", func(dir string) { sharded(2).WriteBin(t, dir); one("x", 1).WriteBin(t, dir) }, 1, 1},
		{"an adapter beside a whole model", func(dir string) {
			one("x", 1).Write(t, dir)
			checkpointtest.File(t, filepath.Join(dir, "adapter_model.safetensors"), "junk")
		}, 1, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			tt.write(dir)
			c := mustOpen(t, dir)
			x, ok := c.Tensor("x")
			if !ok || checkpointtest.Values(x)[0] != tt.want || len(c.Shards()) != tt.files {
				t.Errorf("x found: %v, %d files, want value %v from %d files", ok, len(c.Shards()), tt.want, tt.files)
			}
		})
	}
}

// TestOpenRefuses damages a model of three shards, or puts something else in
// its place.
func TestOpenRefuses(t *testing.T) {
	const index, first = "model.safetensors.index.json", "model-00001-of-00003.safetensors"
	tests := []struct {
		name   string
		damage func(dir string)
		want   []string
	}{
		{"missing shard", func(dir string) { remove(t, filepath.Join(dir, first)) }, []string{first, "download is incomplete"}},
		{"no index", func(dir string) { remove(t, filepath.Join(dir, index)) }, []string{first, "no model.safetensors.index.json", "incomplete"}},
		{"index is no JSON", func(dir string) { checkpointtest.File(t, filepath.Join(dir, index), "not json") }, []string{index, "not a valid index"}},
		{"index is empty", func(dir string) { checkpointtest.File(t, filepath.Join(dir, index), "") }, []string{index, "not a valid index"}},
		{"index is an array", func(dir string) { checkpointtest.File(t, filepath.Join(dir, index), "[]") }, []string{index, "not a valid index"}},
		{"index is {}", func(dir string) { checkpointtest.File(t, filepath.Join(dir, index), "{}") }, []string{index, "no weight_map"}},
		{"weight_map is empty", func(dir string) { checkpointtest.File(t, filepath.Join(dir, index), `{"weight_map": {}}`) }, []string{index, "no weight_map"}},
		{"weight_map is a list", func(dir string) { checkpointtest.File(t, filepath.Join(dir, index), `{"weight_map": ["a"]}`) }, []string{index, "not a valid index"}},
		{"weight_map has a number", func(dir string) { checkpointtest.File(t, filepath.Join(dir, index), `{"weight_map": {"a": 1}}`) }, []string{index, "not a valid index"}},
		{"weight_map has a null", func(dir string) {
			checkpointtest.File(t, filepath.Join(dir, index), `{"weight_map": {"a": null}}`)
		}, []string{index, `""`, "plain file name"}},
		{"weight_map goes up", func(dir string) {
			checkpointtest.File(t, filepath.Join(dir, index), `{"weight_map": {"a": "../x.safetensors"}}`)
		}, []string{index, `"../x.safetensors"`, "plain file name"}},
		{"weight_map is absolute", func(dir string) {
			checkpointtest.File(t, filepath.Join(dir, index), `{"weight_map": {"a": "/etc/passwd"}}`)
		}, []string{`"/etc/passwd"`}},
		{"weight_map goes down", func(dir string) {
			checkpointtest.File(t, filepath.Join(dir, index), `{"weight_map": {"a": "sub/x.safetensors"}}`)
		}, []string{`"sub/x.safetensors"`}},
		{"weight_map goes down a Windows path", func(dir string) {
			checkpointtest.File(t, filepath.Join(dir, index), `{"weight_map": {"a": "sub\\x", "b": "C:x", "c": ".."}}`)
		}, []string{`"sub\\x"`, `"C:x"`, `".."`}},
		{"weight_map names many", func(dir string) {
			var b strings.Builder
			for i := range 1000 {
				b.WriteString(`"t` + strings.Repeat("x", i) + `": "../` + strings.Repeat("x", i) + `",`)
			}
			checkpointtest.File(t, filepath.Join(dir, index), `{"weight_map": {`+strings.TrimSuffix(b.String(), ",")+`}}`)
		}, []string{"…"}},
		{"tensor of the index is in no shard", func(dir string) {
			b, _ := os.ReadFile(filepath.Join(dir, index))
			checkpointtest.File(t, filepath.Join(dir, index), strings.Replace(string(b), `"weight_map": {`, `"weight_map": {"ghost": "`+first+`",`, 1))
		}, []string{"1 of 22 tensors", `"ghost" (` + first + `)`}},
		{"tensor of the index is in another shard", func(dir string) {
			a, b := filepath.Join(dir, first), filepath.Join(dir, "model-00002-of-00003.safetensors")
			rename(t, a, filepath.Join(dir, "tmp"))
			rename(t, b, a)
			rename(t, filepath.Join(dir, "tmp"), b)
		}, []string{"of 21 tensors", "…"}},
		{"tensor in two shards", func(dir string) {
			b, err := os.ReadFile(filepath.Join(dir, first))
			if err != nil {
				t.Fatal(err)
			}
			checkpointtest.File(t, filepath.Join(dir, "model-00002-of-00003.safetensors"), string(b))
		}, []string{`tensor "model.`, first, "model-00002-of-00003.safetensors"}},
		{"shard is damaged", func(dir string) { checkpointtest.File(t, filepath.Join(dir, first), "xxxxxxxxxxxxxxx") }, []string{first}},
		{"shard is empty", func(dir string) { checkpointtest.File(t, filepath.Join(dir, first), "") }, []string{first, "empty"}},
		{"shard is a Git LFS pointer", func(dir string) {
			checkpointtest.File(t, filepath.Join(dir, first), "version https://git-lfs.github.com/spec/v1\noid sha256:"+strings.Repeat("0", 64)+"\nsize 123456\n")
		}, []string{first, "LFS"}},
		{"shard is a directory", func(dir string) {
			remove(t, filepath.Join(dir, first))
			checkpointtest.File(t, filepath.Join(dir, first, "x"), "")
		}, []string{first, "not a regular file"}},
		{"config.json is no JSON", func(dir string) { checkpointtest.File(t, filepath.Join(dir, "config.json"), "{") }, []string{"config.json", "not valid JSON"}},
		{"config.json is empty", func(dir string) { checkpointtest.File(t, filepath.Join(dir, "config.json"), "") }, []string{"config.json", "empty file"}},
		{"config.json is an array", func(dir string) { checkpointtest.File(t, filepath.Join(dir, "config.json"), "[1]") }, []string{"config.json", "not a JSON object"}},
		{"config.json is null", func(dir string) { checkpointtest.File(t, filepath.Join(dir, "config.json"), "null") }, []string{"config.json", "not a JSON object"}},
		{"config.json goes on", func(dir string) { checkpointtest.File(t, filepath.Join(dir, "config.json"), `{} {}`) }, []string{"config.json", "something follows"}},
		{"config.json is a directory", func(dir string) {
			remove(t, filepath.Join(dir, "config.json"))
			checkpointtest.File(t, filepath.Join(dir, "config.json", "x"), "")
		}, []string{"config.json"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			pair(t, 3).Write(t, dir)
			tt.damage(dir)
			c, err := Open(dir)
			if err == nil {
				c.Close()
			}
			wantError(t, err, append(tt.want, dir)...)
			if len(err.Error()) > 2000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestOpenNoModel(t *testing.T) {
	tests := []struct {
		name  string
		files []string
		want  []string
	}{
		{"empty", nil, []string{"holds no model.safetensors"}},
		{"adapter", []string{"adapter_config.json", "adapter_model.safetensors"}, []string{"PEFT adapter", "merge_and_unload"}},
		{"old adapter", []string{"adapter_model.bin"}, []string{"PEFT adapter"}},
		{"gguf", []string{"model-q4_k_m.gguf", "README.md"}, []string{`found instead "model-q4_k_m.gguf"`}},
		{"original", []string{"consolidated.00.pth", "params.json"}, []string{`found instead "consolidated.00.pth"`}},
		{"consolidated", []string{"consolidated.safetensors"}, []string{`found instead "consolidated.safetensors"`}},
		{"variant", []string{"model.fp16.safetensors"}, []string{`found instead "model.fp16.safetensors"`}},
		{"many", []string{"a.bin", "b.bin", "c.bin", "d.bin", "e.bin", "f.bin"}, []string{`"a.bin"`, `"e.bin"`, "…"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, f := range tt.files {
				checkpointtest.File(t, filepath.Join(dir, f), "{}")
			}
			_, err := Open(dir)
			wantError(t, err, append(tt.want, dir)...)
		})
	}
	_, err := Open(filepath.Join(t.TempDir(), "absent"))
	wantError(t, err, "absent")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v does not wrap fs.ErrNotExist", err)
	}
	file := filepath.Join(t.TempDir(), "model.safetensors")
	checkpointtest.File(t, file, "x")
	_, err = Open(file)
	wantError(t, err, "is a file")
}

func TestOpenWithoutConfig(t *testing.T) {
	m := one("x", 1)
	m.Config = ""
	dir := t.TempDir()
	m.Write(t, dir)
	c := mustOpen(t, dir).Config()
	if c.Exists() || c.Fields() != nil {
		t.Errorf("a config.json appeared from nowhere: %q", c.Raw())
	}
	if _, ok := c.DType(); ok {
		t.Error("a missing config.json declares a dtype")
	}
	if b, err := c.Edited(tensor.BF16); b != nil || err != nil {
		t.Errorf("edited: %q, %v", b, err)
	}
}

func TestOpenFile(t *testing.T) {
	dir := t.TempDir()
	one("x", 1).Write(t, dir)
	one("x", 2).WriteBin(t, dir)
	// Without an ending of its own the content decides.
	for from, to := range map[string]string{"model.safetensors": "weights", "pytorch_model.bin": "weights2"} {
		b, err := os.ReadFile(filepath.Join(dir, from))
		if err != nil {
			t.Fatal(err)
		}
		checkpointtest.File(t, filepath.Join(dir, to), string(b))
	}
	for name, want := range map[string]float32{"model.safetensors": 1, "pytorch_model.bin": 2, "weights": 1, "weights2": 2} {
		c, err := OpenFile(filepath.Join(dir, name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		x, _ := c.Tensor("x")
		if got := checkpointtest.Values(x)[0]; got != want || c.Config().Exists() || len(c.Sources()) != 1 {
			t.Errorf("%s: %v, config %v, want %v and none", name, got, c.Config().Exists(), want)
		}
		if small, err := c.SmallFiles(); err != nil || len(small) != 0 {
			t.Errorf("%s: small files %v, %v", name, small, err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if err := c.Close(); err != nil {
			t.Errorf("closing twice: %v", err)
		}
	}
	_, err := OpenFile(filepath.Join(dir, "nothing"))
	wantError(t, err, "nothing")
	_, err = OpenFile(dir)
	wantError(t, err, dir, "not a regular file")
	_, err = OpenFile(filepath.Join(dir, "config.json"))
	wantError(t, err, "config.json")
}

func TestChanged(t *testing.T) {
	dir := t.TempDir()
	pair(t, 2).Write(t, dir)
	c := mustOpen(t, dir)
	if err := c.Changed(); err != nil {
		t.Errorf("nothing has changed, but: %v", err)
	}
	path := filepath.Join(dir, "model-00002-of-00002.safetensors")
	if err := os.Chtimes(path, time.Time{}, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	wantError(t, c.Changed(), "model-00002-of-00002.safetensors", "was changed")
	d, err := c.Dequantize()
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, d.Changed(), "was changed")
}

func TestNew(t *testing.T) {
	x := checkpointtest.Floats("x", tensor.F32, nil, []float32{1})
	c, err := New("made", []Shard{{File: "a", Tensors: []tensor.Tensor{x}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Len() != 1 || c.Sources() != nil || c.Changed() != nil || c.Close() != nil || c.Config().Exists() {
		t.Errorf("%d tensors, sources %v", c.Len(), c.Sources())
	}
	_, err = New("made", []Shard{{File: "a", Tensors: []tensor.Tensor{x}}, {File: "b", Tensors: []tensor.Tensor{x}}}, nil)
	wantError(t, err, "made", `"x"`, "in a and again in b")
	_, err = New("made", nil, Overlay(nil, map[string][]byte{"config.json": []byte("[]")}))
	wantError(t, err, "made", "config.json", "not a JSON object")
}

func TestHead(t *testing.T) {
	tests := []struct {
		names           []string
		head, embedding string
	}{
		{[]string{"lm_head.weight", "model.embed_tokens.weight"}, "lm_head.weight", "model.embed_tokens.weight"},
		{[]string{"transformer.wte.weight", "transformer.h.0.attn.weight"}, "", "transformer.wte.weight"},
		{[]string{"embed_out.weight", "gpt_neox.embed_in.weight"}, "embed_out.weight", "gpt_neox.embed_in.weight"},
		{[]string{"output.weight", "tok_embeddings.weight", "layers.0.attention.output.weight"}, "output.weight", "tok_embeddings.weight"},
		{[]string{"language_model.lm_head.weight", "mtp.layers.0.lm_head.weight", "language_model.model.embed_tokens.weight", "mtp.layers.0.embed_tokens.weight"},
			"language_model.lm_head.weight", "language_model.model.embed_tokens.weight"},
		{[]string{"a.output.weight", "some_lm_head.weight", "lm_head.weights"}, "", ""},
	}
	for _, tt := range tests {
		var ts []tensor.Tensor
		for _, n := range tt.names {
			ts = append(ts, checkpointtest.Floats(n, tensor.F32, nil, []float32{1}))
		}
		c, err := New("made", []Shard{{Tensors: ts}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		head, _ := c.Head()
		embedding, _ := c.Embedding()
		if head != tt.head || embedding != tt.embedding {
			t.Errorf("%v: head %q, embedding %q, want %q, %q", tt.names, head, embedding, tt.head, tt.embedding)
		}
	}
	if !named("lm_head.weight", headNames, true) || named("model.norm.weight", headNames, true) {
		t.Error("names of heads")
	}
}

func TestIndexOfAnotherKind(t *testing.T) {
	for doc, want := range map[string]string{
		`["a"]`:                     "the file is a JSON array",
		`{"weight_map": 3}`:         "weight_map is a JSON number",
		`{"weight_map": {"a": []}}`: "weight_map is a JSON array",
		`{`:                         "not a valid index",
	} {
		if _, err := parseIndex([]byte(doc)); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "Go ") {
			t.Errorf("%s: error %v, want one with %q", doc, err, want)
		}
	}
}
