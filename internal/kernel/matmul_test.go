package kernel

import (
	"math"
	"math/rand/v2"
	"testing"
)

var productFormats = []Format{BF16, F16, F32}

// factors makes activations and weights, each (count, n), as models have them.
func factors(rng *rand.Rand, m, rows, n int, f Format) (x []float32, w []byte) {
	x = make([]float32, m*n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	v := make([]float32, rows*n)
	for i := range v {
		v[i] = float32(rng.NormFloat64() * 0.05)
	}
	w = make([]byte, rows*n*f.Bytes())
	Narrow(w, v, f)
	return x, misaligned(w, 1+rng.IntN(63))
}

// sumRef is Σ x[k]·w[k] exactly enough, and Σ |x[k]·w[k]|, with x rounded to
// bfloat16 if w is.
func sumRef(x []float32, w []byte, f Format) (sum, abs float64) {
	for k, v := range x {
		a := float64(v)
		if f == BF16 {
			a = float64(roundBF16(v))
		}
		p := a * getRef(w[k*f.Bytes():], f)
		sum += p
		abs += math.Abs(p)
	}
	return sum, abs
}

func multiplied(x []float32, m int, w []byte, rows, n int, f Format) []float32 {
	a := NewActivations(m, n, f)
	a.Set(x, m)
	out := make([]float32, m*rows)
	MatMul(out, rows, a, w, rows)
	return out
}

func TestMatMul(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(1, 1))
		for _, f := range productFormats {
			for _, n := range []int{0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 127, 128, 577, 1024, 2100} {
				for _, m := range []int{1, 2, 7, 20} {
					rows := 1 + rng.IntN(40)
					x, w := factors(rng, m, rows, n, f)
					got := multiplied(x, m, w, rows, n, f)
					for i := range m {
						for r := range rows {
							want, abs := sumRef(x[i*n:(i+1)*n], w[r*n*f.Bytes():], f)
							if d := math.Abs(float64(got[i*rows+r]) - want); !(d <= abs*0x1p-22*math.Sqrt(float64(n)/16+4)) {
								t.Fatalf("format %d, n %d, m %d, rows %d: out[%d][%d] = %v, want %v", f, n, m, rows, i, r, got[i*rows+r], want)
							}
						}
					}
				}
			}
		}
	})
}

// TestBatchInvariance computes products in every batch and range of rows, and
// compares bits.
func TestBatchInvariance(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(2, 2))
		const most, all = 33, 40
		for _, f := range productFormats {
			for _, n := range []int{5, 77, 128, 333, 2048, 4099} {
				batches, ranges := seq(1, most), seq(1, 17)
				if n > 128 || testing.Short() {
					batches, ranges = []int{1, 2, 5, 6, 7, 13, 33}, []int{1, 3, 4, 9, 17}
				}
				if inUse == portable && n > 333 {
					continue
				}
				x, w := factors(rng, most, all, n, f)
				one := make([][]float32, most)
				for i := range one {
					one[i] = make([]float32, all)
					for r := range all {
						// Row by row, each by itself.
						copy(one[i][r:], multiplied(x[i*n:], 1, w[r*n*f.Bytes():], 1, n, f))
					}
				}
				for _, m := range batches {
					for _, rows := range ranges {
						first, i0 := rng.IntN(all-rows+1), rng.IntN(most-m+1)
						got := multiplied(x[i0*n:], m, w[first*n*f.Bytes():], rows, n, f)
						for i := range m {
							for r := range rows {
								if want := one[i0+i][first+r]; !same32(got[i*rows+r], want) {
									t.Fatalf("format %d, n %d, m %d, rows %d: out[%d][%d] = %v, alone %v", f, n, m, rows, i, r, got[i*rows+r], want)
								}
							}
						}
					}
				}
			}
		}
	})
}

func seq(from, to int) []int {
	var s []int
	for i := from; i <= to; i++ {
		s = append(s, i)
	}
	return s
}

// TestBands needs enough vectors for bands, and rows for blocks.
func TestBands(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		if inUse == portable {
			t.Skip("has none")
		}
		rng := rand.New(rand.NewPCG(10, 10))
		const m, rows, n = 301, 75, 2070
		for _, f := range productFormats {
			x, w := factors(rng, m, rows, n, f)
			got := multiplied(x, m, w, rows, n, f)
			for i := 0; i < m; i += 7 {
				one := multiplied(x[i*n:], 1, w, rows, n, f)
				for r, want := range one {
					if !same32(got[i*rows+r], want) {
						t.Fatalf("format %d: out[%d][%d] = %v, alone %v", f, i, r, got[i*rows+r], want)
					}
				}
			}
		}
	})
}

