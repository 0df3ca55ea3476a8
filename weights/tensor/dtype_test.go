package tensor

import (
	"math"
	"math/big"
	"strings"
	"testing"

	"expo/internal/kernel"
)

func TestDTypes(t *testing.T) {
	tests := []struct {
		d      DType
		name   string
		config string
		bits   int
		format kernel.Format
	}{
		{U64, "U64", "uint64", 64, kernel.None},
		{I64, "I64", "int64", 64, kernel.None},
		{F64, "F64", "float64", 64, kernel.F64},
		{C64, "C64", "complex64", 64, kernel.None},
		{F32, "F32", "float32", 32, kernel.F32},
		{U32, "U32", "uint32", 32, kernel.None},
		{I32, "I32", "int32", 32, kernel.None},
		{BF16, "BF16", "bfloat16", 16, kernel.BF16},
		{F16, "F16", "float16", 16, kernel.F16},
		{U16, "U16", "uint16", 16, kernel.None},
		{I16, "I16", "int16", 16, kernel.None},
		{F8E5M2FNUZ, "F8_E5M2FNUZ", "float8_e5m2fnuz", 8, kernel.None},
		{F8E4M3FNUZ, "F8_E4M3FNUZ", "float8_e4m3fnuz", 8, kernel.None},
		{F8E8M0, "F8_E8M0", "float8_e8m0fnu", 8, kernel.None},
		{F8E4M3, "F8_E4M3", "float8_e4m3fn", 8, kernel.F8E4M3},
		{F8E5M2, "F8_E5M2", "float8_e5m2", 8, kernel.F8E5M2},
		{I8, "I8", "int8", 8, kernel.None},
		{U8, "U8", "uint8", 8, kernel.None},
		{F6E3M2, "F6_E3M2", "float6_e3m2fn", 6, kernel.None},
		{F6E2M3, "F6_E2M3", "float6_e2m3fn", 6, kernel.None},
		{F4, "F4", "float4_e2m1fn_x2", 4, kernel.None},
		{BOOL, "BOOL", "bool", 8, kernel.None},
	}
	if len(tests) != int(numDTypes)-1 {
		t.Errorf("%d types are tested, there are %d", len(tests), numDTypes-1)
	}
	for i, tt := range tests {
		d := tt.d
		if d.String() != tt.name || d.ConfigName() != tt.config || d.Bits() != tt.bits || d.Format() != tt.format || d.Float() != (tt.format != kernel.None) {
			t.Errorf("%v: config name %q, %d bits, format %v, float %v, want %+v", d, d.ConfigName(), d.Bits(), d.Format(), d.Float(), tt)
		}
		if got, err := ParseDType(tt.name); got != d || err != nil {
			t.Errorf("ParseDType(%q) = %v, %v", tt.name, got, err)
		}
		for _, prefix := range []string{"", "torch."} {
			if got, err := ParseConfigDType(prefix + tt.config); got != d || err != nil {
				t.Errorf("ParseConfigDType(%q) = %v, %v", prefix+tt.config, got, err)
			}
		}
		// A file sorted by type must never need padding before wider elements.
		if i > 0 && tt.bits >= 8 && tt.bits > tests[i-1].bits && tt.d != BOOL {
			t.Errorf("%v comes after the narrower %v", d, tests[i-1].d)
		}
	}
}

func TestUnknownDTypes(t *testing.T) {
	for _, d := range []DType{Invalid, numDTypes, 200, 255} {
		if d.Bits() != 0 || d.ConfigName() != "" || d.Float() || d.Format() != kernel.None {
			t.Errorf("%v: %d bits, config name %q", d, d.Bits(), d.ConfigName())
		}
	}
	if s := DType(200).String(); s != "DType(200)" {
		t.Errorf("%q", s)
	}
	for _, name := range []string{"", "bf16", "Bf16", "INVALID", "F8", "F8_E4M3FN", " F32", "F32\x00", "FLOAT"} {
		if d, err := ParseDType(name); d != Invalid || err == nil || !strings.HasPrefix(err.Error(), "tensor: ") {
			t.Errorf("ParseDType(%q) = %v, %v", name, d, err)
		}
	}
	for _, name := range []string{"", "torch.", "torch", "BF16", "torch.torch.float32", "auto", "Float32", "float"} {
		if d, err := ParseConfigDType(name); d != Invalid || err == nil || !strings.HasPrefix(err.Error(), "tensor: ") {
			t.Errorf("ParseConfigDType(%q) = %v, %v", name, d, err)
		}
	}
}

