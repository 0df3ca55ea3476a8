package export

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"expo/weights/checkpoint"
	"expo/weights/checkpoint/checkpointtest"
	"expo/weights/tensor"
)

// product is b·a.
func product(b, a matrix) matrix {
	out := newMatrix(b.rows, a.cols)
	for i := range b.rows {
		for j := range a.cols {
			var sum float64
			for k, v := range b.row(i) {
				sum += float64(v) * float64(a.v[k*a.cols+j])
			}
			out.v[i*a.cols+j] = float32(sum)
		}
	}
	return out
}

func gaussian(rng *rand.Rand, rows, cols int) matrix {
	m := newMatrix(rows, cols)
	for i := range m.v {
		m.v[i] = float32(rng.NormFloat64())
	}
	return m
}

func TestLowRank(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	flat := gaussian(rng, 60, 90)
	low := product(gaussian(rng, 70, 5), gaussian(rng, 5, 40))
	steep := newMatrix(80, 120) // singular values 1, 1/2, 1/4, …
	for k := range 20 {
		b, a := gaussian(rng, 80, 1), gaussian(rng, 1, 120)
		for i, v := range product(b, a).v {
			steep.v[i] += v * float32(math.Ldexp(1, -k))
		}
	}
	for _, c := range []struct {
		name string
		d    matrix
		rank int
		// How much less than the best approximation the result may keep.
		slack float64
	}{
		{"flat", flat, 8, 0.03}, {"flat, all", flat, 60, 1e-5}, {"more than there is", flat, 64, 1e-5}, {"of rank 5", low, 5, 1e-6}, {"rank 5 by 16", low, 16, 1e-6},
		{"steep", steep, 4, 1e-5}, {"one", gaussian(rng, 1, 9), 1, 1e-6}, {"column", gaussian(rng, 9, 1), 3, 1e-6}, {"nothing", newMatrix(6, 7), 2, 0},
	} {
		b, a, norm2, kept2 := lowRank(c.d, c.rank, 2)
		var best, all, missed float64
		values, _ := symmetricEigen(gram(c.d), c.d.cols)
		for k, v := range values {
			if all += v; k < c.rank {
				best += v
			}
		}
		for i, v := range product(b, a).v {
			d := float64(c.d.v[i]) - float64(v)
			missed += d * d
		}
		if math.Abs(norm2-all) > 1e-6*all {
			t.Errorf("%s: Σd² is %v, want %v", c.name, norm2, all)
		}
		if math.Abs(norm2-missed-kept2) > 1e-4*norm2 {
			t.Errorf("%s: said to keep %v of %v, keeps %v", c.name, kept2, norm2, norm2-missed)
		}
		if kept2 < best*(1-c.slack)-1e-9 {
			t.Errorf("%s: keeps %v, the best is %v", c.name, kept2, best)
		}
		b1, a1, _, _ := lowRank(c.d, c.rank, 1)
		if !slices.Equal(b.v, b1.v) || !slices.Equal(a.v, a1.v) || b.cols != c.rank || a.rows != c.rank {
			t.Errorf("%s: depends on the number of goroutines", c.name)
		}
	}
}

