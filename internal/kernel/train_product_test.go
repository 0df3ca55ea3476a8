package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// oneProduct multiplies m vectors by n of k elements. What lies in memory is
// (m, k) or, turned, (k, m); and (n, k) or (k, n).
func oneProduct(out []float32, stride, m, n, k int, x, y []float32, xTurned, yTurned bool, f Format, add bool) {
	a, b := NewLeft(f), NewRight(f)
	if f == F32 && m%2 == 0 {
		b = NewNarrow()
	}
	a.Resize(m, k)
	b.Resize(n, k)
	if xTurned {
		a.PackColumns(x, m, 0, a.Count())
	} else {
		a.PackRows(x, k, 0, a.Count())
	}
	if yTurned {
		b.PackColumns(y, n, 0, b.Count())
	} else {
		b.PackRows(y, k, 0, b.Count())
	}
	Multiply(out, stride, a, b, add, 0, a.Count(), 0, b.Count())
}

func randomFloats(rng *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

func TestMultiply(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(4, 4))
		for _, f := range []Format{F32, BF16} {
			for _, k := range []int{0, 1, 2, 3, 15, 16, 17, 31, 32, 33, 64, 255, 256, 257, 511, 513, 1100} {
				for range 4 {
					m, n := 1+rng.IntN(40), 1+rng.IntN(70)
					if rng.IntN(3) == 0 {
						m, n = 24, 64
					}
					x, y := randomFloats(rng, m*k), randomFloats(rng, n*k)
					at := func(v []float32, i, j, rows, cols int, turned bool) float64 {
						place := i*cols + j
						if turned {
							place = j*rows + i
						}
						w := v[place]
						if f == BF16 {
							w = roundBF16(w)
						}
						return float64(w)
					}
					xt, yt, add := rng.IntN(2) == 0, rng.IntN(2) == 0, rng.IntN(2) == 0
					stride := n + rng.IntN(3)
					out := randomFloats(rng, m*stride)
					former := append([]float32(nil), out...)
					oneProduct(out, stride, m, n, k, x, y, xt, yt, f, add)
					for i := range m {
						for j := range stride {
							got := out[i*stride+j]
							if j >= n {
								if got != former[i*stride+j] {
									t.Fatalf("%d %d×%d×%d: wrote behind row %d", f, m, n, k, i)
								}
								continue
							}
							var want, abs float64
							if add {
								want = float64(former[i*stride+j])
								abs = math.Abs(want)
							}
							for e := range k {
								p := at(x, i, e, m, k, xt) * at(y, j, e, n, k, yt)
								want += p
								abs += math.Abs(p)
							}
							if math.Abs(float64(got)-want) > 1e-6*abs+1e-30 {
								t.Fatalf("format %d, (%d, %d)·(%d, %d), turned %v %v, add %v: element %d, %d is %v, want %v", f, m, k, n, k, xt, yt, add, i, j, got, want)
							}
						}
					}
				}
			}
		}
	})
}

// An element must not depend on how the work is cut, on its place, or on what
// lies beside it.
func TestMultiplyElementwise(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(5, 5))
		const m, n, k = 53, 97, 300
		for _, f := range []Format{F32, BF16} {
			x, y := randomFloats(rng, m*k), randomFloats(rng, n*k)
			whole := make([]float32, m*n)
			oneProduct(whole, n, m, n, k, x, y, false, false, f, false)

			a, b := NewLeft(f), NewRight(f)
			a.Resize(m, k)
			b.Resize(n, k+7) // a longer vector, of which the beginning counts
			longer := make([]float32, n*(k+7))
			for j := range n {
				copy(longer[j*(k+7):], y[j*k:(j+1)*k])
				longer[j*(k+7)+k+6] = 1e30
			}
			for i := range a.Count() {
				a.PackRows(x, k, i, i+1)
			}
			for j := range b.Count() {
				b.PackRows(longer, k+7, j, j+1)
			}
			parts := make([]float32, m*n)
			for i := range a.Count() {
				for j := range b.Count() {
					Multiply(parts, n, a, b, false, i, i+1, j, j+1)
				}
			}
			for i := range whole {
				if whole[i] != parts[i] {
					t.Fatalf("format %d: element %d is %v in pieces, %v in one", f, i, parts[i], whole[i])
				}
			}
			one := make([]float32, 1)
			for range 20 {
				i, j := rng.IntN(m), rng.IntN(n)
				// One vector alone makes a wide panel, two a narrow one.
				oneProduct(one, 1, 1, 1, k, x[i*k:(i+1)*k], y[j*k:(j+1)*k], false, false, f, false)
				two := make([]float32, 2)
				oneProduct(two, 1, 2, 1, k, append(append([]float32(nil), x[i*k:(i+1)*k]...), x[:k]...), y[j*k:(j+1)*k], false, false, f, false)
				if two[0] != one[0] {
					t.Fatalf("format %d: element %d, %d is %v in a narrow panel, %v in a wide one", f, i, j, two[0], one[0])
				}
				if one[0] != whole[i*n+j] {
					t.Fatalf("format %d: element %d, %d is %v alone, %v among others", f, i, j, one[0], whole[i*n+j])
				}
			}
		}
	})
}

func TestMultiplyPanics(t *testing.T) {
	a, b := NewLeft(F32), NewRight(F32)
	a.Resize(3, 4)
	b.Resize(3, 2)
	for name, f := range map[string]func(){
		"lengths": func() { Multiply(make([]float32, 9), 3, a, b, false, 0, 1, 0, 1) },
		"out": func() {
			b := NewRight(F32)
			b.Resize(3, 4)
			Multiply(make([]float32, 8), 3, a, b, false, 0, 1, 0, 1)
		},
		"format": func() { NewLeft(F16) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f()
		})
	}
}

func BenchmarkMultiply(b *testing.B) {
	for _, size := range [][3]int{{2048, 288, 288}, {2048, 768, 288}, {2048, 288, 768}, {288, 768, 2048}, {512, 32000, 288}, {512, 288, 32000}, {32000, 288, 512}} {
		m, n, k := size[0], size[1], size[2]
		rng := rand.New(rand.NewPCG(6, 6))
		x, y, out := randomFloats(rng, m*k), randomFloats(rng, n*k), make([]float32, m*n)
		for _, f := range []Format{F32, BF16} {
			p, q := NewLeft(f), NewRight(f)
			p.Resize(m, k)
			q.Resize(n, k)
			name := fmt.Sprintf("%v/%dx%dx%d/", map[Format]string{F32: "f32", BF16: "bf16"}[f], m, n, k)
			rate := func(b *testing.B, per float64, unit string) {
				b.ReportMetric(per*float64(b.N)/b.Elapsed().Seconds()/1e9, unit)
			}
			b.Run(name+"rows", func(b *testing.B) {
				for b.Loop() {
					p.PackRows(x, k, 0, p.Count())
					q.PackRows(y, k, 0, q.Count())
				}
				rate(b, float64(m*k+n*k), "Gelem/s")
			})
			b.Run(name+"columns", func(b *testing.B) {
				for b.Loop() {
					p.PackColumns(x, m, 0, p.Count())
					q.PackColumns(y, n, 0, q.Count())
				}
				rate(b, float64(m*k+n*k), "Gelem/s")
			})
			b.Run(name+"multiply", func(b *testing.B) {
				for b.Loop() {
					Multiply(out, n, p, q, false, 0, p.Count(), 0, q.Count())
				}
				rate(b, 2*float64(m)*float64(n)*float64(k), "GFLOP/s")
			})
		}
	}
}
