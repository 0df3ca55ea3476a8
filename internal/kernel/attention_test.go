package kernel

import (
	"math"
	"math/rand/v2"
	"testing"
)

// dimensions of a head, and how far apart keys are.
var headShapes = []struct{ d, stride int }{
	{1, 1}, {3, 5}, {7, 7}, {8, 8}, {15, 20}, {16, 16}, {17, 17}, {24, 24}, {40, 41}, {64, 64}, {64, 192}, {80, 80}, {96, 96}, {128, 128}, {200, 256}, {256, 256}, {300, 300},
}

// cache makes keys vectors of d elements, stride apart, with NaN in between.
func cache(rng *rand.Rand, keys, d, stride int, f Format) []byte {
	v := make([]float32, keys*stride)
	for i := range v {
		v[i] = float32(rng.NormFloat64())
		if i%stride >= d {
			v[i] = float32(math.NaN())
		}
	}
	b := make([]byte, len(v)*f.Bytes())
	Narrow(b, v, f)
	return misaligned(b, 1+rng.IntN(63))[:((keys-1)*stride+d)*f.Bytes()]
}

func normal(rng *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

func TestScores(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(3, 3))
		for _, f := range productFormats {
			for _, s := range headShapes {
				keys := 1 + rng.IntN(40)
				k := cache(rng, keys, s.d, s.stride, f)
				const queries = 8
				q := normal(rng, queries*s.d)
				all := make([]float32, queries*keys)
				ScoresBatch(all, keys, q, queries, k, f, keys, s.stride, 0.3)
				for i := range queries {
					one := make([]float32, keys)
					Scores(one, q[i*s.d:(i+1)*s.d], k, f, keys, s.stride, 0.3)
					for j := range keys {
						var want, abs float64
						for e := range s.d {
							p := float64(q[i*s.d+e]) * getRef(k[(j*s.stride+e)*f.Bytes():], f)
							want += p
							abs += math.Abs(p)
						}
						if d := math.Abs(float64(one[j]) - 0.3*want); !(d <= abs*0x1p-22) {
							t.Fatalf("format %d, %+v, keys %d: score %d = %v, want %v", f, s, keys, j, one[j], 0.3*want)
						}
						if !same32(all[i*keys+j], one[j]) {
							t.Fatalf("format %d, %+v, keys %d: score %d of query %d = %v, alone %v", f, s, keys, j, i, all[i*keys+j], one[j])
						}
					}
					// The last key alone.
					var last [1]float32
					Scores(last[:], q[i*s.d:(i+1)*s.d], k[(keys-1)*s.stride*f.Bytes():], f, 1, s.stride, 0.3)
					if !same32(last[0], one[keys-1]) {
						t.Fatalf("format %d, %+v: last of %d keys = %v, alone %v", f, s, keys, one[keys-1], last[0])
					}
				}
			}
		}
	})
}

func TestWeightedSum(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(4, 4))
		for _, f := range productFormats {
			for _, s := range headShapes {
				keys := 1 + rng.IntN(40)
				v := cache(rng, keys, s.d, s.stride, f)
				const queries = 8
				p := make([]float32, queries*keys)
				for i := range p {
					p[i] = rng.Float32()
				}
				start := normal(rng, queries*s.d)
				all := append([]float32(nil), start...)
				WeightedSumBatch(all, queries, p, keys, v, f, keys, s.stride)
				for i := range queries {
					one := append([]float32(nil), start[i*s.d:(i+1)*s.d]...)
					w := p[i*keys : (i+1)*keys]
					cut := rng.IntN(keys)
					if cut > 0 {
						WeightedSum(one, w[:cut], v, f, cut, s.stride)
					}
					WeightedSum(one, w[cut:], v[cut*s.stride*f.Bytes():], f, keys-cut, s.stride)
					for e := range s.d {
						want := float64(start[i*s.d+e])
						abs := math.Abs(want)
						for j := range keys {
							p := float64(w[j]) * getRef(v[(j*s.stride+e)*f.Bytes():], f)
							want += p
							abs += math.Abs(p)
						}
						if d := math.Abs(float64(one[e]) - want); !(d <= abs*0x1p-20) {
							t.Fatalf("format %d, %+v, keys %d: element %d = %v, want %v", f, s, keys, e, one[e], want)
						}
						if !same32(all[i*s.d+e], one[e]) {
							t.Fatalf("format %d, %+v, keys %d: element %d of sum %d = %v, alone and cut at %d %v", f, s, keys, e, i, all[i*s.d+e], cut, one[e])
						}
					}
				}
			}
		}
	})
}

