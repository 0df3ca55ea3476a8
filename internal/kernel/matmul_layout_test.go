package kernel

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestParts has rows of every length around whole parts, whose last elements
// are a step that is not whole.
func TestParts(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(20, 20))
		const m, rows = 9, 5
		for _, f := range productFormats {
			for _, around := range []int{512, 1024, 2048} {
				for n := around - 1; n <= around+33; n++ {
					x, w := factors(rng, m, rows, n, f)
					got := multiplied(x, m, w, rows, n, f)
					for i := range m {
						for r := range rows {
							want, abs := sumRef(x[i*n:(i+1)*n], w[r*n*f.Bytes():], f)
							if d := math.Abs(float64(got[i*rows+r]) - want); !(d <= abs*0x1p-22*math.Sqrt(float64(n)/16+4)) {
								t.Fatalf("format %d, n %d: out[%d][%d] = %v, want %v", f, n, i, r, got[i*rows+r], want)
							}
						}
					}
				}
			}
		}
	})
}

// TestActivationsAgain sets the same Activations to other numbers of vectors:
// nothing of the former ones is left, not even behind the last element.
func TestActivationsAgain(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(21, 21))
		const most, rows = 20, 7
		for _, f := range productFormats {
			for _, n := range []int{3, 45, 1030, 2069} {
				a := NewActivations(most, n, f)
				bad := make([]float32, most*n)
				for i := range bad {
					bad[i] = float32(math.NaN())
				}
				x, w := factors(rng, most, rows, n, f)
				for _, m := range []int{20, 3, 17, 1, 8} {
					a.Set(bad, most)
					a.Set(x, m)
					got := make([]float32, m*rows)
					MatMul(got, rows, a, w, rows)
					for i, want := range multiplied(x, m, w, rows, n, f) {
						if !same32(got[i], want) {
							t.Fatalf("format %d, n %d, m %d: out[%d] = %v, fresh %v", f, n, m, i, got[i], want)
						}
					}
				}
			}
		}
	})
}

// TestAlignment multiplies rows that begin anywhere in a cache line.
func TestAlignment(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(22, 22))
		const m, rows, n = 13, 9, 1056
		for _, f := range productFormats {
			x, w := factors(rng, m, rows, n, f)
			want := multiplied(x, m, w, rows, n, f)
			for shift := range 65 {
				b := make([]byte, len(w)+shift)
				copy(b[shift:], w)
				for i, got := range multiplied(x, m, b[shift:], rows, n, f) {
					if !same32(got, want[i]) {
						t.Fatalf("format %d, shift %d: out[%d] = %v, want %v", f, shift, i, got, want[i])
					}
				}
			}
		}
	})
}
