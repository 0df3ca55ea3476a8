package export

import (
	"bytes"
	"context"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"expo/internal/quant"
	"expo/lm/model"
	"expo/lm/tokenizer"
	"expo/publish/imatrix"
	"expo/weights/checkpoint"
	"expo/weights/gguf"
	"expo/weights/tensor"
)

// The goldens in ../imatrix/testdata are of this model and text. To make them
// again, run this package's tests with EXPO_IMATRIX_GOLDEN=DIR and there, with
// llama-imatrix of llama.cpp 0.5.0 (as in llama-cpp-python 0.3.36),
//
//	llama-imatrix -m model.gguf -f text.txt -c 32 -b 64 -ctk f32 -ctv f32 -fa off -o model.imatrix.gguf
//	llama-imatrix -m model.gguf -f text.txt -c 32 -b 64 -ctk f32 -ctv f32 -fa off -o model.imatrix.dat --output-format dat
const goldenDir = "../imatrix/testdata"

func goldenModel(t testing.TB) *checkpoint.Checkpoint {
	return testModel(t, "llama", nil, tensor.F32, 11, nil)
}

var goldenText = strings.Repeat("what the two wove at a table by the water was wet, and they threw it away; ", 2)

func TestMakeGolden(t *testing.T) {
	dir := os.Getenv("EXPO_IMATRIX_GOLDEN")
	if dir == "" {
		t.Skip("EXPO_IMATRIX_GOLDEN is not set")
	}
	w, err := Write(context.Background(), []File{{Path: filepath.Join(dir, "model.gguf"), Type: F32, Weights: goldenModel(t)}}, Options{Force: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "text.txt"), []byte(goldenText), 0o666); err != nil {
		t.Fatal(err)
	}
	t.Log(w.Notes)
}

// computed is the importance of a checkpoint for a text.
func computed(t testing.TB, ck *checkpoint.Checkpoint, text string, size, jobs int) *imatrix.Matrix {
	t.Helper()
	tok, err := tokenizer.Load(ck.Files())
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.Load(context.Background(), ck, model.LoadOptions{Jobs: jobs})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	chunks, _ := imatrix.Chunks(tok, text, size)
	im, err := Importance(context.Background(), m, chunks, imatrix.Options{Jobs: jobs})
	if err != nil {
		t.Fatal(err)
	}
	im.Datasets = []string{"text.txt"}
	return im
}

func readImportance(t testing.TB, name string) (*imatrix.Matrix, []byte) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(goldenDir, name))
	if err != nil {
		t.Fatal(err)
	}
	im, err := imatrix.Read(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return im, b
}

// TestAgainstLlamaImatrix compares what is computed with what llama.cpp computes.
func TestAgainstLlamaImatrix(t *testing.T) {
	want, _ := readImportance(t, "model.imatrix.gguf")
	got := computed(t, goldenModel(t), goldenText, 32, 2)
	if !slices.Equal(got.Names(), want.Names()) || got.Chunks != want.Chunks || got.ChunkSize != want.ChunkSize {
		t.Fatalf("%d chunks of %d: %q\nwant %d of %d: %q", got.Chunks, got.ChunkSize, got.Names(), want.Chunks, want.ChunkSize, want.Names())
	}
	for _, name := range got.Names() {
		a, b := got.Entries[name], want.Entries[name]
		if !slices.Equal(a.Counts, b.Counts) {
			t.Errorf("%s: %v rows, want %v", name, a.Counts, b.Counts)
		}
		for i := range b.Sums {
			// llama.cpp adds up in float32.
			if d := math.Abs(float64(a.Sums[i] - b.Sums[i])); !(d <= 2e-5*float64(b.Sums[i])) {
				t.Errorf("%s: column %d: %v, want %v", name, i, a.Sums[i], b.Sums[i])
				break
			}
		}
	}
}

// TestImportance has the same values for any number of threads, and those of
// InternLM2's one tensor of queries, keys and values under three names.
func TestImportance(t *testing.T) {
	for _, c := range []struct {
		modelType string
		dtype     tensor.DType
	}{{"llama", tensor.BF16}, {"internlm2", tensor.F32}, {"qwen2", tensor.F16}} {
		ck := testModel(t, c.modelType, nil, c.dtype, 5, nil)
		want := computed(t, ck, goldenText, 32, 1)
		for _, jobs := range []int{2, 3} {
			if got := computed(t, ck, goldenText, 32, jobs); !reflect.DeepEqual(got, want) {
				t.Errorf("%s: other values with %d threads", c.modelType, jobs)
			}
		}
		var names []string
		for _, layer := range []string{"blk.0.", "blk.1."} {
			for _, name := range []string{"attn_k", "attn_output", "attn_q", "attn_v", "ffn_down", "ffn_gate", "ffn_up"} {
				names = append(names, layer+name+".weight")
			}
		}
		if !slices.Equal(want.Names(), names) {
			t.Errorf("%s: %q", c.modelType, want.Names())
		}
		for _, pair := range [][2]string{{"attn_q", "attn_k"}, {"attn_q", "attn_v"}, {"ffn_gate", "ffn_up"}} {
			if a, b := want.Entries["blk.1."+pair[0]+".weight"], want.Entries["blk.1."+pair[1]+".weight"]; !reflect.DeepEqual(a, b) {
				t.Errorf("%s: %s and %s differ", c.modelType, pair[0], pair[1])
			}
		}
	}
}