func TestElements(t *testing.T) {
	tests := []struct {
		shape []int
		want  int64
		ok    bool
	}{
		{nil, 1, true}, {[]int{}, 1, true}, {[]int{7}, 7, true}, {[]int{2, 3, 4}, 24, true}, {[]int{1, 1, 1}, 1, true},
		{[]int{0}, 0, true}, {[]int{5, 0, 3}, 0, true}, {[]int{0, math.MaxInt}, 0, true},
		{[]int{math.MaxInt}, math.MaxInt64, true}, {[]int{1 << 31, 1 << 31}, 1 << 62, true}, {[]int{1 << 32, 1 << 31}, 0, false},
		{[]int{math.MaxInt, 2}, 0, false}, {[]int{math.MaxInt, math.MaxInt, math.MaxInt}, 0, false}, {[]int{1 << 32, 1 << 32, 0}, 0, false},
		{[]int{-1}, 0, false}, {[]int{2, -3}, 0, false}, {[]int{0, -1}, 0, false}, {[]int{math.MinInt}, 0, false},
	}
	for _, tt := range tests {
		if n, err := Elements(tt.shape); n != tt.want || (err == nil) != tt.ok {
			t.Errorf("Elements(%v) = %d, %v, want %d, %v", tt.shape, n, err, tt.want, tt.ok)
		}
	}
	_, err := Elements(make([]int, 1000000))
	if err != nil {
		t.Error(err)
	}
	long := make([]int, 1000000)
	long[999999] = -1
	if _, err := Elements(long); err == nil || len(err.Error()) > 200 {
		t.Errorf("a million dimensions: %v", err)
	}
}

func TestSize(t *testing.T) {
	tests := []struct {
		d     DType
		shape []int
		want  int64
		ok    bool
	}{
		{F32, nil, 4, true}, {BF16, []int{3, 5}, 30, true}, {BOOL, []int{7}, 7, true}, {C64, []int{2}, 16, true}, {F64, []int{0, 9}, 0, true},
		{F4, []int{2}, 1, true}, {F4, []int{3}, 0, false}, {F4, nil, 0, false}, {F4, []int{3, 2}, 3, true}, {F4, []int{0}, 0, true},
		{F6E2M3, []int{4}, 3, true}, {F6E3M2, []int{2}, 0, false}, {F6E3M2, []int{8, 3}, 18, true},
		{U8, []int{1 << 59}, 1 << 59, true}, {U8, []int{1 << 60}, 0, false}, {U64, []int{1 << 57}, 0, false}, {U64, []int{1<<57 - 1}, (1<<57 - 1) * 8, true},
		{U64, []int{math.MaxInt}, 0, false}, {F32, []int{-1}, 0, false},
	}
	for _, tt := range tests {
		if n, err := Size(tt.d, tt.shape); n != tt.want || (err == nil) != tt.ok {
			t.Errorf("Size(%v, %v) = %d, %v, want %d, %v", tt.d, tt.shape, n, err, tt.want, tt.ok)
		}
	}
}

func FuzzSize(f *testing.F) {
	f.Add(uint8(F32), 2, 3, 4)
	f.Add(uint8(F4), 1<<31, 1<<31, 3)
	f.Add(uint8(U64), math.MaxInt, 0, -1)
	f.Fuzz(func(t *testing.T, d uint8, a, b, c int) {
		shape := []int{a, b, c}
		n, err := Size(DType(d), shape)
		product, zero := big.NewInt(1), false
		for _, dim := range shape {
			if dim < 0 {
				if err == nil {
					t.Fatalf("%v has a size", shape)
				}
				return
			}
			zero = zero || dim == 0
			product.Mul(product, big.NewInt(int64(max(dim, 1))))
		}
		fits := product.IsInt64()
		if zero {
			product.SetInt64(0)
		}
		product.Mul(product, big.NewInt(int64(DType(d).Bits())))
		whole := new(big.Int).And(product, big.NewInt(7)).Sign() == 0
		if ok := fits && product.IsInt64() && whole; ok != (err == nil) || ok && n != product.Int64()/8 {
			t.Fatalf("Size(%v, %v) = %d, %v, want %v bits", DType(d), shape, n, err, product)
		}
	})
}
