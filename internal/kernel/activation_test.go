package kernel

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestDot(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(6, 6))
		for n := range 258 {
			a, b := normal(rng, n), normal(rng, n+3)
			var want, abs float64
			for i := range a {
				p := float64(a[i]) * float64(b[i])
				want += p
				abs += math.Abs(p)
			}
			if got := Dot(a, b); !(math.Abs(float64(got)-want) <= abs*0x1p-21) {
				t.Fatalf("n %d: %v, want %v", n, got, want)
			}
		}
		for _, v := range []float32{float32(math.NaN()), float32(math.Inf(1))} {
			x := make([]float32, 37)
			x[5] = v
			if got := Dot(x, x); got == got && !math.IsInf(float64(got), 1) {
				t.Errorf("Dot with %v = %v", v, got)
			}
		}
	})
}

// TestElementwise checks what is the same under every implementation.
func TestElementwise(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(7, 7))
		for kind := range kinds {
			for n := range 100 {
				x, y := values32(rng, kind, n)
				c, s := values32(rng, kind, n)
				check := func(name string, i int, got, want float32) {
					if !same32(got, want) && (got == got || want == want) {
						t.Fatalf("%s, n %d: element %d = %v, want %v", name, n, i, got, want)
					}
				}
				alpha := float32(0.3)
				got := append([]float32(nil), y...)
				Axpy(got, alpha, x)
				for i := range got {
					check("Axpy", i, got[i], y[i]+float32(alpha*x[i]))
				}
				got = append(append([]float32(nil), x...), y...)
				Rope(got, c, s)
				for i := range n {
					check("Rope", i, got[i], float32(x[i]*c[i])-float32(y[i]*s[i]))
					check("Rope", n+i, got[n+i], float32(y[i]*c[i])+float32(x[i]*s[i]))
				}
			}
		}
	})
}

func TestRMSNorm(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(8, 8))
		for n := range 150 {
			x, w := normal(rng, n), normal(rng, n)
			out := make([]float32, n)
			RMSNorm(out, x, w, 1e-5)
			mean := 0.0
			for _, v := range x {
				mean += float64(v) * float64(v) / float64(n)
			}
			for i := range out {
				want := float64(x[i]) / math.Sqrt(mean+1e-5) * float64(w[i])
				if u := ulps(out[i], want); !(u <= 6) {
					t.Fatalf("n %d: element %d = %v, want %v", n, i, out[i], want)
				}
			}
			RMSNorm(x, x, w, 1e-5)
			for i := range out {
				if !same32(out[i], x[i]) {
					t.Fatalf("n %d: in place element %d = %v, want %v", n, i, x[i], out[i])
				}
			}
		}
	})
}

func TestSiLUMul(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		var gate, up, given []float32
		for b := uint64(0); b < 1<<32; b += 400009 {
			gate = append(gate, math.Float32frombits(uint32(b)))
			up = append(up, float32(b%7)+0.5)
		}
		given = append(given, gate...)
		SiLUMul(gate, up)
		worst := 0.0
		for i, g := range given {
			silu := float64(g) / (1 + math.Exp(-float64(g)))
			want := float64(float32(silu)) * float64(up[i])
			if math.IsNaN(want) != (gate[i] != gate[i]) || math.IsInf(want, 0) != math.IsInf(float64(gate[i]), 0) && math.Abs(want) < math.MaxFloat32 {
				t.Fatalf("silu(%v)·%v = %v, want %v", g, up[i], gate[i], want)
			}
			if math.IsNaN(want) || math.Abs(want) > math.MaxFloat32 {
				continue
			}
			u := ulps(gate[i], want)
			if g < -87 {
				// The exponential is subnormal, and what it lacks is multiplied.
				u -= math.Abs(float64(g)*float64(up[i])) * 0x1p-149 / unit(want)
			}
			worst = max(worst, u)
			if !(u <= 4) {
				t.Fatalf("silu(%v)·%v = %v, want %v: %.2f units", g, up[i], gate[i], want, u)
			}
		}
		t.Logf("worst %.2f units", worst)
		// No result depends on where it stands.
		for n := 1; n < 40; n++ {
			g := append([]float32(nil), given[5000:5000+n]...)
			SiLUMul(g, up[5000:])
			for i := range g {
				if want := gate[5000+i]; !same32(g[i], want) && want == want {
					t.Fatalf("element %d of %d = %v, of many %v", i, n, g[i], want)
				}
			}
		}
	})
}

func TestArgmax(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	everywhere(t, func(t *testing.T) {
		for _, c := range []struct {
			x    []float32
			want int
			nan  bool
		}{
			{nil, -1, false},
			{[]float32{3}, 0, false},
			{[]float32{-inf, -inf}, 0, false},
			{[]float32{1, inf, inf}, 1, false},
			{[]float32{float32(math.Copysign(0, -1)), 0}, 0, false},
			{[]float32{1, nan, inf, nan}, 1, true},
		} {
			if got, isNaN := Argmax(c.x); got != c.want || isNaN != c.nan {
				t.Errorf("Argmax(%v) = %d, %v, want %d, %v", c.x, got, isNaN, c.want, c.nan)
			}
		}
		rng := rand.New(rand.NewPCG(9, 9))
		for range 300 {
			x := make([]float32, 1+rng.IntN(9000))
			for i := range x {
				x[i] = float32(rng.IntN(2000) - 3000)
			}
			want := 0
			for i, v := range x {
				if v > x[want] {
					want = i
				}
			}
			if got, isNaN := Argmax(x); got != want || isNaN {
				t.Fatalf("Argmax of %d = %d, %v, want %d", len(x), got, isNaN, want)
			}
			at := rng.IntN(len(x))
			x[at] = nan
			if got, isNaN := Argmax(x); got != at || !isNaN {
				t.Fatalf("Argmax of %d with NaN = %d, %v, want %d", len(x), got, isNaN, at)
			}
		}
	})
}
