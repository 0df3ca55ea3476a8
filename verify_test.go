package expo_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"expo"
	"expo/weights/checkpoint"
	"expo/weights/checkpoint/checkpointtest"
	"expo/weights/tensor"
)

// edit changes a file of a written model.
func edit(t *testing.T, dir, name string, change func(b []byte) []byte) {
	t.Helper()
	path := filepath.Join(dir, name)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(b), 0o666); err != nil {
		t.Fatal(err)
	}
}

func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte {
		if at < 0 {
			at += len(b)
		}
		b[at] ^= 1
		return b
	}
}

// TestVerify damages a written model in one way at a time.
func TestVerify(t *testing.T) {
	sft, aligned := checkpointtest.Pair(2, tensor.BF16)
	aligned.Shards = 3
	p := disk(t, sft, aligned)
	const shard = "model-00002-of-00003.safetensors"
	for _, tt := range []struct {
		name   string
		damage func(dir string)
		want   []string // the beginning of each problem, in order
	}{
		{"nothing", func(string) {}, nil},
		{"a weight", func(dir string) { edit(t, dir, shard, flip(-1)) }, []string{shard + ": SHA-256 is "}},
		{"the tokenizer", func(dir string) { edit(t, dir, "tokenizer.json", flip(5)) }, []string{"tokenizer.json: SHA-256 is "}},
		{"a longer file", func(dir string) { edit(t, dir, "tokenizer.json", func(b []byte) []byte { return append(b, ' ') }) }, []string{"tokenizer.json: 1081 bytes, recorded 1080"}},
		{"a shorter file", func(dir string) { edit(t, dir, "config.json", func(b []byte) []byte { return b[:len(b)-1] }) }, []string{"config.json: 493 bytes, recorded 494"}},
		{"a file gone", func(dir string) { os.Remove(filepath.Join(dir, "tokenizer_config.json")) }, []string{"tokenizer_config.json: missing"}},
		{"the index gone and one file for all", func(dir string) {
			os.Remove(filepath.Join(dir, "model.safetensors.index.json"))
			aligned := aligned.Clone()
			aligned.Shards = 1
			aligned.Config, aligned.Files = "", nil
			aligned.Write(t, dir)
		}, []string{"model.safetensors.index.json: missing", "model.safetensors: not in expo.json"}},
		{"a weight file too many", func(dir string) { checkpointtest.File(t, filepath.Join(dir, "pytorch_model.bin"), "x") }, []string{"pytorch_model.bin: not in expo.json"}},
		{"an index too many", func(dir string) { checkpointtest.File(t, filepath.Join(dir, "pytorch_model.bin.index.json"), "x") }, []string{"pytorch_model.bin.index.json: not in expo.json"}},
		{"a README", func(dir string) { checkpointtest.File(t, filepath.Join(dir, "README.md"), "x") }, nil},
		{"a folder for a file", func(dir string) {
			os.Remove(filepath.Join(dir, "tokenizer.json"))
			os.Mkdir(filepath.Join(dir, "tokenizer.json"), 0o777)
		}, []string{"tokenizer.json: not a regular file"}},
		{"a record that names what is no file here", func(dir string) {
			edit(t, dir, expo.RecordFile, func(b []byte) []byte {
				return []byte(strings.Replace(string(b), `"name": "tokenizer.json"`, `"name": "../\u001b/x"`, 1))
			})
		}, []string{`"../\x1b/x": not a file of this directory`}},
	} {
		dir, _ := write(t, p, expo.Options{Alpha: 0.3}, expo.WriteOptions{})
		tt.damage(dir)
		c := open(t, dir)
		v, err := expo.Verify(t.Context(), c, expo.VerifyOptions{Jobs: 2})
		c.Close()
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if len(v.Problems) != len(tt.want) {
			t.Errorf("%s: problems %q, want %q", tt.name, v.Problems, tt.want)
			continue
		}
		for i, w := range tt.want {
			if !strings.HasPrefix(v.Problems[i], w) {
				t.Errorf("%s: problem %q, want %q", tt.name, v.Problems[i], w)
			}
		}
		if v.Files != 8 || v.Tensors != len(aligned.Tensors) || v.NoDigest != 0 {
			t.Errorf("%s: %+v", tt.name, v)
		}
	}
}

