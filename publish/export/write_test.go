package export

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"expo/internal/quant"
	"expo/lm/model"
	"expo/weights/checkpoint"
	"expo/weights/checkpoint/checkpointtest"
	"expo/weights/gguf"
	"expo/weights/tensor"
)

// write exports one file and returns its path.
func write(t testing.TB, c *checkpoint.Checkpoint, typ Type, opt Options) (string, *Written) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.gguf")
	w, err := Write(context.Background(), []File{{Path: path, Type: typ, Weights: c}}, opt)
	if err != nil {
		t.Fatal(err)
	}
	return path, w
}

func logits(t testing.TB, m *model.Model, ids []int) [][]float32 {
	t.Helper()
	out := make([][]float32, len(ids))
	step := model.Step{Cache: m.NewCache(), Tokens: ids, Logits: func(i int, l []float32) { out[i] = slices.Clone(l) }}
	for i := range ids {
		step.Want = append(step.Want, i)
	}
	if err := m.Forward(context.Background(), []model.Step{step}); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestRuns loads exported files and compares what they compute with what the
// checkpoint does: rows in another order would show.
func TestRuns(t *testing.T) {
	llama3 := map[string]any{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32, "rope_theta": 10000.0}
	for _, c := range []struct {
		name, modelType string
		keys            map[string]any
	}{
		{"llama", "llama", nil},
		{"tied", "llama", map[string]any{"tie_word_embeddings": true}},
		{"biases", "llama", map[string]any{"attention_bias": true, "mlp_bias": true}},
		{"head_dim", "llama", map[string]any{"head_dim": 32}},
		{"mistral", "mistral", map[string]any{"sliding_window": 5}},
		{"qwen2", "qwen2", map[string]any{"tie_word_embeddings": true}},
		{"internlm2", "internlm2", nil},
		{"internlm2 biases", "internlm2", map[string]any{"bias": true}},
		{"linear", "llama", map[string]any{"rope_scaling": map[string]any{"type": "linear", "factor": 4.0}}},
		{"llama3", "llama", map[string]any{"rope_parameters": llama3}},
		{"yarn", "llama", map[string]any{"rope_scaling": map[string]any{"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "attention_factor": 1.3}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ck := testModel(t, c.modelType, c.keys, tensor.F32, 1, nil)
			path, _ := write(t, ck, F32, Options{})
			a, err := model.Load(context.Background(), ck, model.LoadOptions{Jobs: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			b, err := model.LoadGGUF(context.Background(), openGGUF(t, path), model.LoadOptions{Jobs: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			ids := []int{1, 5, 77, 204, 299, 3, 3, 8, 150, 41, 17, 99}
			x, y := logits(t, a, ids), logits(t, b, ids)
			for i := range x {
				for k := range x[i] {
					// Frequencies and factors lose digits on their way.
					if d := math.Abs(float64(x[i][k] - y[i][k])); d > 2e-4 || d > 0 && !strings.Contains("llama3 yarn linear", c.name) {
						t.Fatalf("position %d, logit %d: %v from the checkpoint, %v from the file", i, k, x[i][k], y[i][k])
					}
				}
			}
		})
	}
}

// TestBlocks checks that every tensor is the reference quantizer's of the float32
// values, and what the report says of them.
func TestBlocks(t *testing.T) {
	ck := testModel(t, "llama", map[string]any{"hidden_size": 256, "intermediate_size": 288, "num_attention_heads": 4}, tensor.F32, 2, nil)
	full, _ := write(t, ck, F32, Options{})
	values := openGGUF(t, full)
	for _, typ := range Types() {
		path, w := write(t, ck, typ, Options{})
		r := openGGUF(t, path)
		if n, _ := r.Metadata().Int("general.file_type"); uint32(n) != types[typ].fileType {
			t.Errorf("%v: general.file_type is %d", typ, n)
		}
		if r.Len() != values.Len() {
			t.Fatalf("%v: %d tensors, want %d", typ, r.Len(), values.Len())
		}
		count := map[string]int{}
		var theta2, error2 float64
		for got := range r.Tensors() {
			count[got.Type.String()]++
			v, _ := values.Tensor(got.Name)
			plain, ok := v.Plain()
			if !ok {
				t.Fatalf("%s is %v in the F32 file", v.Name, v.Type)
			}
			x := make([]float32, plain.Elements())
			if err := plain.ReadFloat32(x, 0); err != nil {
				t.Fatal(err)
			}
			want := make([]byte, got.Size)
			y := make([]float32, len(x))
			switch f := blocks[got.Type]; {
			case got.Type == gguf.F32:
				want = checkpointtest.Bytes(plain)
				copy(y, x)
			case f != quant.None:
				quant.Quantize(want, x, f)
				quant.Dequantize(y, want, f)
			default:
				want = checkpointtest.Bytes(checkpointtest.Floats("x", got.Type.DType(), plain.Shape, x))
				if err := (tensor.Tensor{DType: got.Type.DType(), Shape: plain.Shape, Data: tensor.Bytes(want)}).ReadFloat32(y, 0); err != nil {
					t.Fatal(err)
				}
			}
			have := make([]byte, got.Size)
			if err := tensor.ReadFull(got.Data, have, 0); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(have, want) {
				t.Errorf("%v: %s, %v: other bytes than the reference's", typ, got.Name, got.Type)
			}
			if len(got.Shape) > 1 {
				for i := range x {
					d := float64(y[i]) - float64(x[i])
					theta2 += float64(x[i]) * float64(x[i])
					error2 += d * d
				}
			}
		}
		f := w.Files[0]
		if fmt.Sprint(f.Tensors) != fmt.Sprint(count) {
			t.Errorf("%v: report %v, file %v", typ, f.Tensors, count)
		}
		if want := math.Sqrt(error2 / theta2); math.Abs(f.RelativeError-want) > 1e-9 {
			t.Errorf("%v: relative error %v, want %v", typ, f.RelativeError, want)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() != f.Bytes || f.Alpha != nil || f.EffectiveAlpha != nil {
			t.Errorf("%v: %d bytes, report %+v", typ, info.Size(), f)
		}
	}
}

// pairOf is a pair, as float32 views are, and the model at α.
func pairOf(t testing.TB, alpha float32) (sft, aligned, at *checkpoint.Checkpoint) {
	t.Helper()
	sft = testModel(t, "llama", nil, tensor.F32, 3, nil)
	mix := func(a float32) *checkpoint.Checkpoint {
		i := 0
		return testModel(t, "llama", nil, tensor.F32, 3, func(ts []tensor.Tensor) []tensor.Tensor {
			for k, x := range ts {
				v := checkpointtest.Values(x)
				for j := range v {
					i++
					delta := float32(math.Sin(float64(i))) * 1e-3
					v[j] = (v[j] + delta) + a*delta
				}
				ts[k] = checkpointtest.Floats(x.Name, tensor.F32, x.Shape, v)
			}
			return ts
		})
	}
	return sft, mix(0), mix(alpha)
}

func TestEffectiveAlpha(t *testing.T) {
	sft, aligned, at := pairOf(t, 0.5)
	alpha := 0.5
	dir := t.TempDir()
	var files []File
	for _, typ := range Types() {
		files = append(files, File{Path: filepath.Join(dir, typ.String()), Type: typ, Weights: at, Alpha: &alpha})
	}
	zero := 0.0
	files = append(files, File{Path: filepath.Join(dir, "zero"), Type: F32, Weights: aligned, Alpha: &zero})
	opt := Options{Aligned: aligned, SFT: sft, Jobs: 3, BaseModels: []BaseModel{{Name: "b", Repo: "o/b", Revision: "abc"}, {Name: "s"}}, ChatTemplates: map[string]string{"default": "{{ x }}", "tool_use": "t"}}
	w, err := Write(context.Background(), files, opt)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range w.Files {
		if f.EffectiveAlpha == nil || f.Alpha == nil {
			t.Fatalf("%+v: no α", f)
		}
		// Sums of float32 are off by some 10⁻⁵ here.
		if d := math.Abs(*f.EffectiveAlpha - *files[i].Alpha); d > 4**f.AlphaNoise+1e-4 || *f.AlphaNoise > 1 {
			t.Errorf("%s: effective α %v, want %v, noise %v", f.Path, *f.EffectiveAlpha, *files[i].Alpha, *f.AlphaNoise)
		}
		alone := filepath.Join(dir, "alone"+f.Type)
		zero, err := Write(context.Background(), []File{{Path: alone, Type: files[i].Type, Weights: aligned}}, Options{Aligned: aligned, SFT: sft, Force: true})
		if err != nil {
			t.Fatal(err)
		}
		if *zero.Files[0].EffectiveAlpha != *f.AlphaOffset {
			t.Errorf("%s: an offset of %v, the aligned model's effective α is %v", f.Path, *f.AlphaOffset, *zero.Files[0].EffectiveAlpha)
		}
		md := openGGUF(t, f.Path).Metadata()
		for key, want := range map[string]any{
			"general.expo.alpha": *files[i].Alpha, "general.expo.effective_alpha": *f.EffectiveAlpha,
			"general.base_model.count": uint32(2), "general.base_model.0.repo_url": "https://huggingface.co/o/b", "general.base_model.0.organization": "o",
			"general.base_model.0.version": "abc", "general.base_model.1.name": "s", "general.architecture": "llama", "general.type": "model",
			"tokenizer.chat_template": "{{ x }}", "tokenizer.chat_template.tool_use": "t", "general.name": "test",
		} {
			if got := md.Value(key); got != want {
				t.Errorf("%s: %s is %v, want %v", f.Path, key, got, want)
			}
		}
	}
	// A file depends neither on what is written beside it nor on the workers.
	path := filepath.Join(dir, "again")
	opt.Jobs = 1
	if _, err := Write(context.Background(), []File{{Path: path, Type: Q4_K_M, Weights: at, Alpha: &alpha}}, opt); err != nil {
		t.Fatal(err)
	}
	if a, b := read(t, path), read(t, filepath.Join(dir, "Q4_K_M")); !bytes.Equal(a, b) {
		t.Error("a file written alone by one worker differs")
	}
	plan, err := Plan(files, opt)
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range plan.Files {
		if f.Bytes != w.Files[i].Bytes || fmt.Sprint(f.Tensors) != fmt.Sprint(w.Files[i].Tensors) {
			t.Errorf("planned %+v, wrote %+v", f, w.Files[i])
		}
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRefuses gives what cannot be exported, and looks for what is left behind.
func TestRefuses(t *testing.T) {
	edit := func(name string, f func(v []float32)) func([]tensor.Tensor) []tensor.Tensor {
		return func(ts []tensor.Tensor) []tensor.Tensor {
			for i, x := range ts {
				if x.Name == name {
					v := checkpointtest.Values(x)
					f(v)
					ts[i] = checkpointtest.Floats(name, tensor.F32, x.Shape, v)
				}
			}
			return ts
		}
	}
	drop := func(names ...string) func([]tensor.Tensor) []tensor.Tensor {
		return func(ts []tensor.Tensor) []tensor.Tensor {
			return slices.DeleteFunc(ts, func(x tensor.Tensor) bool { return slices.Contains(names, x.Name) })
		}
	}
	const down = "model.layers.1.mlp.down_proj.weight"
	for _, c := range []struct {
		typ    Type
		keys   map[string]any
		change func([]tensor.Tensor) []tensor.Tensor
		want   string
	}{
		{Q8_0, nil, edit(down, func(v []float32) { v[7] = float32(math.NaN()) }), "blk.1.ffn_down.weight has the value NaN"},
		{F32, nil, edit("model.norm.weight", func(v []float32) { v[63] = float32(math.Inf(-1)) }), "output_norm.weight has the value -Inf"},
		{F16, nil, edit(down, func(v []float32) { v[7] = 1e5 }), "blk.1.ffn_down.weight has the value 100000, which F16 cannot hold"},
		{F32, nil, drop(down, "lm_head.weight"), down + " is missing\nlm_head.weight is missing"},
		{F32, map[string]any{"intermediate_size": 64}, func(ts []tensor.Tensor) []tensor.Tensor {
			ts[1] = checkpointtest.Floats(ts[1].Name, tensor.F32, []int{63}, make([]float32, 63))
			return ts
		}, "input_layernorm.weight has shape [63], config.json wants [64]"},
		{F32, nil, func(ts []tensor.Tensor) []tensor.Tensor {
			ts[0] = checkpointtest.Ints(ts[0].Name, tensor.I64, ts[0].Shape, make([]int64, ts[0].Elements()))
			return ts
		}, "model.embed_tokens.weight is I64, which has no weights"},
		{F32, map[string]any{"vocab_size": 270}, nil, "the tokenizer has 271 tokens, the embedding 270 rows"},
	} {
		dir := t.TempDir()
		ck := testModel(t, "llama", c.keys, tensor.F32, 4, c.change)
		_, err := Write(context.Background(), []File{{Path: filepath.Join(dir, "m.gguf"), Type: c.typ, Weights: ck}}, Options{})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Count(err.Error(), "export:") != 1 {
			t.Errorf("got %v, want %s", err, c.want)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%s: left behind: %v", c.want, left)
		}
	}

	ck := testModel(t, "llama", nil, tensor.BF16, 4, nil)
	dir := t.TempDir()
	there := filepath.Join(dir, "there.gguf")
	if err := os.WriteFile(there, []byte("old"), 0o666); err != nil {
		t.Fatal(err)
	}
	files := []File{{Path: filepath.Join(dir, "sub", "new.gguf"), Type: F16, Weights: ck}, {Path: there, Type: F16, Weights: ck}}
	if _, err := Write(context.Background(), files, Options{}); !errors.Is(err, ErrExists) {
		t.Errorf("a file that is there: %v", err)
	}
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Write(canceled, files, Options{Force: true}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	if got := read(t, there); string(got) != "old" {
		t.Errorf("a failure has touched the old file: %q", got)
	}
	if _, err := Write(context.Background(), files, Options{Force: true}); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	openGGUF(t, there)
	for _, bad := range [][]File{nil, {files[0], files[0]}, {{Path: dir, Weights: ck}}} {
		if _, err := Write(context.Background(), bad, Options{Force: true}); err == nil {
			t.Errorf("%v: no error", bad)
		}
	}
	if _, err := Write(context.Background(), files, Options{Aligned: ck}); err == nil {
		t.Error("half a pair: no error")
	}
	classifier := testModel(t, "llama", nil, tensor.F32, 4, nil)
	classifier = testCheckpoint(t, slices.Collect(classifier.Tensors()), testFiles(testConfig(t, "llama", map[string]any{"architectures": []string{"LlamaForSequenceClassification"}})))
	if _, err := Write(context.Background(), []File{{Path: there, Weights: classifier}}, Options{Force: true}); err == nil || !strings.Contains(err.Error(), "classifier") {
		t.Errorf("a classifier: %v", err)
	}
}
