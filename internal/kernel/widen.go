package kernel

import (
	"encoding/binary"
	"math"
)

// Widen converts the first len(dst) elements of src to float32. src needs
// len(dst)*f.Bytes() bytes and no alignment.
//
// The conversion is exact, except that F64 is rounded to nearest even. NaN stays
// NaN: BF16 and F32 keep all their bits, F16 keeps sign and payload and becomes
// quiet, as F8E5M2 does; NaNs of F8E4M3 keep the sign and of F64 become
// 0x7FC00000.
//
// It panics if src is too short or f is None.
func Widen(dst []float32, src []byte, f Format) {
	need("Widen", "src", src, len(dst), f)
	src = src[:len(dst)*f.Bytes()]
	done := fastWiden(dst, src, f)
	widen(dst[done:], src[done*f.Bytes():], f)
}

// widen is the portable definition of [Widen].
func widen(dst []float32, src []byte, f Format) {
	switch f {
	case BF16:
		src = src[:2*len(dst)]
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[2*i:])) << 16)
		}
	case F16:
		src = src[:2*len(dst)]
		for i := range dst {
			dst[i] = fromF16(binary.LittleEndian.Uint16(src[2*i:]))
		}
	case F32:
		src = src[:4*len(dst)]
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		}
	case F64:
		src = src[:8*len(dst)]
		for i := range dst {
			x := float32(math.Float64frombits(binary.LittleEndian.Uint64(src[8*i:])))
			if x != x {
				x = math.Float32frombits(nanF32)
			}
			dst[i] = x
		}
	case F8E4M3:
		for i, b := range src[:len(dst)] {
			dst[i] = e4m3[b]
		}
	case F8E5M2:
		for i, b := range src[:len(dst)] {
			dst[i] = e5m2[b]
		}
	}
}

// fromF16 is the value of an F16 pattern.
func fromF16(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	abs := uint32(h & 0x7FFF)
	switch {
	case abs > 0x7C00:
		return math.Float32frombits(sign | nanF32 | abs<<13)
	case abs == 0x7C00:
		return math.Float32frombits(sign | infF32)
	case abs < 0x0400:
		// Subnormal or zero: abs counts units of 2⁻²⁴, which float32 holds as a
		// normal number.
		return math.Float32frombits(sign | math.Float32bits(float32(abs)*0x1p-24))
	}
	return math.Float32frombits(sign | (abs<<13 + (127-15)<<23))
}

// The values of all FP8 codes.
var e4m3, e5m2 = fp8Tables()

func fp8Tables() (e4m3, e5m2 [256]float32) {
	for i := range 256 {
		// Every F8E5M2 pattern is the upper half of the F16 one of equal value.
		e5m2[i] = fromF16(uint16(i) << 8)

		sign, abs := uint32(i&0x80)<<24, i&0x7F
		exp, man := abs>>3, abs&7
		var x uint32
		switch {
		case abs == 0x7F:
			x = nanF32
		case exp == 0:
			x = math.Float32bits(float32(man) * 0x1p-9)
		default:
			x = uint32(exp-7+127)<<23 | uint32(man)<<20
		}
		e4m3[i] = math.Float32frombits(sign | x)
	}
	return e4m3, e5m2
}
