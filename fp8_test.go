package expo_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"expo"
	"expo/weights/checkpoint/checkpointtest"
	"expo/weights/tensor"
)

const (
	scaledRows, scaledColumns = 20, 24
	scaledBlock               = 16 // the last block of either dimension is ragged
)

const scaledConfig = `{
  "architectures": ["LlamaForCausalLM"],
  "quantization_config": {
    "quant_method": "fp8",
    "fmt": "e4m3",
    "weight_block_size": [16, 16]
  },
  "torch_dtype": "bfloat16",
  "vocab_size": 20
}
`

// scaledPair is a pair with a block-scaled FP8 weight on both sides, beside a
// BF16 one.
func scaledPair(t *testing.T) (sft, aligned checkpointtest.Model) {
	t.Helper()
	r := rand.New(rand.NewPCG(11, 12))
	for _, m := range []*checkpointtest.Model{&sft, &aligned} {
		vals, scales := make([]float32, scaledRows*scaledColumns), make([]float32, 4)
		for i := range vals {
			vals[i] = float32(100 * r.NormFloat64())
		}
		for i := range scales {
			scales[i] = float32(0.0002 * (1 + r.Float64()))
		}
		m.Config = scaledConfig
		m.Tensors = []tensor.Tensor{
			checkpointtest.Floats("layer.weight", tensor.F8E4M3, []int{scaledRows, scaledColumns}, vals),
			checkpointtest.Floats("layer.weight_scale_inv", tensor.F32, []int{2, 2}, scales),
			checkpointtest.Floats("norm.weight", tensor.BF16, []int{2}, []float32{1, 1.5}),
		}
	}
	return sft, aligned
}

// scaledValues are the real weights of a scaledPair model's layer.
func scaledValues(m checkpointtest.Model) []float64 {
	q := decode(tensor.F8E4M3, checkpointtest.Bytes(m.Tensor("layer.weight")))
	s := decode(tensor.F32, checkpointtest.Bytes(m.Tensor("layer.weight_scale_inv")))
	for i := range q {
		row, col := i/scaledColumns, i%scaledColumns
		q[i] = formats[tensor.F32].nearest(q[i] * s[row/scaledBlock*2+col/scaledBlock])
	}
	return q
}

func TestScaledFP8(t *testing.T) {
	sft, aligned := scaledPair(t)
	av, sv := scaledValues(aligned), scaledValues(sft)
	plain := checkpointtest.Model{Config: `{"torch_dtype": "float32"}`, Tensors: []tensor.Tensor{
		sft.Tensor("norm.weight"), checkpointtest.Floats("layer.weight", tensor.F32, []int{scaledRows, scaledColumns}, f32s(sv))}}
	plainAligned := checkpointtest.Model{Config: `{"torch_dtype": "float32"}`, Tensors: []tensor.Tensor{
		aligned.Tensor("norm.weight"), checkpointtest.Floats("layer.weight", tensor.F32, []int{scaledRows, scaledColumns}, f32s(av))}}
	for _, tt := range []struct {
		name         string
		sft, aligned checkpointtest.Model
		dtype, out   tensor.DType
	}{
		{"both", sft, aligned, 0, tensor.BF16},
		{"both to f32", sft, aligned, tensor.F32, tensor.F32},
		{"aligned alone", plain, aligned, 0, tensor.BF16},
		{"sft alone", sft, plainAligned, 0, tensor.F32},
	} {
		for _, rounding := range roundings {
			c := extrapolate(t, memoryPair(t, tt.sft, tt.aligned), expo.Options{Alpha: 0.3, Rounding: rounding, DType: tt.dtype, Seed: 2})
			if c.Len() != 2 || c.HasFP8() {
				t.Fatalf("%s: %d tensors, FP8 %v", tt.name, c.Len(), c.HasFP8())
			}
			out := tt.out
			if rounding == expo.PerOp && tt.dtype == 0 {
				out = tensor.BF16
			}
			got, _ := c.Tensor("layer.weight")
			if got.DType != out {
				t.Fatalf("%s, %v: output is %v, want %v", tt.name, rounding, got.DType, out)
			}
			for i, v := range decode(out, checkpointtest.Bytes(got)) {
				want := reference(av[i], sv[i], 0.3, rounding, tensor.F32, out, key(2, "layer.weight"), i)
				if !same(v, want) {
					t.Fatalf("%s, %v: element %d is %g, want %g", tt.name, rounding, i, v, want)
				}
			}
		}
	}
}

func f32s(v []float64) []float32 {
	out := make([]float32, len(v))
	for i, x := range v {
		out[i] = float32(x)
	}
	return out
}

// TestConfig checks that config.json changes where it must, and nowhere else.
func TestConfig(t *testing.T) {
	s, a := checkpointtest.Pair(1, tensor.BF16)
	fs, fa := scaledPair(t)
	bare := fa.Clone()
	bare.Tensors = []tensor.Tensor{checkpointtest.Floats("w", tensor.F8E5M2, []int{1}, []float32{1})}
	bare.Config = `{"dtype": "float8_e5m2", "x": {"dtype": "float8_e5m2"}}`
	nested := a.Clone()
	nested.Config = `{ "dtype":"bfloat16" , "text_config":{"dtype" :"float32"},"torch_dtype":"float16"}`
	silent := a.Clone()
	silent.Config = `{"hidden_size": 16}`
	none := a.Clone()
	none.Config = ""
	removed := `{
  "architectures": ["LlamaForCausalLM"],
  "torch_dtype": "bfloat16",
  "vocab_size": 20
}
`
	for _, tt := range []struct {
		name         string
		sft, aligned checkpointtest.Model
		opt          expo.Options
		want         string
	}{
		{"as it is", s, a, expo.Options{}, a.Config},
		{"the same dtype", s, a, expo.Options{DType: tensor.BF16}, a.Config},
		{"per-op", s, a, expo.Options{Rounding: expo.PerOp}, a.Config},
		{"f16", s, a, expo.Options{DType: tensor.F16}, strings.Replace(a.Config, `"torch_dtype": "bfloat16"`, `"torch_dtype": "float16"`, 1)},
		{"f32", s, a, expo.Options{DType: tensor.F32}, strings.Replace(a.Config, `"torch_dtype": "bfloat16"`, `"torch_dtype": "float32"`, 1)},
		{"every declaration", s, nested, expo.Options{DType: tensor.F16}, `{ "dtype":"float16" , "text_config":{"dtype" :"float16"},"torch_dtype":"float16"}`},
		{"no declaration", s, silent, expo.Options{DType: tensor.F16}, silent.Config},
		{"fp8", fs, fa, expo.Options{}, removed},
		{"fp8 to f32", fs, fa, expo.Options{DType: tensor.F32}, strings.Replace(removed, "bfloat16", "float32", 1)},
		{"fp8 without scales", bare, bare, expo.Options{}, `{"dtype": "bfloat16", "x": {"dtype": "float8_e5m2"}}`},
		{"none", s, none, expo.Options{DType: tensor.F16}, ""},
	} {
		tt.opt.Alpha = 0.3
		c := extrapolate(t, memoryPair(t, tt.sft, tt.aligned), tt.opt)
		if got := string(c.Config().Raw()); got != tt.want {
			t.Errorf("%s:\n%s\nwant\n%s", tt.name, got, tt.want)
		}
	}
}
