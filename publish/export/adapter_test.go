package export

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"expo/weights/checkpoint/checkpointtest"
	"expo/weights/safetensors"
	"expo/weights/tensor"
)

// writeAdapter writes an adapter's files.
func writeAdapter(t testing.TB, config string, ts ...tensor.Tensor) string {
	t.Helper()
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, AdapterWeightsFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := safetensors.Write(f, ts, nil); err != nil {
		t.Fatal(err)
	}
	checkpointtest.File(t, filepath.Join(dir, AdapterConfigFile), config)
	return dir
}

func TestAdapted(t *testing.T) {
	base := testModel(t, "llama", nil, tensor.BF16, 6, nil)
	rng := rand.New(rand.NewPCG(4, 4))
	const q, down = "model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"
	factor := func(name string, m matrix) tensor.Tensor {
		return checkpointtest.Floats("base_model.model."+name, tensor.F32, []int{m.rows, m.cols}, m.v)
	}
	qa, qb := gaussian(rng, 4, 64), gaussian(rng, 64, 4)
	da, db := gaussian(rng, 2, 96), gaussian(rng, 64, 2)
	head := gaussian(rng, testRows, 64)
	ts := []tensor.Tensor{
		factor(q+".lora_A.weight", qa), factor(q+".lora_B.weight", qb),
		factor(down+".lora_A.default.weight", da), factor(down+".lora_B.default.weight", db), factor("lm_head.weight", head),
	}
	for _, c := range []struct {
		config       string
		scale, other float64
	}{
		{`{"peft_type":"LORA","r":4,"lora_alpha":6,"rank_pattern":{"down_proj":2}}`, 1.5, 3},
		{`{"peft_type":"LORA","r":4,"lora_alpha":6,"use_rslora":true,"rank_pattern":{"down_proj":2},"alpha_pattern":{"layers.1.mlp.down_proj":2}}`, 3, 2 / math.Sqrt2},
	} {
		dir := writeAdapter(t, c.config, ts...)
		got, closer, err := Adapted(base, dir)
		if err != nil {
			t.Fatal(err)
		}
		defer closer.Close()
		for x := range got.Tensors() {
			old, _ := base.Tensor(x.Name)
			want := checkpointtest.Values(old)
			switch x.Name {
			case q + ".weight":
				for i, v := range product(qb, qa).v {
					want[i] += float32(c.scale) * v
				}
			case down + ".weight":
				for i, v := range product(db, da).v {
					want[i] += float32(c.other) * v
				}
			case "lm_head.weight":
				want = head.v
			default:
				if x.DType != tensor.BF16 {
					t.Errorf("%s is %v", x.Name, x.DType)
				}
			}
			for i, v := range checkpointtest.Values(x) {
				if math.Abs(float64(v-want[i])) > 1e-5 {
					t.Fatalf("%s: element %d is %v, want %v", x.Name, i, v, want[i])
				}
			}
			if x.Name != down+".weight" {
				continue
			}
			whole := checkpointtest.Bytes(x)
			for range 200 {
				off := rng.IntN(len(whole))
				p := make([]byte, 1+rng.IntN(900))
				n, err := x.Data.ReadAt(p, int64(off))
				if (err == io.EOF) != (off+len(p) > len(whole)) || err != nil && err != io.EOF || !slices.Equal(p[:n], whole[off:off+n]) || n != min(len(p), len(whole)-off) {
					t.Fatalf("ReadAt of %d at %d: %d, %v", len(p), off, n, err)
				}
			}
		}
		// It can be exported like any other.
		if _, err := Write(context.Background(), []File{{Path: filepath.Join(t.TempDir(), "m.gguf"), Type: Q4_0, Weights: got}}, Options{}); err != nil {
			t.Error(err)
		}
	}

	const good = `{"peft_type":"LORA","r":4,"lora_alpha":6}`
	for _, c := range []struct {
		config string
		ts     []tensor.Tensor
		want   string
	}{
		{`{"peft_type":"IA3"}`, ts, `peft_type "IA3"`},
		{`{"peft_type":"LORA","use_dora":true}`, ts, "use_dora"},
		{`{"peft_type":"LORA","bias":"all"}`, ts, "bias"},
		{`{"peft_type":"LORA","fan_in_fan_out":true}`, ts, "fan_in_fan_out"},
		{`{`, ts, "adapter_config.json"},
		{good, ts, "factors have rank 2, adapter_config.json says 4"},
		{good, ts[:1], "one of its two factors only"},
		{good, nil, "no tensors"},
		{good, []tensor.Tensor{factor("model.x.lora_A.weight", qa), factor("model.x.lora_B.weight", qb), factor("y.weight", qa)}, "the model has no model.x.weight\nthe model has no y.weight"},
		{good, []tensor.Tensor{factor(q+".lora_A.weight", qa), factor(q+".lora_B.weight", qa)}, "do not make the model's [64 64]"},
		{good, []tensor.Tensor{factor("lm_head.weight", qa)}, fmt.Sprintf("lm_head.weight has shape [4 64], in the model [%d 64]", testRows)},
		{good, []tensor.Tensor{factor("model.embed_tokens.lora_embedding_A", qa)}, "not supported"},
	} {
		if _, _, err := Adapted(base, writeAdapter(t, c.config, c.ts...)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.config, err, c.want)
		}
	}
	if _, _, err := Adapted(base, t.TempDir()); err == nil {
		t.Error("no adapter: no error")
	}
}

// TestAdapterRoundTrip adds what WriteLoRA has taken out.
func TestAdapterRoundTrip(t *testing.T) {
	sft, aligned, _ := pairOf(t, 0)
	dir := filepath.Join(t.TempDir(), "adapter")
	if _, err := WriteLoRA(context.Background(), dir, sft, aligned, LoRAOptions{Rank: 64}); err != nil {
		t.Fatal(err)
	}
	got, closer, err := Adapted(sft, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer closer.Close()
	for x := range got.Tensors() {
		if !strings.Contains(x.Name, "_proj") {
			continue
		}
		a, _ := aligned.Tensor(x.Name)
		want := checkpointtest.Values(a)
		for i, v := range checkpointtest.Values(x) {
			if math.Abs(float64(v-want[i])) > 1e-6 {
				t.Fatalf("%s: element %d is %v, want %v", x.Name, i, v, want[i])
			}
		}
	}
}