// TestVerifyTruncated checks that a model that was cut short does not open, or
// is found out if that happens afterwards.
func TestVerifyTruncated(t *testing.T) {
	sft, aligned := checkpointtest.Pair(2, tensor.BF16)
	dir, _ := write(t, disk(t, sft, aligned), expo.Options{Alpha: 0.3}, expo.WriteOptions{})
	c := open(t, dir)
	path := filepath.Join(dir, "model.safetensors")
	if err := os.Truncate(path, c.Sources()[0].Size-7); err != nil {
		t.Fatal(err)
	}
	v, err := expo.Verify(t.Context(), c, expo.VerifyOptions{})
	if err == nil || v == nil {
		t.Errorf("%+v, %v, want an error", v, err)
	} else {
		mentions(t, v.Problems, "model.safetensors", "recorded")
	}
	if c, err := checkpoint.Open(dir); err == nil {
		c.Close()
		t.Error("a truncated model opens")
	}
}

// TestVerifyNotFinite checks models that hold NaN and infinities, with or
// without a record.
func TestVerifyNotFinite(t *testing.T) {
	inf := float32(math.Inf(-1))
	m := checkpointtest.Model{Tensors: []tensor.Tensor{
		checkpointtest.Floats("good", tensor.F32, []int{2}, []float32{1, 2}),
		checkpointtest.Floats("bad\n", tensor.BF16, []int{4}, []float32{float32(math.NaN()), inf, inf, 1}),
		checkpointtest.Floats("fp8", tensor.F8E4M3, []int{2}, []float32{1, float32(math.NaN())}),
		checkpointtest.Ints("ints", tensor.U8, []int{2}, []int64{255, 255}),
	}}
	dir := t.TempDir()
	m.Write(t, dir)
	c := open(t, dir)
	v, err := expo.Verify(t.Context(), c, expo.VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{`"bad\n": 1 NaN and 2 infinite values among 4`, "fp8: 1 NaN and 0 infinite values among 2"}
	if strings.Join(v.Problems, "|") != strings.Join(want, "|") || v.Tensors != 3 || v.Files != 0 {
		t.Errorf("%+v, want problems %q", v, want)
	}
	if v, err := expo.Verify(t.Context(), c, expo.VerifyOptions{AllowNonFinite: true}); err != nil || len(v.Problems) > 0 {
		t.Errorf("allowed: %+v, %v", v, err)
	}
	checkpointtest.File(t, filepath.Join(dir, expo.RecordFile), "{}")
	if _, err := expo.Verify(t.Context(), c, expo.VerifyOptions{}); err == nil {
		t.Error("a damaged record was passed over")
	}
	// The problems of a model without any are an empty list also in JSON.
	clean, _ := checkpointtest.Pair(1, tensor.F16)
	v, err = expo.Verify(t.Context(), memory(t, clean), expo.VerifyOptions{})
	if b, _ := json.Marshal(v); err != nil || !strings.Contains(string(b), `"problems":[]`) {
		t.Errorf("%s, %v", b, err)
	}
}

// TestVerifyNoDigest counts files that only their size is known of.
func TestVerifyNoDigest(t *testing.T) {
	sft, aligned := checkpointtest.Pair(2, tensor.BF16)
	aligned.Shards = 2
	dir, w := write(t, disk(t, sft, aligned), expo.Options{Alpha: 0.3}, expo.WriteOptions{NoDigest: true})
	if w.Record.Output[0].SHA256 != "" {
		t.Errorf("%+v", w.Record.Output[0])
	}
	v, err := expo.Verify(t.Context(), open(t, dir), expo.VerifyOptions{})
	if err != nil || len(v.Problems) > 0 || v.NoDigest != 2 || v.Files != 7 {
		t.Errorf("%+v, %v, want 2 files of 7 without digest", v, err)
	}
}