func TestWriteLoRA(t *testing.T) {
	for _, modelType := range []string{"llama", "internlm2"} {
		sft := testModel(t, modelType, nil, tensor.F32, 3, nil)
		rng := rand.New(rand.NewPCG(8, 8))
		aligned := testModel(t, modelType, nil, tensor.F32, 3, func(ts []tensor.Tensor) []tensor.Tensor {
			for i, x := range ts {
				v := checkpointtest.Values(x)
				cols := x.Shape[len(x.Shape)-1]
				d := product(gaussian(rng, len(v)/cols, 3), gaussian(rng, 3, cols))
				for j := range v {
					v[j] += d.v[j] * 0.01
				}
				ts[i] = checkpointtest.Floats(x.Name, tensor.F32, x.Shape, v)
			}
			return ts
		})
		dir := filepath.Join(t.TempDir(), "adapter")
		w, err := WriteLoRA(context.Background(), dir, sft, aligned, LoRAOptions{Rank: 4, Base: "o/aligned"})
		if err != nil {
			t.Fatal(err)
		}
		if !(w.Covered > 0.3 && w.Covered < 0.99) || math.Abs(w.Kept-w.Covered) > 1e-5 || w.Rank != 4 {
			t.Errorf("%s: covered %v, kept %v", modelType, w.Covered, w.Kept)
		}
		if len(w.Modules) != map[string]int{"llama": 14, "internlm2": 10}[modelType] {
			t.Errorf("%s: %d modules", modelType, len(w.Modules))
		}
		peft, err := checkpoint.OpenFile(filepath.Join(dir, AdapterWeightsFile))
		if err != nil {
			t.Fatal(err)
		}
		defer peft.Close()
		read := func(x tensor.Tensor) matrix {
			m := newMatrix(x.Shape[0], x.Shape[1])
			if err := x.ReadFloat32(m.v, 0); err != nil {
				t.Fatal(err)
			}
			return m
		}
		change := map[string]matrix{}
		for _, m := range w.Modules {
			if m.Kept < 0.99999 || m.Kept > 1 {
				t.Errorf("%s: keeps %v", m.Name, m.Kept)
			}
			base := "base_model.model." + strings.TrimSuffix(m.Name, ".weight")
			x, ok := peft.Tensor(base + ".lora_A.weight")
			y, ok2 := peft.Tensor(base + ".lora_B.weight")
			if !ok || !ok2 {
				t.Fatalf("no factors of %s", m.Name)
			}
			change[m.Name] = product(read(y), read(x))
			s, _ := sft.Tensor(m.Name)
			a, _ := aligned.Tensor(m.Name)
			for i, v := range checkpointtest.Values(a) {
				want := v - checkpointtest.Values(s)[i]
				if got := change[m.Name].v[i]; math.Abs(float64(got-want)) > 1e-5 {
					t.Fatalf("%s: element %d is %v, want %v", m.Name, i, got, want)
				}
				if i == 200 {
					break
				}
			}
		}

		// The GGUF adapter changes what a GGUF file of the model has.
		r := openGGUF(t, filepath.Join(dir, AdapterGGUFFile))
		if v, _ := r.Metadata().Float("adapter.lora.alpha"); v != 4 {
			t.Errorf("adapter.lora.alpha is %v", v)
		}
		full, _ := write(t, aligned, F32, Options{})
		before, _ := write(t, sft, F32, Options{})
		fr, br := openGGUF(t, full), openGGUF(t, before)
		n := 0
		for x := range r.Tensors() {
			name, ok := strings.CutSuffix(x.Name, ".lora_b")
			if !ok {
				continue
			}
			n++
			plain := func(g interface {
				Plain() (tensor.Tensor, bool)
			}) matrix {
				p, _ := g.Plain()
				return read(p)
			}
			ax, _ := r.Tensor(name + ".lora_a")
			got := product(plain(x), plain(ax))
			fx, ok := fr.Tensor(name)
			bx, _ := br.Tensor(name)
			if !ok {
				t.Fatalf("the model has no %s", name)
			}
			f, b := plain(fx), plain(bx)
			for i := range f.v {
				if want := f.v[i] - b.v[i]; math.Abs(float64(got.v[i]-want)) > 1e-5 {
					t.Fatalf("%s: %s: element %d changes by %v, want %v", modelType, name, i, got.v[i], want)
				}
			}
		}
		if n != 14 {
			t.Errorf("%s: %d matrices in the GGUF adapter", modelType, n)
		}
		var config map[string]any
		b, err := os.ReadFile(filepath.Join(dir, AdapterConfigFile))
		if err != nil || json.Unmarshal(b, &config) != nil {
			t.Fatal(err)
		}
		if config["r"] != 4.0 || config["lora_alpha"] != 4.0 || config["base_model_name_or_path"] != "o/aligned" {
			t.Errorf("%v", config)
		}
		if _, err := WriteLoRA(context.Background(), dir, sft, aligned, LoRAOptions{Rank: 4}); !errors.Is(err, ErrExists) {
			t.Errorf("a directory that is there: %v", err)
		}
		if _, err := WriteLoRA(context.Background(), dir, sft, aligned, LoRAOptions{Rank: 1, Force: true}); err != nil {
			t.Error(err)
		}
		if _, err := WriteLoRA(context.Background(), filepath.Dir(dir), sft, aligned, LoRAOptions{Rank: 1, Force: true}); err == nil {
			t.Error("a directory that is no adapter was replaced")
		}
		if _, err := WriteLoRA(context.Background(), dir+"0", sft, aligned, LoRAOptions{}); err == nil {
			t.Error("rank 0: no error")
		}
	}
}
