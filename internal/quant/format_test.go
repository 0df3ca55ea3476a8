package quant

import (
	"math"
	"strings"
	"testing"

	"expo/internal/kernel"
)

func TestFormats(t *testing.T) {
	for _, x := range []struct {
		f           Format
		name        string
		size, bytes int
	}{
		{Q4_0, "Q4_0", 32, 18}, {Q4_1, "Q4_1", 32, 20}, {Q5_0, "Q5_0", 32, 22}, {Q5_1, "Q5_1", 32, 24},
		{Q8_0, "Q8_0", 32, 34}, {Q4_K, "Q4_K", 256, 144}, {Q5_K, "Q5_K", 256, 176}, {Q6_K, "Q6_K", 256, 210},
	} {
		if x.f.String() != x.name || x.f.BlockSize() != x.size || x.f.BlockBytes() != x.bytes {
			t.Errorf("%v: %d elements in %d bytes, want %+v", x.f, x.f.BlockSize(), x.f.BlockBytes(), x)
		}
		if got := RowBytes(x.f, 1024); got != 1024/x.size*x.bytes {
			t.Errorf("%v: RowBytes(1024) = %d", x.f, got)
		}
	}
	if got := Format(99).String(); got != "Format(99)" {
		t.Errorf("Format(99) is called %s", got)
	}
}

// TestHalf compares half with package kernel for every pattern.
func TestHalf(t *testing.T) {
	for h := range 1 << 16 {
		var want [1]float32
		kernel.Widen(want[:], []byte{byte(h), byte(h >> 8)}, kernel.F16)
		if got := half(uint16(h)); math.Float32bits(got) != math.Float32bits(want[0]) {
			t.Errorf("half(%#04x) = %x, want %x", h, math.Float32bits(got), math.Float32bits(want[0]))
		}
	}
}

// panics is what f panics with.
func panics(f func()) (v any) {
	defer func() { v = recover() }()
	f()
	return nil
}

func TestPanics(t *testing.T) {
	x := make([]float32, 256)
	b := make([]byte, 1024)
	var a, k Activations
	a.Set(x[:64], Q4_0)
	k.Set(x, Q4_K)
	for _, c := range []struct {
		name, want string
		f          func()
	}{
		{"no format", "quant: Dequantize: None is no block format", func() { Dequantize(x, b, None) }},
		{"unknown format", "quant: BlockSize: Format(77) is no block format", func() { Format(77).BlockSize() }},
		{"odd length", "quant: Dequantize: 31 elements do not fill blocks of Q4_0", func() { Dequantize(x[:31], b, Q4_0) }},
		{"negative length", "quant: RowBytes: -32 elements", func() { RowBytes(Q4_0, -32) }},
		{"short src", "quant: Dequantize: src has 35 bytes, 64 elements of Q4_0 need 36", func() { Dequantize(x[:64], b[:35], Q4_0) }},
		{"short dst", "quant: Quantize: dst has 143 bytes, 256 elements of Q4_K need 144", func() { Quantize(b[:143], x, Q4_K) }},
		{"short out", "quant: Dot: out has 3 elements, want 4", func() { Dot(x[:3], b, Q4_0, 4, 64, &a) }},
		{"negative rows", "quant: Dot: out has 3 elements, want -1", func() { Dot(x[:3], b, Q4_0, -1, 64, &a) }},
		{"short w", "quant: Dot: w has 143 bytes, 4 rows of 64 elements of Q4_0 need 36 each", func() { Dot(x, b[:143], Q4_0, 4, 64, &a) }},
		{"other length", "quant: Dot: activations of 64 elements", func() { Dot(x, b, Q4_0, 4, 32, &a) }},
		{"other blocks", "quant: Dot: activations of 256 elements for blocks of 256, the rows have 256 elements of Q8_0", func() { Dot(x, b, Q8_0, 1, 256, &k) }},
		{"not set", "quant: Dot: activations of 0 elements", func() { Dot(x, b, Q8_0, 1, 256, new(Activations)) }},
		{"stride", "quant: MatMul: stride 3 for 4 rows", func() { MatMul(x, 3, b, Q4_0, 4, 64, []Activations{a, a}) }},
		{"short out for many", "quant: MatMul: out has 8 elements, want 9", func() { MatMul(x[:8], 5, b, Q4_0, 4, 64, []Activations{a, a}) }},
		{"one not set", "quant: MatMul: activations of 0 elements", func() { MatMul(x, 4, b, Q4_0, 4, 64, []Activations{a, {}}) }},
	} {
		if got, _ := panics(c.f).(string); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: panics with %q, want %q", c.name, got, c.want)
		}
	}
	if !a.For(Q8_0) || a.For(Q6_K) || !k.For(Q5_K) || a.Len() != 64 {
		t.Error("Activations do not know what they are")
	}
}

func TestNothing(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		Dequantize(nil, nil, Q4_K)
		Quantize(nil, nil, Q4_K)
		var a Activations
		a.Set(nil, Q4_0)
		out := []float32{1, 2, 3}
		Dot(out, nil, Q4_0, 2, 0, &a)
		if out[0] != 0 || out[1] != 0 || out[2] != 3 {
			t.Errorf("products of nothing: %v, want 0 0 3", out)
		}
		Dot(nil, nil, Q4_0, 0, 0, &a)
		out = []float32{1, 2, 3}
		MatMul(out, 2, nil, Q4_0, 1, 0, []Activations{a, a})
		if out[0] != 0 || out[1] != 2 || out[2] != 0 {
			t.Errorf("products of nothing: %v, want 0 2 0", out)
		}
		MatMul(nil, 0, nil, Q4_0, 0, 0, []Activations{a})
		MatMul(nil, 2, nil, Q4_0, 2, 0, nil)
	})
}
