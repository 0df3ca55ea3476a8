package quant

import (
	"encoding/binary"
	"fmt"
	"math"

	"expo/internal/kernel"
)

// Quantize stores src as blocks of f in the first RowBytes(f, len(src)) bytes of
// dst: the reference quantizer of ggml, without an importance matrix, bit for
// bit. Blocks do not depend on each other.
//
// Values have to be finite. A block with others is filled with something, always
// the same; one whose scale is beyond 65504 gets an infinite scale.
//
// It panics if len(src) is not a multiple of f.BlockSize() or dst is too short.
func Quantize(dst []byte, src []float32, f Format) {
	n := f.blocks("Quantize", len(src))
	size, bytes := f.size(), f.bytes()
	if len(dst) < n*bytes {
		panic(fmt.Sprintf("quant: Quantize: dst has %d bytes, %d elements of %v need %d", len(dst), len(src), f, n*bytes))
	}
	for i := range n {
		b, x := dst[i*bytes:(i+1)*bytes], src[i*size:(i+1)*size]
		switch f {
		case Q4_0, Q5_0:
			quantizeSymmetric(b, (*[32]float32)(x), f)
		case Q4_1, Q5_1:
			quantizeOffset(b, (*[32]float32)(x), f)
		case Q8_0:
			quantize8(b, (*[32]float32)(x))
		case Q4_K, Q5_K:
			quantizeK(b, (*[256]float32)(x), f)
		case Q6_K:
			quantize6K(b, (*[256]float32)(x), nil)
		}
	}
}

// quantizeSymmetric makes a block of Q4_0 or Q5_0. The scale maps the value of
// largest magnitude, with its sign, to the lowest code.
func quantizeSymmetric(b []byte, x *[32]float32, f Format) {
	lowest, top := float32(-8), 15
	if f == Q5_0 {
		lowest, top = -16, 31
	}
	d := largest(x[:]) / lowest
	inv := inverse(d)
	putHalf(b, d)
	var q [32]uint8
	for i, v := range x {
		q[i] = truncate(float32(v*inv)+(0.5-lowest), top)
	}
	putCodes(b[2:], &q, f)
}

// quantizeOffset makes a block of Q4_1 or Q5_1.
func quantizeOffset(b []byte, x *[32]float32, f Format) {
	top := 15
	if f == Q5_1 {
		top = 31
	}
	lo, hi := float32(math.MaxFloat32), float32(-math.MaxFloat32)
	for _, v := range x {
		if v < lo {
			lo = v
		}
		if v > hi {
			hi = v
		}
	}
	d := (hi - lo) / float32(top)
	inv := inverse(d)
	putHalf(b, d)
	putHalf(b[2:], lo)
	var q [32]uint8
	for i, v := range x {
		q[i] = truncate(float32((v-lo)*inv)+0.5, top)
	}
	putCodes(b[4:], &q, f)
}

// quantize8 makes a block of Q8_0.
func quantize8(b []byte, x *[32]float32) {
	var most float32
	for _, v := range x {
		most = max(most, abs(v))
	}
	d := most / 127
	inv := inverse(d)
	putHalf(b, d)
	for i, v := range x {
		q := math.Round(float64(v * inv)) // half away from zero
		if !(q >= -127 && q <= 127) {
			q = 0 // as in truncate
		}
		b[2+i] = uint8(int8(q))
	}
}

// putCodes stores codes of 4 bits, or of 5 with the high bits before them.
func putCodes(b []byte, q *[32]uint8, f Format) {
	if f == Q5_0 || f == Q5_1 {
		var high uint32
		for i, c := range q {
			high |= uint32(c>>4&1) << i
		}
		binary.LittleEndian.PutUint32(b, high)
		b = b[4:]
	}
	for i := range 16 {
		b[i] = q[i]&15 | q[i+16]<<4
	}
}

// largest is the first value of largest magnitude, with its sign.
func largest(x []float32) float32 {
	var most, v float32
	for _, w := range x {
		if a := abs(w); a > most {
			most, v = a, w
		}
	}
	return v
}

// inverse is 1/d, or 0 if d is.
func inverse(d float32) float32 {
	if d == 0 {
		return 0
	}
	return 1 / d
}

// truncate is x without its fraction, at least 0 and at most top. Where the
// inverse of a very small scale is infinite x may be infinite or NaN; the
// reference, run on amd64, then gets 0.
func truncate(x float32, top int) uint8 {
	if !(x > 0 && x <= math.MaxFloat32) {
		return 0
	}
	if x >= float32(top) {
		return uint8(top)
	}
	return uint8(x)
}

func abs(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }

// putHalf stores x as F16, rounded to nearest even, and returns the value of
// that.
func putHalf(b []byte, x float32) float32 {
	v := [1]float32{x}
	kernel.Narrow(b[:2], v[:], kernel.F16)
	return half(binary.LittleEndian.Uint16(b))
}
