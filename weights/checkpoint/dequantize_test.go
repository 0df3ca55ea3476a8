package checkpoint

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"expo/weights/checkpoint/checkpointtest"
	"expo/weights/tensor"
)

// fp8Weight is a weight of random codes, NaN among them.
func fp8Weight(name string, d tensor.DType, shape ...int) tensor.Tensor {
	n, _ := tensor.Elements(shape)
	r := rand.New(rand.NewPCG(uint64(n), 8))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return checkpointtest.Raw(name, d, shape, b)
}

// scale is a tensor of n distinct powers of two and a half, in order.
func scale(name string, d tensor.DType, shape ...int) tensor.Tensor {
	n, _ := tensor.Elements(shape)
	if d == tensor.U8 || d == tensor.F8E8M0 {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(120 + i)
		}
		return checkpointtest.Raw(name, d, shape, b)
	}
	vals := make([]float32, n)
	for i := range vals {
		vals[i] = float32(1+i) / 64
	}
	return checkpointtest.Floats(name, d, shape, vals)
}

// scaleValues reads a scale without the code under test.
func scaleValues(s tensor.Tensor) []float32 {
	if s.DType.Float() {
		return checkpointtest.Values(s)
	}
	var vals []float32
	for _, e := range checkpointtest.Bytes(s) {
		if e == 0xff {
			vals = append(vals, float32(math.NaN()))
		} else {
			vals = append(vals, float32(math.Pow(2, float64(e)-127)))
		}
	}
	return vals
}

func computed(t *testing.T, config string, shards ...[]tensor.Tensor) *Checkpoint {
	t.Helper()
	var ss []Shard
	for i, ts := range shards {
		ss = append(ss, Shard{File: fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(shards)), Tensors: ts})
	}
	var files map[string][]byte
	if config != "" {
		files = map[string][]byte{"config.json": []byte(config)}
	}
	c, err := New("made", ss, Overlay(nil, files))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func blocks(r, c int) string {
	return fmt.Sprintf(`{"quantization_config": {"quant_method": "fp8", "weight_block_size": [%d, %d]}}`, r, c)
}

func sameBits(a, b float32) bool {
	return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b
}

