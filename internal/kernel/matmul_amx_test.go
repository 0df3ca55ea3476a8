package kernel

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// amxFMA is a·b + c in float32, rounded once to nearest even, where subnormal
// factors and results are zero: one step of TDPBF16PS. a and b are bfloat16.
func amxFMA(a, b, c float32) float32 {
	p, d := float64(amxFlush(a))*float64(amxFlush(b)), float64(amxFlush(c)) // p is exact
	s := p + d
	if !math.IsInf(s, 0) && !math.IsNaN(s) {
		// What the addition lost decides ties: it goes into the last bit.
		v := s - p
		lost := (p - (s - v)) + (d - v)
		if bits := math.Float64bits(s); lost != 0 && bits&1 == 0 {
			if (lost > 0) == (s > 0) {
				s = math.Float64frombits(bits + 1)
			} else {
				s = math.Float64frombits(bits - 1)
			}
		}
	}
	// A result counts as subnormal by its size after rounding to 24 bits.
	if math.Abs(s) < 0x1p-100 && math.Abs(float64(float32(s*0x1p64))) < 0x1p-62 {
		return 0
	}
	return float32(s)
}

// amxAdd is a + b likewise; b times 1 is exact as well.
func amxAdd(a, b float32) float32 { return amxFMA(1, b, a) }

func amxFlush(x float32) float32 {
	if math.Float32bits(x)&(0xFF<<23) == 0 {
		return 0
	}
	return x
}

// amxDot is the sum that MatMul promises for AMX. x and w are bfloat16.
func amxDot(x, w []float32) float32 {
	var sum float32
	for len(x) > 0 {
		n := min(32, len(x))
		var even, odd float32
		for k := range n {
			if k%2 == 0 {
				even = amxFMA(x[k], w[k], even)
			} else {
				odd = amxFMA(x[k], w[k], odd)
			}
		}
		sum = amxAdd(sum, amxAdd(even, odd))
		x, w = x[n:], w[n:]
	}
	return sum
}

// amxFactors makes bfloat16 vectors of one kind.
func amxFactors(rng *rand.Rand, kind, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		switch kind {
		case anyBits:
			v[i] = math.Float32frombits(rng.Uint32() &^ 0xFFFF)
		case ordinary:
			v[i] = roundBF16(float32(rng.NormFloat64()))
		case edges:
			// Sums about where numbers become subnormal.
			v[i] = roundBF16(float32(math.Ldexp(rng.Float64()-0.5, rng.IntN(12)-66)))
		}
	}
	return v
}

// TestAMXReference checks the reference itself.
func TestAMXReference(t *testing.T) {
	rng := rand.New(rand.NewPCG(20, 20))
	for range 20000 {
		a, b := amxFactors(rng, ordinary, 1)[0], amxFactors(rng, ordinary, 1)[0]
		c := float32(math.Ldexp(rng.NormFloat64(), rng.IntN(60)-30))
		// Enough bits for the exact sum.
		want := exactFMA(a, b, c)
		if got := amxFMA(a, b, c); !same32(got, want) {
			t.Fatalf("amxFMA(%v, %v, %v) = %v, want %v", a, b, c, got, want)
		}
	}
	inf := float32(math.Inf(1))
	for _, c := range []struct{ a, b, c, want float32 }{
		{0x1p-127, 0x1p127, 0, 0},
		{0x1p-100, 0x1p-27, 0, 0},
		{0x1p-100, 0x1p-26, 0, 0x1p-126},
		{0x1p-100, -0x1p-27, 0x1p-126, 0},
		{1, 1, 0x1p-127, 1},
		{0x1p-63 * (1 + 0x1p-7), 0x1p-63 * (1 - 0x1p-7), 0, 0},
		{0x1p100, 0x1p100, 0, inf},
		{0x1p100, -0x1p100, 0, -inf},
		{1, 0x1p-24, 1, 1},
		{1 + 0x1p-7, 0x1p-24, 1, 1 + 0x1p-23},
	} {
		if got := amxFMA(c.a, c.b, c.c); !same32(got, c.want) {
			t.Errorf("amxFMA(%v, %v, %v) = %v, want %v", c.a, c.b, c.c, got, c.want)
		}
	}
	x, w := amxFactors(rng, ordinary, 999), amxFactors(rng, ordinary, 999)
	var sum, abs float64
	for i := range x {
		sum += float64(x[i]) * float64(w[i])
		abs += math.Abs(float64(x[i]) * float64(w[i]))
	}
	if got := float64(amxDot(x, w)); math.Abs(got-sum) > abs*0x1p-22 {
		t.Errorf("amxDot: %v, want %v", got, sum)
	}
}

// TestAMX compares products with the reference, bit for bit.
func TestAMX(t *testing.T) {
	if best() < amx {
		t.Skip("no AMX-BF16")
	}
	under(t, amx.String())
	rng := rand.New(rand.NewPCG(21, 21))
	check := func(m, rows, n, kind, samples int) {
		x, v := amxFactors(rng, kind, m*n), amxFactors(rng, kind, rows*n)
		if kind == anyBits {
			// Ordinary factors here and there, so that not all sums are NaN.
			copy(x, amxFactors(rng, ordinary, n))
		}
		w := make([]byte, 2*len(v))
		Narrow(w, v, BF16)
		got := multiplied(x, m, misaligned(w, 1+rng.IntN(63)), rows, n, BF16)
		for s := range samples {
			i, r := s/rows, s%rows
			if samples < m*rows {
				i, r = rng.IntN(m), rng.IntN(rows)
			}
			want := amxDot(x[i*n:(i+1)*n], v[r*n:(r+1)*n])
			if g := got[i*rows+r]; !same32(g, want) && !(g != g && want != want) {
				t.Fatalf("m %d, rows %d, n %d, kind %d: out[%d][%d] = %v (%08x), want %v (%08x)", m, rows, n, kind, i, r,
					g, math.Float32bits(g), want, math.Float32bits(want))
			}
		}
	}
	for kind := range kinds {
		for _, n := range []int{1, 2, 3, 16, 31, 32, 33, 64, 95, 256} {
			for _, m := range []int{1, 2, 3, 4, 5, 8, 9, 16, 17, 40} {
				rows := 1 + rng.IntN(70)
				check(m, rows, n, kind, min(m*rows, 400))
			}
		}
	}
	// Where rows are cut into parts, vectors into bands and rows into batches.
	for _, s := range []struct{ m, rows, n int }{
		{32, 20, 8250}, {33, 16, 8192}, {33, 31, 8001}, {40, 40, 6600}, {500, 530, 530}, {48, 15, 6000}, {64, 64, 4100}, {530, 37, 544}, {545, 20, 520}, {1030, 17, 515},
	} {
		check(s.m, s.rows, s.n, ordinary, 400)
	}
}

// exactFMA is a·b + c rounded once, by exact arithmetic.
func exactFMA(a, b, c float32) float32 {
	x := new(big.Float).SetPrec(400).SetFloat64(float64(a) * float64(b))
	f, _ := x.Add(x, big.NewFloat(float64(c))).Float32()
	return f
}