// weightedError is Σw(x−x̂)² and Σwx² of a file's tensors that have an importance,
// where x is what the F32 file values has.
func weightedError(t testing.TB, path, values string, im *imatrix.Matrix) (error2, norm2 float64) {
	t.Helper()
	r, v := openGGUF(t, path), openGGUF(t, values)
	for name, e := range im.Entries {
		a, ok := r.Tensor(name)
		b, _ := v.Tensor(name)
		if !ok {
			t.Fatalf("no %s in %s", name, path)
		}
		x, y := floats(t, b), floats(t, a)
		for i, w := 0, e.Means(); i < len(x); i++ {
			d := float64(x[i]) - float64(y[i])
			error2 += float64(w[i%len(w)]) * d * d
			norm2 += float64(w[i%len(w)]) * float64(x[i]) * float64(x[i])
		}
	}
	return error2, norm2
}

// floats are the values of a tensor of any type.
func floats(t testing.TB, x gguf.Tensor) []float32 {
	t.Helper()
	n, err := tensor.Elements(x.Shape)
	if err != nil {
		t.Fatal(err)
	}
	v := make([]float32, n)
	if p, ok := x.Plain(); ok {
		err = p.ReadFloat32(v, 0)
	} else {
		quant.Dequantize(v, contents(t, x), blocks[x.Type])
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func contents(t testing.TB, x gguf.Tensor) []byte {
	t.Helper()
	b := make([]byte, x.Size)
	if err := tensor.ReadFull(x.Data, b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestWeighted checks that tensors with an importance are quantized with it, the
// others without, that this makes weighted errors smaller, and what files and
// reports say.
func TestWeighted(t *testing.T) {
	ck := testModel(t, "llama", map[string]any{"hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 1}, tensor.BF16, 6, nil)
	im := computed(t, ck, goldenText, 50, 2)
	full, _ := write(t, ck, F32, Options{})
	values := openGGUF(t, full)
	for _, typ := range Types() {
		plain, _ := write(t, ck, typ, Options{})
		dir := t.TempDir()
		var w *Written
		var first []byte
		workers := []int{3}
		if typ == Q4_0 || typ == Q4_K_M {
			workers = []int{1, 3}
		}
		for _, jobs := range workers {
			path := filepath.Join(dir, "w.gguf")
			var err error
			w, err = Write(context.Background(), []File{{Path: path, Type: typ, Weights: ck, Importance: im, ImportanceFile: "w.imatrix"}}, Options{Jobs: jobs, Force: true})
			if err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first = read(t, path)
			} else if !bytes.Equal(read(t, path), first) {
				t.Errorf("%v: other bytes with %d workers", typ, jobs)
			}
		}
		path := filepath.Join(dir, "w.gguf")
		if !typ.Weighs() {
			if !bytes.Equal(first, read(t, plain)) || w.Files[0].Importance != nil {
				t.Errorf("%v: an importance changes the file; report %+v", typ, w.Files[0].Importance)
			}
			continue
		}
		r := openGGUF(t, path)
		used := 0
		for got := range r.Tensors() {
			f := blocks[got.Type]
			if f == quant.None {
				continue
			}
			v, _ := values.Tensor(got.Name)
			x, want := floats(t, v), make([]byte, got.Size)
			if e, ok := im.Entries[got.Name]; ok && f != quant.Q8_0 {
				quant.QuantizeWeighted(want, x, e.Means(), f)
				used++
			} else {
				quant.Quantize(want, x, f)
			}
			if !bytes.Equal(contents(t, got), want) {
				t.Errorf("%v: %s, %v: other bytes than the reference's", typ, got.Name, got.Type)
			}
		}
		missed, all := weightedError(t, path, full, im)
		if b, _ := weightedError(t, plain, full, im); !(missed < b) {
			t.Errorf("%v: weighted error %v, without an importance %v", typ, missed, b)
		}
		if got, want := w.Files[0].Importance.RelativeError, math.Sqrt(missed/all); math.Abs(got-want) > 1e-9 {
			t.Errorf("%v: weighted relative error %v, want %v", typ, got, want)
		}
		w.Files[0].Importance.RelativeError = 0
		want := UsedImportance{File: "w.imatrix", Dataset: "text.txt", Entries: 7, Chunks: 2, Tensors: used}
		if got := w.Files[0].Importance; got == nil || *got != want || used == 0 {
			t.Errorf("%v: report %+v, want %+v", typ, got, want)
		}
		md := r.Metadata()
		for key, want := range map[string]any{"file": "w.imatrix", "dataset": "text.txt", "entries_count": uint32(7), "chunks_count": uint32(2)} {
			if got := md.Value("quantize.imatrix." + key); got != want {
				t.Errorf("%v: %s is %v, want %v", typ, key, got, want)
			}
		}
		if len(w.Notes) > 0 {
			t.Errorf("%v: notes %q", typ, w.Notes)
		}
	}
}

// TestImportanceMisfits has matrices that are not of the model, or not of all of it.
func TestImportanceMisfits(t *testing.T) {
	ck := testModel(t, "llama", nil, tensor.F32, 4, nil)
	write := func(im *imatrix.Matrix, plan bool) (*Written, error) {
		files := []File{{Path: filepath.Join(t.TempDir(), "m.gguf"), Type: Q4_0, Weights: ck, Importance: im}}
		if plan {
			return Plan(files, Options{})
		}
		return Write(context.Background(), files, Options{})
	}
	entry := func(cols int, counts ...int64) imatrix.Entry {
		return imatrix.Entry{Sums: slices.Repeat([]float32{1}, cols), Counts: counts}
	}
	im := &imatrix.Matrix{Entries: map[string]imatrix.Entry{
		"blk.0.attn_q.weight": entry(63, 1), "blk.1.ffn_down.weight": entry(96, 1, 1), "blk.2.attn_q.weight": entry(64, 1), "enc.0": entry(64, 1),
		"blk.0.attn_k.weight": entry(64, 1),
	}}
	for _, plan := range []bool{true, false} {
		_, err := write(im, plan)
		want := "blk.0.attn_q.weight has 64 columns, its importance 63\nblk.1.ffn_down.weight has 96 columns, its importance 2 matrices of 48\nthe model has no blk.2.attn_q.weight\nthe model has no enc.0"
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := write(&imatrix.Matrix{}, false); err == nil || !strings.Contains(err.Error(), "no entries") {
		t.Errorf("an empty matrix: %v", err)
	}
	if w, err := write(&imatrix.Matrix{}, true); err != nil || len(w.Notes) > 0 || w.Files[0].Importance == nil {
		t.Errorf("a plan with a matrix to come: %+v, %v", w, err)
	}
	deep := testModel(t, "llama", map[string]any{"num_hidden_layers": 8}, tensor.F32, 4, nil)
	for im, want := range map[*imatrix.Matrix]int{nil: 0, {}: 1} {
		w, err := Plan([]File{{Path: "m.gguf", Type: Q4_0, Weights: deep, Importance: im}}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if n := w.Files[0].Tensors["Q4_1"]; n != want {
			t.Errorf("with the matrix %v: %d tensors of Q4_1, want %d", im, n, want)
		}
	}
	im.Entries = map[string]imatrix.Entry{"blk.0.attn_k.weight": entry(64, 1), "output.weight": entry(64, 1), "token_embd.weight": entry(64, 1)}
	w, err := write(im, false)
	if err != nil {
		t.Fatal(err)
	}
	want := "13 of 15 matrices are not in the importance matrix and are quantized without: blk.0.attn_q.weight, blk.0.attn_v.weight, blk.0.attn_output.weight, blk.0.ffn_gate.weight, blk.0.ffn_up.weight, blk.0.ffn_down.weight, blk.1.attn_q.weight, blk.1.attn_k.weight, and 5 more"
	if len(w.Notes) != 1 || w.Notes[0] != want {
		t.Errorf("notes %q, want %q", w.Notes, want)
	}
	// The output head is Q8_0 with rows of 64, which has no use for it.
	if w.Files[0].Importance.Tensors != 2 {
		t.Errorf("used for %d tensors", w.Files[0].Importance.Tensors)
	}
}

// TestWeightedAlpha exports points of a pair, each with an importance of its own:
// how far rounding moves the aligned model is measured with the same.
func TestWeightedAlpha(t *testing.T) {
	sft, aligned, at := pairOf(t, 0.5)
	a, b := computed(t, aligned, goldenText, 32, 1), computed(t, at, goldenText, 32, 1)
	if reflect.DeepEqual(a.Entries, b.Entries) {
		t.Fatal("both models have the same importance")
	}
	dir := t.TempDir()
	zero, half := 0.0, 0.5
	files := []File{
		{Path: filepath.Join(dir, "0.gguf"), Type: Q4_1, Weights: aligned, Alpha: &zero, Importance: a},
		{Path: filepath.Join(dir, "a.gguf"), Type: Q4_1, Weights: at, Alpha: &half, Importance: a},
		{Path: filepath.Join(dir, "b.gguf"), Type: Q4_1, Weights: at, Alpha: &half, Importance: b},
		{Path: filepath.Join(dir, "n.gguf"), Type: Q4_1, Weights: at, Alpha: &half},
	}
	w, err := Write(context.Background(), files, Options{Aligned: aligned, SFT: sft})
	if err != nil {
		t.Fatal(err)
	}
	of := func(i int) float64 { return *w.Files[i].AlphaOffset }
	if got := *w.Files[0].EffectiveAlpha; got != of(0) || of(1) != of(0) || of(2) == of(0) || of(3) == of(0) {
		t.Errorf("the aligned model alone: %v; offsets %v, %v, %v, %v", got, of(0), of(1), of(2), of(3))
	}
}