func TestDequantize(t *testing.T) {
	const ct = `{"quantization_config": {"quant_method": "compressed-tensors"}}`
	const fp8 = `{"quantization_config": {"quant_method": "fp8"}}`
	whole := func(int, int, int) int { return 0 }
	tests := []struct {
		name   string
		config string
		d      tensor.DType
		shape  []int
		suffix string // of the scale
		sd     tensor.DType
		sshape []int
		// at is the index of the scale for an element of a matrix.
		at func(m, r, c int) int
	}{
		{"one number", fp8, tensor.F8E4M3, []int{5, 7}, "_scale_inv", tensor.F32, nil, whole},
		{"one number in one dimension", fp8, tensor.F8E4M3, []int{5, 7}, "_scale", tensor.F32, []int{1}, whole},
		{"one number in two dimensions", ct, tensor.F8E5M2, []int{5, 7}, "_scale", tensor.BF16, []int{1, 1}, whole},
		{"one number though blocks are configured", blocks(2, 2), tensor.F8E4M3, []int{5, 7}, "_scale_inv", tensor.F32, []int{1}, whole},
		{"without a configuration", "", tensor.F8E4M3, []int{5, 7}, "_scale", tensor.F32, nil, whole},
		{"per row", ct, tensor.F8E4M3, []int{5, 7}, "_scale", tensor.BF16, []int{5, 1}, func(_, r, _ int) int { return r }},
		{"per row in one dimension", ct, tensor.F8E4M3, []int{5, 7}, "_scale", tensor.F32, []int{5}, func(_, r, _ int) int { return r }},
		{"per row though blocks are configured", blocks(2, 2), tensor.F8E4M3, []int{5, 7}, "_scale", tensor.F32, []int{5, 1}, func(_, r, _ int) int { return r }},
		{"blocks", blocks(2, 4), tensor.F8E4M3, []int{4, 8}, "_scale_inv", tensor.F32, []int{2, 2}, func(_, r, c int) int { return r/2*2 + c/4 }},
		{"ragged blocks", blocks(2, 4), tensor.F8E4M3, []int{5, 7}, "_scale_inv", tensor.F32, []int{3, 2}, func(_, r, c int) int { return r/2*2 + c/4 }},
		{"blocks larger than the weight", blocks(128, 128), tensor.F8E4M3, []int{5, 7}, "_scale_inv", tensor.F32, []int{1, 1}, whole},
		{"blocks of 128", blocks(128, 128), tensor.F8E4M3, []int{130, 300}, "_scale_inv", tensor.F32, []int{2, 3}, func(_, r, c int) int { return r/128*3 + c/128 }},
		{"blocks of 128 by default", fp8, tensor.F8E4M3, []int{130, 260}, "_scale_inv", tensor.F32, []int{2, 3}, func(_, r, c int) int { return r/128*3 + c/128 }},
		{"blocks read off the shapes", fp8, tensor.F8E4M3, []int{6, 8}, "_scale_inv", tensor.F32, []int{3, 2}, func(_, r, c int) int { return r/2*2 + c/4 }},
		{"groups of columns", ct, tensor.F8E4M3, []int{3, 8}, "_scale", tensor.F32, []int{3, 2}, func(_, r, c int) int { return r*2 + c/4 }},
		{"one row", blocks(2, 4), tensor.F8E4M3, []int{1, 9}, "_scale_inv", tensor.F32, []int{1, 3}, func(_, r, c int) int { return c / 4 }},
		{"one column", blocks(2, 4), tensor.F8E4M3, []int{5, 1}, "_scale_inv", tensor.F32, []int{3, 1}, func(_, r, c int) int { return r / 2 }},
		{"F16 scales", fp8, tensor.F8E4M3, []int{2, 2}, "_scale_inv", tensor.F16, []int{2, 1}, func(_, r, _ int) int { return r }},
		{"E8M0 scales", fp8, tensor.F8E4M3, []int{150, 2}, "_scale_inv", tensor.F8E8M0, []int{150, 1}, func(_, r, _ int) int { return r }},
		{"U8 scales", blocks(2, 4), tensor.F8E4M3, []int{5, 7}, "_scale_inv", tensor.U8, []int{3, 2}, func(_, r, c int) int { return r/2*2 + c/4 }},
		{"experts in blocks", blocks(2, 4), tensor.F8E4M3, []int{3, 5, 7}, "_scale_inv", tensor.F32, []int{3, 3, 2}, func(m, r, c int) int { return m*6 + r/2*2 + c/4 }},
		{"experts per row", ct, tensor.F8E4M3, []int{3, 5, 7}, "_scale", tensor.F32, []int{3, 5, 1}, func(m, r, _ int) int { return m*5 + r }},
		{"experts per row without the last dimension", ct, tensor.F8E4M3, []int{3, 5, 7}, "_scale", tensor.F32, []int{3, 5}, func(m, r, _ int) int { return m*5 + r }},
		{"one number per expert", ct, tensor.F8E4M3, []int{3, 5, 7}, "_scale", tensor.F32, []int{3}, func(m, _, _ int) int { return m }},
		{"one number per expert in three dimensions", blocks(2, 4), tensor.F8E4M3, []int{3, 5, 7}, "_scale", tensor.F32, []int{3, 1, 1}, func(m, _, _ int) int { return m }},
		{"one number for all experts", ct, tensor.F8E4M3, []int{3, 5, 7}, "_scale", tensor.F32, []int{1}, whole},
		{"a vector", fp8, tensor.F8E4M3, []int{8}, "_scale", tensor.F32, []int{2}, func(_, _, c int) int { return c / 4 }},
		{"a scalar", fp8, tensor.F8E4M3, nil, "_scale", tensor.F32, nil, whole},
		{"no rows", fp8, tensor.F8E4M3, []int{0, 7}, "_scale", tensor.F32, []int{0, 1}, whole},
		{"no columns", blocks(2, 2), tensor.F8E4M3, []int{3, 0}, "_scale_inv", tensor.F32, []int{2, 0}, whole},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := fp8Weight("a.weight", tt.d, tt.shape...)
			s := scale("a.weight"+tt.suffix, tt.sd, tt.sshape...)
			bias := checkpointtest.Floats("a.bias", tensor.BF16, []int{1}, []float32{1})
			c := computed(t, tt.config, []tensor.Tensor{bias, q, s})
			d, err := c.Dequantize()
			if err != nil {
				t.Fatal(err)
			}
			if d.Len() != 2 || d.HasFP8() || !c.HasFP8() {
				t.Errorf("%d tensors are left, want 2; FP8 among them: %v", d.Len(), d.HasFP8())
			}
			x, _ := d.Tensor("a.weight")
			if x.DType != tensor.F32 || !slices.Equal(x.Shape, tt.shape) || !Dequantized(x) || Dequantized(bias) {
				t.Fatalf("became %v %v", x.DType, x.Shape)
			}
			rows, columns := 1, 1
			if n := len(tt.shape); n > 0 {
				columns = tt.shape[n-1]
				if n > 1 {
					rows = tt.shape[n-2]
				}
			}
			codes, scales, got := checkpointtest.Values(q), scaleValues(s), checkpointtest.Values(x)
			for i := range got {
				m, r, c := i/columns/rows, i/columns%rows, i%columns
				if want := codes[i] * scales[tt.at(m, r, c)]; !sameBits(got[i], want) {
					t.Fatalf("element %d (%d, %d, %d): %v, want %v · %v", i, m, r, c, got[i], codes[i], scales[tt.at(m, r, c)])
				}
			}
		})
	}
}

