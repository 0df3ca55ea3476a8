package expo_test

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"

	"expo"
	"expo/weights/tensor"
)

// The reference computes one element at a time, in the order of the
// definitions and with roundings by scaling to an integer. It shares no code
// with the kernels.

// format is a binary floating-point format: mantissa bits, exponent of the
// smallest normal number, largest finite value.
type format struct {
	mantissa, least int
	largest         float64
}

var formats = map[tensor.DType]format{
	tensor.BF16: {7, -126, 0x1.FEp127},
	tensor.F16:  {10, -14, 65504},
	tensor.F32:  {23, -126, math.MaxFloat32},
}

// unit is the distance of neighbours around x.
func (f format) unit(x float64) float64 {
	_, e := math.Frexp(x) // x = m·2^e, 0.5 ≤ m < 1
	return math.Ldexp(1, max(e-1, f.least)-f.mantissa)
}

// nearest rounds x to nearest, ties to even.
func (f format) nearest(x float64) float64 {
	if x == 0 || x-x != 0 {
		return x
	}
	u := f.unit(x)
	r := math.RoundToEven(x/u) * u
	if math.Abs(r) > f.largest {
		return math.Inf(int(math.Copysign(1, x)))
	}
	return math.Copysign(r, x)
}

// random rounds x up or down by the 64 random bits h.
func (f format) random(x float64, h uint64) float64 {
	if x == 0 || x-x != 0 || math.Abs(x) > f.largest {
		return f.nearest(x)
	}
	u := f.unit(x)
	whole, part := math.Modf(math.Abs(x) / u)
	// A float32 has at most 23 mantissa bits, so x/u has k bits after the
	// point: those of a normal number that the format lacks, and one more for
	// each exponent below the least.
	k := 23 - f.mantissa
	if _, e := math.Frexp(x); e-1 < f.least {
		k += f.least - max(e-1, -126)
	}
	if k > 63 {
		return math.Copysign(0, x)
	}
	if part+float64(h>>(64-k))/math.Ldexp(1, k) >= 1 {
		whole++
	}
	return math.Copysign(whole*u, x)
}

// decode gives the values of a tensor's bytes, as float32 except for F64.
func decode(d tensor.DType, b []byte) []float64 {
	var out []float64
	for i := 0; i < len(b); i += d.Bits() / 8 {
		switch d {
		case tensor.F64:
			out = append(out, math.Float64frombits(binary.LittleEndian.Uint64(b[i:])))
		case tensor.F32:
			out = append(out, bits(uint64(binary.LittleEndian.Uint32(b[i:])), 8, 23, true))
		case tensor.BF16:
			out = append(out, bits(uint64(binary.LittleEndian.Uint16(b[i:])), 8, 7, true))
		case tensor.F16:
			out = append(out, bits(uint64(binary.LittleEndian.Uint16(b[i:])), 5, 10, true))
		case tensor.F8E5M2:
			out = append(out, bits(uint64(b[i]), 5, 2, true))
		case tensor.F8E4M3:
			out = append(out, bits(uint64(b[i]), 4, 3, false))
		default:
			panic(fmt.Sprint("decode: ", d))
		}
	}
	return out
}

// bits is the value of a code with so many exponent and mantissa bits. Without
// infinities only the last code of either sign is special: NaN.
func bits(code uint64, exponent, mantissa int, infinities bool) float64 {
	sign := 1.0
	if code>>(exponent+mantissa)&1 == 1 {
		sign = -1
	}
	e := int(code >> mantissa & (1<<exponent - 1))
	m := code & (1<<mantissa - 1)
	bias := 1<<(exponent-1) - 1
	switch {
	case e == 1<<exponent-1 && infinities && m == 0:
		return math.Inf(int(sign))
	case e == 1<<exponent-1 && (infinities || m == 1<<mantissa-1):
		return math.NaN()
	case e == 0:
		return math.Copysign(math.Ldexp(float64(m), 1-bias-mantissa), sign)
	}
	return sign * math.Ldexp(float64(m|1<<mantissa), e-bias-mantissa)
}

// reference is element i of the result. a and s are values of the inputs, in
// an F64 tensor with all their digits.
func reference(a, s float64, alpha float64, r expo.Rounding, aligned, out tensor.DType, key uint64, i int) float64 {
	f32 := formats[tensor.F32]
	al := f32.nearest(alpha)
	x, y := f32.nearest(a), f32.nearest(s)
	if r == expo.PerOp {
		bf := formats[tensor.BF16]
		x, y = bf.nearest(x), bf.nearest(y)
		t := bf.nearest(f32.nearest(x - y))
		u := bf.nearest(f32.nearest(al * t))
		return narrow(bf.nearest(f32.nearest(x+u)), out)
	}
	if al == 0 || x == y {
		if out == aligned {
			return a
		}
		return round(x, r, out, key, i)
	}
	d := f32.nearest(x - y)
	p := f32.nearest(al * d)
	return round(f32.nearest(x+p), r, out, key, i)
}

func round(x float64, r expo.Rounding, out tensor.DType, key uint64, i int) float64 {
	if r == expo.Stochastic && (out == tensor.BF16 || out == tensor.F16) {
		return formats[out].random(x, mix(mix(key)+uint64(i+1)*0x9E3779B97F4A7C15))
	}
	return narrow(x, out)
}

func narrow(x float64, out tensor.DType) float64 {
	if out == tensor.F64 {
		return x
	}
	return formats[out].nearest(x)
}

// mix is the output function of SplitMix64.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return z ^ z>>31
}

// key seeds a tensor's random bits.
func key(seed uint64, name string) uint64 {
	b := make([]byte, 8, 64)
	binary.LittleEndian.PutUint64(b, seed)
	sum := sha256.Sum256(append(b, name...))
	return binary.LittleEndian.Uint64(sum[:8])
}

// same is equality of values with the sign of zero; all NaN are one.
func same(x, y float64) bool {
	return math.Float64bits(x) == math.Float64bits(y) || x != x && y != y
}