// TestPairs says what VDPBF16PS does: subnormal factors and results are zero,
// the odd element of a pair comes first.
func TestPairs(t *testing.T) {
	if best() < avx512bf16 {
		t.Skip("no AVX512_BF16")
	}
	under(t, avx512bf16.String())
	flush := func(x float64) float64 {
		if math.Abs(x) < 0x1p-126 {
			return 0
		}
		return x
	}
	fma := func(a, b, c float64) float64 { return flush(float64(float32(flush(a)*flush(b) + c))) }
	rng := rand.New(rand.NewPCG(11, 11))
	for trial := range 2000 {
		const n = 96
		var x [n]float32
		for i := range x {
			// Products of about one size are exact sums of float64.
			x[i] = roundBF16(float32(math.Ldexp(rng.Float64()-0.5, rng.IntN(12))))
			if trial%2 == 1 {
				x[i] = roundBF16(float32(math.Ldexp(rng.Float64()-0.5, rng.IntN(8)-124)))
			}
		}
		var w [2 * n]byte
		v := normal(rng, n)
		if trial%2 == 1 {
			for i := range v {
				v[i] = 1
			}
		}
		Narrow(w[:], v, BF16)
		var lane [16]float64
		for k := 0; k < n; k += 2 {
			l := &lane[k/2%16]
			*l = fma(float64(x[k+1]), getRef(w[2*k+2:], BF16), *l)
			*l = fma(float64(x[k]), getRef(w[2*k:], BF16), *l)
		}
		var quarter [4]float32
		for i := range quarter {
			l := lane[4*i:]
			quarter[i] = float32(float32(l[0])+float32(l[2])) + float32(float32(l[1])+float32(l[3]))
		}
		want := float32(quarter[0]+quarter[2]) + float32(quarter[1]+quarter[3])
		if got := multiplied(x[:], 1, w[:], 1, n, BF16)[0]; !same32(got, want) {
			t.Fatalf("trial %d: %v, want %v", trial, got, want)
		}
	}
}

// TestNotFinite puts NaN and infinities into one row and one vector: nothing
// else may notice.
func TestNotFinite(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(12, 12))
		const m, rows, n = 7, 9, 50
		for _, f := range productFormats {
			for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1))} {
				x, w := factors(rng, m, rows, n, f)
				clean := multiplied(x, m, w, rows, n, f)
				i, r, k := rng.IntN(m), rng.IntN(rows), rng.IntN(n)
				x[i*n+k] = bad
				Narrow(w[(r*n+(k+1)%n)*f.Bytes():], []float32{bad}, f)
				got := multiplied(x, m, w, rows, n, f)
				for j := range got {
					finite := !math.IsNaN(float64(got[j])) && !math.IsInf(float64(got[j]), 0)
					if hit := j/rows == i || j%rows == r; hit == finite || !hit && !same32(got[j], clean[j]) {
						t.Fatalf("format %d, %v at x[%d], w[%d]: out[%d][%d] = %v", f, bad, i, r, j/rows, j%rows, got[j])
					}
				}
			}
		}
	})
}

// FuzzMatMul compares every implementation with sums in float64, for any bits.
func FuzzMatMul(f *testing.F) {
	ramp := make([]byte, 2000)
	for i := range ramp {
		ramp[i] = byte(i * i >> 3)
	}
	for i := range uint16(12) {
		f.Add(ramp[:160*(i+1)], uint8(i), uint8(i*3), uint8(i*5))
	}
	f.Add([]byte{0xC0, 0x7F, 0x80, 0x7F, 1, 0, 2, 0, 0x80, 0x3F, 0x80, 0xFF}, uint8(0), uint8(0), uint8(0))
	f.Fuzz(func(t *testing.T, data []byte, format, m8, rows8 uint8) {
		fm := productFormats[int(format)%len(productFormats)]
		m, rows := 1+int(m8)%8, 1+int(rows8)%8
		n := len(data) / (4*m + rows*fm.Bytes())
		x := make([]float32, m*n)
		Widen(x, data, F32)
		w := data[4*m*n : (4*m+rows*fm.Bytes())*n]
		for _, name := range Implementations() {
			under(t, name)
			pairs := fm == BF16 && multipliesPairs()
			got := multiplied(x, m, w, rows, n, fm)
			for i := range m {
				for r := range rows {
					var sum, abs float64
					for k := range n {
						a, b := float64(x[i*n+k]), getRef(w[(r*n+k)*fm.Bytes():], fm)
						if fm == BF16 {
							a = float64(roundBF16(x[i*n+k]))
						}
						if pairs && math.Abs(a) < 0x1p-126 {
							a = 0
						}
						if pairs && math.Abs(b) < 0x1p-126 {
							b = 0
						}
						sum += a * b
						if p := math.Abs(a * b); p <= math.MaxFloat64 {
							abs += p
						}
					}
					g := float64(got[i*rows+r])
					switch {
					case math.IsNaN(sum):
						if abs < 1e38 && !math.IsNaN(g) {
							t.Fatalf("%s, format %d, n %d: out[%d][%d] = %v, want NaN", name, fm, n, i, r, g)
						}
					case abs > 1e38: // may overflow on the way
					case math.IsInf(sum, 0):
						if g != sum {
							t.Fatalf("%s, format %d, n %d: out[%d][%d] = %v, want %v", name, fm, n, i, r, g, sum)
						}
					case !(math.Abs(g-sum) <= abs*0x1p-24*float64(n+1)+float64(n)*0x1p-125):
						t.Fatalf("%s, format %d, n %d: out[%d][%d] = %v, want %v", name, fm, n, i, r, g, sum)
					}
				}
			}
		}
	})
}

func TestMatMulPanics(t *testing.T) {
	a := NewActivations(2, 8, F32)
	a.Set(make([]float32, 16), 2)
	for name, f := range map[string]func(){
		"short w":   func() { MatMul(make([]float32, 8), 4, a, make([]byte, 127), 4) },
		"short out": func() { MatMul(make([]float32, 7), 4, a, make([]byte, 128), 4) },
		"format":    func() { NewActivations(1, 1, F64) },
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