// TestDequantizeExtremes checks single values, the exponents' ends among them.
func TestDequantizeExtremes(t *testing.T) {
	q := checkpointtest.Raw("w.weight", tensor.F8E4M3, []int{4, 1}, []byte{0x38, 0x7f, 0x80, 0x7e}) // 1, NaN, −0, 448
	for code, want := range map[byte][]float64{
		0:    {math.Ldexp(1, -127), math.NaN(), math.Copysign(0, -1), 448 * math.Ldexp(1, -127)},
		127:  {1, math.NaN(), math.Copysign(0, -1), 448},
		254:  {math.Ldexp(1, 127), math.NaN(), math.Copysign(0, -1), math.Inf(1)},
		0xff: {math.NaN(), math.NaN(), math.NaN(), math.NaN()},
	} {
		for _, d := range []tensor.DType{tensor.U8, tensor.F8E8M0} {
			s := checkpointtest.Raw("w.weight_scale_inv", d, []int{1}, []byte{code})
			c, err := computed(t, "", []tensor.Tensor{q, s}).Dequantize()
			if err != nil {
				t.Fatal(err)
			}
			x, _ := c.Tensor("w.weight")
			for i, got := range checkpointtest.Values(x) {
				if !sameBits(got, float32(want[i])) {
					t.Errorf("code %d, scale 0x%02x of %v: %v, want %v", i, code, d, got, want[i])
				}
			}
		}
	}
}

