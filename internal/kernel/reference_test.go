package kernel

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
)

// What the package promises, said again in other words: formats by their
// definition in powers of two, rounding by math.RoundToEven on exact float64,
// float32 operations as float64 ones rounded once more, which is known to be
// the same.

// layout is a format by its numbers.
type layout struct {
	mantissa, bias, exponents int     // bits of the mantissa, bias, count of exponents with finite values
	largest                   float64 // finite value
}

var layouts = map[Format]layout{
	BF16:   {7, 127, 255, 0x1.FEp127},
	F16:    {10, 15, 31, 65504},
	F32:    {23, 127, 255, math.MaxFloat32},
	F8E4M3: {3, 7, 16, 448},
	F8E5M2: {2, 15, 31, 57344},
}

// valueRef is the value of the pattern p of f, which is not F64.
func valueRef(p uint64, f Format) float64 {
	l := layouts[f]
	width := 8 * f.Bytes()
	sign := 1.0
	if p>>(width-1) == 1 {
		sign = -1
	}
	exp := int(p >> l.mantissa & (1<<(width-1-l.mantissa) - 1))
	man := float64(p & (1<<l.mantissa - 1))
	one := float64(int(1) << l.mantissa)
	switch {
	case f == F8E4M3 && exp == 15 && man == 7:
		return math.NaN()
	case exp >= l.exponents && man == 0:
		return math.Inf(int(sign))
	case exp >= l.exponents:
		return math.NaN()
	case exp == 0:
		return sign * math.Ldexp(man/one, 1-l.bias)
	}
	return sign * math.Ldexp(1+man/one, exp-l.bias)
}

// getRef is the first element of b.
func getRef(b []byte, f Format) float64 {
	switch f.Bytes() {
	case 1:
		return valueRef(uint64(b[0]), f)
	case 2:
		return valueRef(uint64(binary.LittleEndian.Uint16(b)), f)
	case 4:
		return valueRef(uint64(binary.LittleEndian.Uint32(b)), f)
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(b))
}

// gridRef is the gap between neighbours of f around x.
func gridRef(x float64, f Format) float64 {
	l := layouts[f]
	exp := 1 - l.bias
	if x != 0 {
		exp = max(exp, math.Ilogb(x))
	}
	return math.Ldexp(1, exp-l.mantissa)
}

// roundRef is x rounded to f, ties to even.
func roundRef(x float64, f Format) float64 {
	if f == F64 || x == 0 || math.IsInf(x, 0) || math.IsNaN(x) {
		return x
	}
	g := gridRef(x, f)
	y := math.RoundToEven(x/g) * g // division and product by a power of two
	if math.Abs(y) > layouts[f].largest {
		return math.Copysign(math.Inf(1), x)
	}
	return y
}

// patternRef is the pattern of a value y of f, with canonical NaN.
func patternRef(y float64, f Format) uint64 {
	if f == F64 {
		if y != y {
			return 0x7FF8000000000000
		}
		return math.Float64bits(y)
	}
	l := layouts[f]
	width := 8 * f.Bytes()
	sign := uint64(0)
	if math.Signbit(y) {
		sign = 1 << (width - 1)
	}
	y = math.Abs(y)
	top := uint64(l.exponents) << l.mantissa
	switch {
	case y != y && f == F8E4M3:
		return 0x7F
	case y != y:
		return top | 1<<(l.mantissa-1)
	case math.IsInf(y, 0):
		return sign | top
	case y == 0:
		return sign
	}
	exp := max(1-l.bias, math.Ilogb(y))
	// The carry of a full mantissa into the exponent is what the encoding means.
	return sign | (uint64(exp+l.bias-1)<<l.mantissa + uint64(math.Ldexp(y, l.mantissa-exp)))
}

