package kernel

import (
	"fmt"
	"math"
)

// Mix32 computes r[i] = a[i] + alpha*(a[i]-s[i]) in float32, rounding to nearest
// even after each of the three operations:
//
//	d = float32(a-s); p = float32(alpha*d); r = float32(a+p)
//
// Where a[i] == s[i], and everywhere if alpha == 0, r[i] is a[i] instead, bit
// for bit: the formula would turn an unchanged −0 into +0 and infinities into
// NaN. Any other NaN in r is 0x7FC00000.
//
// r, a and s have equal length and may be the same slice; it panics if a or s is
// shorter than r.
func Mix32(r, a, s []float32, alpha float32) {
	a, s = a[:len(r)], s[:len(r)]
	if alpha == 0 {
		copy(r, a)
		return
	}
	done := fastMix(r, a, s, alpha)
	mix(r[done:], a[done:], s[done:], alpha)
}

// mix is the portable definition of [Mix32] for alpha ≠ 0.
func mix(r, a, s []float32, alpha float32) {
	a, s = a[:len(r)], s[:len(r)]
	for i, x := range a {
		d := float32(x - s[i])
		p := float32(alpha * d)
		y := float32(x + p)
		if y != y {
			y = math.Float32frombits(nanF32)
		}
		if x == s[i] {
			y = x
		}
		r[i] = y
	}
}

// MixPerOp32 computes the same formula as PyTorch does on bfloat16 tensors, each
// operation in float32 and rounded to bfloat16, ties to even:
//
//	a' = bf16(a); s' = bf16(s)
//	t = bf16(a'-s'); u = bf16(alpha*t); r = bf16(a'+u)
//
// There is no exception for a == s or alpha == 0. NaN in r is 0x7FC00000. Slices
// as in [Mix32].
func MixPerOp32(r, a, s []float32, alpha float32) {
	a, s = a[:len(r)], s[:len(r)]
	alpha = quiet(alpha)
	done := fastMixPerOp(r, a, s, alpha)
	mixPerOp(r[done:], a[done:], s[done:], alpha)
}

// mixPerOp is the portable definition of [MixPerOp32].
func mixPerOp(r, a, s []float32, alpha float32) {
	a, s = a[:len(r)], s[:len(r)]
	for i := range r {
		x := roundBF16(a[i])
		t := roundBF16(x - roundBF16(s[i]))
		u := roundBF16(alpha * t)
		r[i] = roundBF16(x + u)
	}
}

// quiet replaces a NaN by one whose low half is zero, so that adding a rounding
// constant to its bits cannot carry it out of the NaNs.
func quiet(alpha float32) float32 {
	if alpha != alpha {
		return math.Float32frombits(nanF32)
	}
	return alpha
}

// need panics unless b holds n elements of f.
func need(op, name string, b []byte, n int, f Format) {
	if f == None || f > F8E5M2 {
		panic(fmt.Sprintf("kernel: %s: no number format %d", op, f))
	}
	if len(b)/f.Bytes() < n {
		panic(fmt.Sprintf("kernel: %s: %s holds %d bytes, want %d elements of %d", op, name, len(b), n, f.Bytes()))
	}
}

// needOut panics unless f can be written.
func needOut(op string, f Format) {
	if f < BF16 || f > F64 {
		panic(fmt.Sprintf("kernel: %s: format %d cannot be written", op, f))
	}
}