// TestDequantizeShards spreads weights and scales over shards.
func TestDequantizeShards(t *testing.T) {
	a := fp8Weight("a.weight", tensor.F8E4M3, 2, 2)
	plain := fp8Weight("b.weight", tensor.F8E5M2, 2, 2)
	stack := fp8Weight("mlp.experts.gate_up_proj", tensor.F8E4M3, 2, 2, 2)
	norm := checkpointtest.Floats("norm.scale", tensor.F32, []int{1}, []float32{1})
	kv := checkpointtest.Floats("attn.k_scale", tensor.F32, nil, []float32{1})
	ts := [][]tensor.Tensor{
		{a, stack, plain},
		{scale("a.weight_scale_inv", tensor.F32), checkpointtest.Floats("a.input_scale", tensor.F32, nil, []float32{3}),
			checkpointtest.Floats("b.activation_scale", tensor.F32, nil, []float32{3}), checkpointtest.Floats("a.input_scale_ub", tensor.F32, nil, []float32{3})},
		{scale("mlp.experts.gate_up_proj_scale_inv", tensor.F32, 2, 1, 1), norm, kv},
	}
	c := computed(t, `{"quantization_config": {"quant_method": "fp8"}}`, ts...)
	c.skipped = []string{"epoch"}
	d, err := c.Dequantize()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range d.Shards() {
		var names []string
		for _, x := range s.Tensors {
			names = append(names, fmt.Sprint(x.Name, " ", x.DType))
		}
		got = append(got, s.File+": "+strings.Join(names, ", "))
	}
	want := []string{
		"model-00001-of-00003.safetensors: a.weight F32, mlp.experts.gate_up_proj F32, b.weight F8_E5M2",
		"model-00002-of-00003.safetensors: ",
		"model-00003-of-00003.safetensors: norm.scale F32, attn.k_scale F32",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if s := d.Skipped(); len(s) != 1 || s[0] != "epoch" {
		t.Errorf("skipped %q", s)
	}
	if c.Len() != 10 {
		t.Errorf("the original has %d tensors left", c.Len())
	}
}

func TestDequantizeNothing(t *testing.T) {
	c := computed(t, "", []tensor.Tensor{checkpointtest.Floats("a.weight", tensor.BF16, []int{1}, []float32{1})})
	if d, err := c.Dequantize(); err != nil || d != c {
		t.Errorf("%v, %v, want the same checkpoint", d, err)
	}
}

func TestDequantizeRefuses(t *testing.T) {
	w := func(shape ...int) tensor.Tensor { return fp8Weight("a.weight", tensor.F8E4M3, shape...) }
	s := func(shape ...int) tensor.Tensor { return scale("a.weight_scale_inv", tensor.F32, shape...) }
	bf16 := checkpointtest.Floats("a.weight", tensor.BF16, []int{1}, []float32{1})
	method := func(m string) string { return `{"quantization_config": {"quant_method": "` + m + `"}}` }
	tests := []struct {
		name   string
		config string
		ts     []tensor.Tensor
		want   []string
	}{
		{"gptq", method("gptq"), []tensor.Tensor{bf16}, []string{"made", "quantized with gptq"}},
		{"awq", method("awq"), []tensor.Tensor{w(2, 2), s()}, []string{"quantized with awq"}},
		{"bitsandbytes", method("bitsandbytes"), []tensor.Tensor{bf16}, []string{"quantized with bitsandbytes"}},
		{"mxfp4", method("mxfp4"), []tensor.Tensor{bf16}, []string{"quantized with mxfp4"}},
		{"in text_config", `{"text_config": {"quantization_config": {"quant_method": "hqq"}}}`, []tensor.Tensor{bf16}, []string{"quantized with hqq"}},
		{"unnamed", `{"quantization_config": {}}`, []tensor.Tensor{bf16}, []string{"quantized with unnamed"}},
		{"an odd name", method(`x\u001b[31m` + strings.Repeat("y", 100)), []tensor.Tensor{bf16}, []string{`"x\x1b[31myyy`}},
		{"int8 by compressed-tensors", method("compressed-tensors"), []tensor.Tensor{bf16}, []string{"holds no FP8 tensor"}},
		{"nvfp4 by compressed-tensors", method("compressed-tensors"), []tensor.Tensor{
			checkpointtest.Raw("a.weight_packed", tensor.U8, []int{2}, []byte{1, 2}), fp8Weight("a.weight_scale", tensor.F8E4M3, 1, 1),
			checkpointtest.Floats("a.weight_global_scale", tensor.F32, nil, []float32{1}),
		}, []string{"a.weight_global_scale", "not known"}},
		{"too few rows", blocks(2, 2), []tensor.Tensor{w(5, 4), s(2, 2)}, []string{"a.weight_scale_inv", "[2 2]", "[5 4]", "blocks of [2 2]"}},
		{"too many columns", blocks(2, 2), []tensor.Tensor{w(4, 4), s(2, 3)}, []string{"[2 3]"}},
		{"another block than the configured", blocks(2, 2), []tensor.Tensor{w(4, 4), s(1, 2)}, []string{"[1 2]", "blocks of [2 2]"}},
		{"transposed", blocks(2, 2), []tensor.Tensor{w(4, 8), s(4, 2)}, []string{"[4 2]"}},
		{"not divisible", "", []tensor.Tensor{w(5, 4), s(2, 2)}, []string{"[2 2]", "[5 4]"}},
		{"empty scale", "", []tensor.Tensor{w(5, 4), s(0)}, []string{"[0]"}},
		{"empty grid", "", []tensor.Tensor{w(5, 4), s(0, 4)}, []string{"[0 4]"}},
		{"one per column", "", []tensor.Tensor{w(5, 4), s(4)}, []string{"[4]"}},
		{"three dimensions", "", []tensor.Tensor{w(4, 4), s(1, 2, 2)}, []string{"[1 2 2]"}},
		{"other experts", "", []tensor.Tensor{w(3, 4, 4), s(2, 4, 1)}, []string{"[2 4 1]"}},
		{"an integer scale", "", []tensor.Tensor{w(5, 4), checkpointtest.Ints("a.weight_scale", tensor.I32, nil, []int64{1})}, []string{"a.weight_scale", "I32"}},
		{"a scale without its weight", "", []tensor.Tensor{w(5, 4), s(), scale("b.weight_scale", tensor.F32)}, []string{"b.weight_scale", "no FP8 weight"}},
		{"a scale for BF16", "", []tensor.Tensor{w(5, 4), s(), checkpointtest.Floats("b.weight", tensor.BF16, nil, []float32{1}), scale("b.weight_scale_inv", tensor.F32)}, []string{"b.weight_scale_inv"}},
		{"two scales", "", []tensor.Tensor{w(5, 4), s(), scale("a.weight_scale", tensor.F32)}, []string{"a.weight_scale:"}},
		{"a scale of another name", "", []tensor.Tensor{w(5, 4), scale("a.scale", tensor.F32)}, []string{"a.scale", "a.weight beside it"}},
		{"a stack's scale of another name", "", []tensor.Tensor{fp8Weight("experts.up", tensor.F8E4M3, 2, 2, 2), scale("experts.up.scale", tensor.F32), scale("experts.up_scales", tensor.F32)}, []string{"experts.up_scales"}},
		{"many", "", func() []tensor.Tensor {
			var ts []tensor.Tensor
			for i := range 50 {
				ts = append(ts, fp8Weight(fmt.Sprint(i, ".weight"), tensor.F8E4M3, 5, 4), scale(fmt.Sprint(i, ".weight_scale"), tensor.F32, 3))
			}
			return ts
		}(), []string{"0.weight_scale", "and 47 more"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, err := computed(t, tt.config, tt.ts).Dequantize()
			wantError(t, err, tt.want...)
			if d != nil {
				t.Error("a checkpoint came with the error")
			}
		})
	}
}

// TestDequantizeReadAt compares reads of odd stretches with one of the whole.
func TestDequantizeReadAt(t *testing.T) {
	const rows, columns = 130, 300 // 39,000 elements: more than two chunks
	q, s := fp8Weight("a.weight", tensor.F8E4M3, rows, columns), scale("a.weight_scale_inv", tensor.BF16, 2, 3)
	d, err := computed(t, blocks(128, 128), []tensor.Tensor{q, s}).Dequantize()
	if err != nil {
		t.Fatal(err)
	}
	x, _ := d.Tensor("a.weight")
	whole := checkpointtest.Bytes(x)
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		off, n := r.IntN(len(whole)), r.IntN(700)
		if r.IntN(10) == 0 {
			n = r.IntN(len(whole))
		}
		p := make([]byte, n)
		got, err := x.Data.ReadAt(p, int64(off))
		want := min(n, len(whole)-off)
		wantErr := error(nil)
		if want < n {
			wantErr = io.EOF
		}
		if got != want || err != wantErr || !bytes.Equal(p[:got], whole[off:off+want]) {
			t.Fatalf("ReadAt(%d bytes, %d) = %d, %v, want %d, %v, or other bytes", n, off, got, err, want, wantErr)
		}
	}
	size := int64(len(whole))
	for _, tt := range []struct {
		n   int
		off int64
		err bool
		eof bool
	}{{0, 0, false, false}, {0, size, false, false}, {1, size, false, true}, {1, size + 1, true, false}, {1, -1, true, false}} {
		n, err := x.Data.ReadAt(make([]byte, tt.n), tt.off)
		if n != 0 || (err != nil) != (tt.err || tt.eof) || tt.eof && err != io.EOF {
			t.Errorf("ReadAt(%d bytes, %d) = %d, %v", tt.n, tt.off, n, err)
		}
	}
	if err := iotest.TestReader(io.NewSectionReader(x.Data, 0, size), whole); err != nil {
		t.Error(err)
	}
}

