package kernel

import (
	"encoding/binary"
	"math"
)

// NarrowStochastic is [Narrow], except that a value between two neighbours of f
// becomes the one of larger magnitude with a probability equal to its distance
// from the other in units of the gap, so that the expected result is the value
// itself. F32 and F64 hold every value, so for them it is Narrow.
//
// Exact values, −0 among them, stay; NaN is canonical. Magnitudes above the
// largest finite value of f have no upper neighbour and are rounded as in
// Narrow; those at or below it never become infinity. Probabilities are exact
// for BF16 and for F16 down to 2⁻⁶⁴, below which F16 always gives zero.
//
// The random bits for src[i] depend on key and first+i alone. With all
// arithmetic modulo 2⁶⁴ and mix the output function of SplitMix64 (Steele, Lea
// and Flood, "Fast Splittable Pseudorandom Number Generators", 2014),
//
//	mix(z): z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
//	        z = (z ^ z>>27) * 0x94D049BB133111EB
//	        z = z ^ z>>31
//
// they are h = mix(mix(key) + (first+i+1)*0x9E3779B97F4A7C15). Hashing the key
// first keeps keys that differ by a multiple of the increment from reading one
// sequence at shifted places. Where k bits of a value are to be rounded away,
// the top k bits of h are added to its magnitude, which is then cut off.
//
// It panics if dst is too short or f is not BF16, F16, F32 or F64.
func NarrowStochastic(dst []byte, src []float32, f Format, key uint64, first int64) {
	needOut("NarrowStochastic", f)
	need("NarrowStochastic", "dst", dst, len(src), f)
	dst = dst[:len(src)*f.Bytes()]
	base := mix64(key) + (uint64(first)+1)*gamma
	switch f {
	case BF16:
		done := fastStochasticBF16(dst, src, base)
		stochasticBF16(dst[2*done:], src[done:], base+uint64(done)*gamma)
	case F16:
		stochasticF16(dst, src, base)
	default:
		Narrow(dst, src, f)
	}
}

// gamma is the increment between the hash inputs of neighbouring elements.
const gamma = 0x9E3779B97F4A7C15

// mix64 is the output function of SplitMix64.
func mix64(z uint64) uint64 {
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

// stochasticBF16 is the portable definition for BF16; base is the hash input of
// the first element.
func stochasticBF16(dst []byte, src []float32, base uint64) {
	dst = dst[:2*len(src)]
	for i, x := range src {
		b := math.Float32bits(x)
		h := mix64(base)
		base += gamma
		r := uint16((b + uint32(h>>48)) >> 16)
		if b&^(1<<31) > maxBF16 {
			r = toBF16(x)
		}
		binary.LittleEndian.PutUint16(dst[2*i:], r)
	}
}

// stochasticF16 is the definition for F16, as stochasticBF16.
func stochasticF16(dst []byte, src []float32, base uint64) {
	dst = dst[:2*len(src)]
	for i, x := range src {
		h := mix64(base)
		base += gamma
		binary.LittleEndian.PutUint16(dst[2*i:], toF16Stochastic(x, h))
	}
}

// toF16Stochastic rounds x by the random bits h.
func toF16Stochastic(x float32, h uint64) uint16 {
	b := math.Float32bits(x)
	sign, abs := uint16(b>>16)&0x8000, b&^(1<<31)
	switch {
	case abs > maxF16:
		return toF16(x)
	case abs >= minF16:
		return sign | uint16((abs-(127-15)<<23+uint32(h>>51))>>13)
	}
	// x = man·2^(exp−150) is man·2^−drop units of 2⁻²⁴.
	exp, man := abs>>23, abs&(1<<23-1)
	if exp == 0 {
		exp = 1
	} else {
		man |= 1 << 23
	}
	drop := 126 - exp
	if drop > 63 {
		return sign
	}
	return sign | uint16((uint64(man)+h>>(64-drop))>>drop)
}