// putRef stores x, rounded, in b. FP8, which the package does not write, gets a
// random finite code instead of a value that is too large.
func putRef(b []byte, x float32, f Format, rng *rand.Rand) {
	y := roundRef(float64(x), f)
	if f.Bytes() == 1 && (math.IsInf(y, 0) || math.Abs(y) > layouts[f].largest) {
		b[0] = byte(rng.Uint32()) & 0x3F
		return
	}
	p := patternRef(y, f)
	switch f.Bytes() {
	case 1:
		b[0] = byte(p)
	case 2:
		binary.LittleEndian.PutUint16(b, uint16(p))
	case 4:
		binary.LittleEndian.PutUint32(b, uint32(p))
	case 8:
		binary.LittleEndian.PutUint64(b, p)
	}
}

// mixRef is Mix32 of one element.
func mixRef(a, s, alpha float32) float32 {
	if alpha == 0 || a == s {
		return a
	}
	d := float32(float64(a) - float64(s))
	p := float32(float64(alpha) * float64(d))
	return float32(float64(a) + float64(p))
}

// perOpRef is MixPerOp32 of one element.
func perOpRef(a, s, alpha float32) float32 {
	bf := func(x float64) float64 { return roundRef(float64(float32(x)), BF16) }
	x := bf(float64(a))
	t := bf(x - bf(float64(s)))
	u := bf(float64(alpha) * t)
	return float32(bf(x + u))
}

// runRef is what Run does for Once and PerOp.
func runRef(m *Mixer, n int, a, s []byte) ([]byte, Stats) {
	wo, wa, ws := m.Out.Bytes(), m.Aligned.Bytes(), m.SFT.Bytes()
	dst := make([]byte, n*wo)
	va, vs, vo := make([]float32, n), make([]float32, n), make([]float32, n)
	for i := range n {
		x, y := float32(getRef(a[i*wa:], m.Aligned)), float32(getRef(s[i*ws:], m.SFT))
		var r float32
		if m.Rounding == PerOp {
			r = perOpRef(x, y, m.Alpha)
		} else {
			r = mixRef(x, y, m.Alpha)
		}
		putRef(dst[i*wo:], r, m.Out, nil)
		if m.Rounding != PerOp && m.Out == m.Aligned && (m.Alpha == 0 || x == y) {
			copy(dst[i*wo:(i+1)*wo], a[i*wa:])
		}
		va[i], vs[i], vo[i] = x, y, float32(getRef(dst[i*wo:], m.Out))
	}
	var st Stats
	measureRef(&st, va, vs, vo)
	return dst, st
}

// measureRef is Measure.
func measureRef(st *Stats, a, s, out []float32) {
	finite := func(xs ...float32) bool {
		for _, x := range xs {
			if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
				return false
			}
		}
		return true
	}
	nan := func(x float32) bool { return math.IsNaN(float64(x)) }
	for len(out) > 0 {
		n := min(4096, len(out))
		var l [4][8]float64
		for i := range n {
			x, y, z := a[i], s[i], out[i]
			d, e := float32(float64(x)-float64(y)), float32(float64(z)-float64(x))
			st.Elements++
			if x == y {
				st.Equal++
			}
			if x != y && finite(x, y, d, z) && z == x {
				st.Swallowed++
			}
			switch {
			case nan(z):
				st.NaN++
			case !finite(z):
				st.Inf++
			}
			switch {
			case nan(x) || nan(y):
				st.InputNaN++
			case !finite(x, y):
				st.InputInf++
			case !finite(z):
				st.Overflow++
			}
			if !finite(x, y, d, z, e) {
				continue
			}
			for k, p := range []float64{float64(d) * float64(d), float64(x) * float64(x), float64(e) * float64(e), float64(e) * float64(d)} {
				l[k][i%8] += p
			}
		}
		for k, sum := range []*float64{&st.Delta2, &st.Aligned2, &st.Step2, &st.StepDelta} {
			*sum += ((l[k][0] + l[k][4]) + (l[k][2] + l[k][6])) + ((l[k][1] + l[k][5]) + (l[k][3] + l[k][7]))
		}
		a, s, out = a[n:], s[n:], out[n:]
	}
}