func TestDequantizeReadErrors(t *testing.T) {
	broken := errors.New("broken disk")
	bad := func(x tensor.Tensor) tensor.Tensor {
		x.Data = readerAt(func([]byte, int64) (int, error) { return 0, broken })
		return x
	}
	q, s := fp8Weight("a.weight", tensor.F8E4M3, 2, 2), scale("a.weight_scale_inv", tensor.F32, 2, 1)
	u := scale("a.weight_scale_inv", tensor.U8, 2, 1)
	for name, ts := range map[string][]tensor.Tensor{
		"a.weight:": {bad(q), s}, "a.weight_scale_inv": {q, bad(s)}, "weight_scale_inv": {q, bad(u)},
	} {
		d, err := computed(t, "", ts).Dequantize()
		if err != nil {
			t.Fatal(err)
		}
		x, _ := d.Tensor("a.weight")
		if err := tensor.ReadFull(x.Data, make([]byte, 16), 0); !errors.Is(err, broken) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type readerAt func(p []byte, off int64) (int, error)

func (f readerAt) ReadAt(p []byte, off int64) (int, error) { return f(p, off) }

// TestDequantizeHuge has shapes that a torch file can claim with a stride of 0.
func TestDequantizeHuge(t *testing.T) {
	none := readerAt(func(p []byte, _ int64) (int, error) { return len(p), nil })
	q := tensor.Tensor{Name: "a.weight", DType: tensor.F8E4M3, Shape: []int{1 << 61, 2}, Data: none}
	s := tensor.Tensor{Name: "a.weight_scale", DType: tensor.F32, Shape: []int{1}, Data: none}
	_, err := computed(t, "", []tensor.Tensor{q, s}).Dequantize()
	wantError(t, err, "a.weight")
	q.Shape, s.Shape = []int{1 << 40, 2}, []int{1 << 40, 1}
	_, err = computed(t, "", []tensor.Tensor{q, s}).Dequantize()
	wantError(t, err, "a.weight_scale", "scales")
}

// TestDequantizeFile goes through a file and back.
func TestDequantizeFile(t *testing.T) {
	m := checkpointtest.Model{
		Tensors: []tensor.Tensor{fp8Weight("a.weight", tensor.F8E4M3, 5, 7), scale("a.weight_scale_inv", tensor.F32, 3, 2)},
		Config:  blocks(2, 4), Shards: 2,
	}
	dir := t.TempDir()
	m.Write(t, dir)
	d, err := mustOpen(t, dir).Dequantize()
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	if _, err := Write(t.Context(), out, d, WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	c := mustOpen(t, out)
	x, ok := c.Tensor("a.weight")
	y, _ := d.Tensor("a.weight")
	if !ok || c.Len() != 1 || x.DType != tensor.F32 || !bytes.Equal(checkpointtest.Bytes(x), checkpointtest.Bytes(y)) {
		t.Errorf("%d tensors, found %v", c.Len(), ok)
	}
	if got := keysOf(checkpointtest.Tree(t, out)); got != "config.json model.safetensors" {
		t.Errorf("files %q", got)
	}
}