func TestCachedPanics(t *testing.T) {
	x := make([]float32, 8)
	for name, f := range map[string]func(){
		"short k":   func() { Scores(x, x, make([]byte, 4*8*3-1), F32, 3, 8, 1) },
		"short out": func() { Scores(x[:2], x, make([]byte, 4*8*3), F32, 3, 8, 1) },
		"short v":   func() { WeightedSum(x, x[:3], make([]byte, 4*8*3-1), F32, 3, 8) },
		"short p":   func() { WeightedSum(x, x[:2], make([]byte, 4*8*3), F32, 3, 8) },
		"format":    func() { Scores(x, x, make([]byte, 1000), F64, 1, 8, 1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

// unit is that in the last place of x as a float32.
func unit(x float64) float64 {
	exp := -126
	if x != 0 {
		exp = max(exp, math.Ilogb(x))
	}
	return math.Ldexp(1, exp-23)
}

// ulps is the distance of got from want in units in the last place of want.
func ulps(got float32, want float64) float64 {
	return math.Abs(float64(got)-want) / unit(want)
}

// TestExponential sees the exponential through Softmax of two elements of which
// one is 0, whose sum is then 1 + e.
func TestExponential(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		worst := 0.0
		for b := uint32(0x80000000); b < 0xC3000000; b += 40009 {
			v := math.Float32frombits(b)
			x := []float32{v, 0}
			Softmax(x)
			e := math.Exp(float64(v))
			for i, want := range []float64{e / (1 + e), 1 / (1 + e)} {
				u := ulps(x[i], want)
				worst = max(worst, u)
				if !(u <= 3) {
					t.Fatalf("softmax(%v, 0)[%d] = %v, want %v: %.2f units", v, i, x[i], want, u)
				}
			}
		}
		t.Logf("worst %.3f units", worst)
	})
}

func TestSoftmax(t *testing.T) {
	inf := float32(math.Inf(1))
	everywhere(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(5, 5))
		for n := range 200 {
			x := normal(rng, n)
			largest := math.Inf(-1)
			for i := range x {
				x[i] *= 5
				if rng.IntN(5) == 0 && i != n/2 {
					x[i] = -inf
				}
				largest = max(largest, float64(x[i]))
			}
			sum := 0.0
			for _, v := range x {
				sum += math.Exp(float64(v) - largest)
			}
			got := append([]float32(nil), x...)
			Softmax(got)
			for i, v := range x {
				want := math.Exp(float64(v)-largest) / sum
				// The difference is rounded to float32 before the exponential.
				if u := ulps(got[i], want); !(u <= 12+float64(n)/8+2*math.Abs(float64(v)-largest)) && want > 0x1p-126 || want == 0 && got[i] != 0 {
					t.Fatalf("n %d: softmax[%d] = %v, want %v", n, i, got[i], want)
				}
			}
		}
		for _, n := range []int{1, 5, 16, 33} {
			for name, fill := range map[string]float32{"-inf": -inf, "+inf": inf, "nan": float32(math.NaN())} {
				x := make([]float32, n)
				for i := range x {
					if name == "-inf" {
						x[i] = fill
					}
				}
				x[n/2] = fill
				Softmax(x)
				for i, v := range x {
					if v == v {
						t.Errorf("%s among %d: softmax[%d] = %v, want NaN", name, n, i, v)
					}
				}
			}
			x := make([]float32, n)
			x[0] = 1000
			Softmax(x)
			if x[0] != 1 {
				t.Errorf("one of %d far above: %v, want 1", n, x[0])
			}
		}
	})
}

// FuzzSoftmax compares every implementation with the portable one, for any bits.
func FuzzSoftmax(f *testing.F) {
	f.Add([]byte{0, 0, 0x80, 0x7F, 0, 0, 0, 0})
	f.Add([]byte{0, 0, 0x80, 0xFF, 0, 0, 0x80, 0xFF, 0, 0, 0xC0, 0x7F})
	ramp := make([]byte, 400)
	for i := range ramp {
		ramp[i] = byte(i*i>>3)&0x7F | 0x40
	}
	f.Add(ramp)
	f.Fuzz(func(t *testing.T, data []byte) {
		n := len(data) / 4
		x, want := make([]float32, n), make([]float32, n)
		Widen(x, data, F32)
		copy(want, x)
		restore, err := Use("portable")
		if err != nil {
			t.Fatal(err)
		}
		Softmax(want)
		restore()
		for _, name := range Implementations() {
			under(t, name)
			got := append([]float32(nil), x...)
			Softmax(got)
			for i := range got {
				same := got[i] != got[i] && want[i] != want[i]
				if !same && !(math.Abs(float64(got[i])-float64(want[i])) <= float64(want[i])*0x1p-23*float64(n+5)+0x1p-148) {
					t.Fatalf("%s: softmax(%v)[%d] = %v, want %v", name, x, i, got[i], want[i])
				}
			}
		}
	})
}
