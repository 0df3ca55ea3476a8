package kernel

import (
	"encoding/binary"
	"math"
)

// Narrow rounds src to f, ties to even, into the first len(src)*f.Bytes() bytes
// of dst, which needs no alignment. f is BF16, F16, F32 or F64; the last two are
// exact. Magnitudes that round beyond the largest finite value become infinity
// (65520 and above for F16). NaN becomes the canonical quiet NaN of f: 0x7FC0,
// 0x7E00, 0x7FC00000, 0x7FF8000000000000.
//
// It panics if dst is too short or f is another format.
func Narrow(dst []byte, src []float32, f Format) {
	needOut("Narrow", f)
	need("Narrow", "dst", dst, len(src), f)
	dst = dst[:len(src)*f.Bytes()]
	done := fastNarrow(dst, src, f)
	narrow(dst[done*f.Bytes():], src[done:], f)
}

// narrow is the portable definition of [Narrow].
func narrow(dst []byte, src []float32, f Format) {
	switch f {
	case BF16:
		dst = dst[:2*len(src)]
		for i, x := range src {
			binary.LittleEndian.PutUint16(dst[2*i:], toBF16(x))
		}
	case F16:
		dst = dst[:2*len(src)]
		for i, x := range src {
			binary.LittleEndian.PutUint16(dst[2*i:], toF16(x))
		}
	case F32:
		dst = dst[:4*len(src)]
		for i, x := range src {
			b := math.Float32bits(x)
			if x != x {
				b = nanF32
			}
			binary.LittleEndian.PutUint32(dst[4*i:], b)
		}
	case F64:
		dst = dst[:8*len(src)]
		for i, x := range src {
			b := math.Float64bits(float64(x))
			if x != x {
				b = nanF64
			}
			binary.LittleEndian.PutUint64(dst[8*i:], b)
		}
	}
}

// toBF16 rounds x to BF16, ties to even.
func toBF16(x float32) uint16 {
	if x != x {
		return nanBF16
	}
	b := math.Float32bits(x)
	// Just under half a unit, plus one when the kept part is odd: the carry is
	// the rounding, and runs into the exponent, up to infinity, as it should.
	return uint16((b + 0x7FFF + b>>16&1) >> 16)
}

// roundBF16 is the float32 value of toBF16(x).
func roundBF16(x float32) float32 {
	b := math.Float32bits(x)
	b = (b + 0x7FFF + b>>16&1) &^ 0xFFFF
	if x != x {
		b = nanF32
	}
	return math.Float32frombits(b)
}

// toF16 rounds x to F16, ties to even.
func toF16(x float32) uint16 {
	b := math.Float32bits(x)
	sign, abs := uint16(b>>16)&0x8000, b&0x7FFFFFFF
	switch {
	case abs > infF32:
		return nanF16
	case abs >= infF16:
		return sign | 0x7C00
	case abs >= minF16:
		return sign | uint16((abs-(127-15)<<23+0xFFF+abs>>13&1)>>13)
	}
	// Between 1/2 and 1 the unit of float32 is 2⁻²⁴, that of a subnormal F16:
	// adding 1/2 rounds to it, ties to even, and leaves the count in the mantissa.
	return sign | uint16(math.Float32bits(math.Float32frombits(abs)+0.5)-math.Float32bits(0.5))
}
