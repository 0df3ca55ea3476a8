package kernel

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestSiLUMulBackward(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(11, 1))
		for n := range 70 {
			gate, up, dy := randomFloats(rng, n), randomFloats(rng, n), randomFloats(rng, n)
			for i := range gate {
				gate[i] *= 8
				switch rng.IntN(10) {
				case 0:
					gate[i] = 0
				case 1:
					gate[i] = float32(rng.NormFloat64()) * 120
				}
			}
			g, u, d := append([]float32(nil), gate...), append([]float32(nil), up...), append([]float32(nil), dy...)
			SiLUMulBackward(g, u, d)
			for i := range g {
				a, b, c := gate[i:i+1:i+1], up[i:i+1:i+1], dy[i:i+1:i+1]
				a, b, c = append([]float32(nil), a...), append([]float32(nil), b...), append([]float32(nil), c...)
				if SiLUMulBackward(a, b, c); a[0] != g[i] || b[0] != u[i] || c[0] != d[i] {
					t.Fatalf("element %d of %d alone: %v %v %v, among others %v %v %v", i, n, a[0], b[0], c[0], g[i], u[i], d[i])
				}
				x, v, w := float64(gate[i]), float64(up[i]), float64(dy[i])
				sigma := 1 / (1 + math.Exp(-x))
				for _, c := range []struct {
					name             string
					got, want, scale float64
				}{
					// The slope has terms that cancel, so its error is that of σ.
					{"dgate", float64(g[i]), w * v * sigma * (1 + x*(1-sigma)), math.Abs(w*v) * (sigma + math.Abs(x*sigma*(1-sigma)))},
					{"dup", float64(u[i]), w * x * sigma, math.Abs(w * x * sigma)},
					{"y", float64(d[i]), x * sigma * v, math.Abs(x * sigma * v)},
				} {
					if math.Abs(c.got-c.want) > 1e-6*c.scale+1e-37 {
						t.Fatalf("gate %v, up %v, dy %v: %s is %v, want %v", x, v, w, c.name, c.got, c.want)
					}
				}
			}
		}
	})
}

func TestRMSNormBackward(t *testing.T) {
	const eps = 1e-5
	everywhere(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(12, 1))
		for n := range 70 {
			x, w, dy := randomFloats(rng, n), randomFloats(rng, n), randomFloats(rng, n)
			dx, dw := randomFloats(rng, n), randomFloats(rng, n)
			gotX, gotW := append([]float32(nil), dx...), append([]float32(nil), dw...)
			RMSNormBackward(gotX, gotW, x, w, dy, make([]float32, n), eps)
			var square, c float64
			for i, v := range x {
				square += float64(v) * float64(v)
				c += float64(v) * float64(w[i]) * float64(dy[i])
			}
			s := 1 / math.Sqrt(square/float64(n)+eps)
			for i, v := range x {
				wantX := float64(dx[i]) + s*float64(w[i])*float64(dy[i]) - float64(v)*s*s*s*c/float64(n)
				wantW := float64(dw[i]) + float64(dy[i])*float64(v)*s
				if math.Abs(float64(gotX[i])-wantX) > 2e-5 || math.Abs(float64(gotW[i])-wantW) > 2e-5 {
					t.Fatalf("length %d: element %d: dx %v, want %v; dw %v, want %v", n, i, gotX[i], wantX, gotW[i], wantW)
				}
			}
		}
	})
}

func TestSoftmaxBackward(t *testing.T) {
	everywhere(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(13, 1))
		for n := range 70 {
			p, d := randomFloats(rng, n), randomFloats(rng, n)
			Softmax(p)
			got := append([]float32(nil), d...)
			SoftmaxBackward(got, p)
			var c float64
			for i, v := range p {
				c += float64(v) * float64(d[i])
			}
			for i, v := range got {
				if want := float64(p[i]) * (float64(d[i]) - c); math.Abs(float64(v)-want) > 1e-6 {
					t.Fatalf("length %d: element %d is %v, want %v", n, i, v, want)
				}
			}
		}
	})
}

// AdamW gives the same bits under every implementation, and what the formula in
// float64 gives.
func TestAdamW(t *testing.T) {
	o := AdamW{Scale: 0.7, Decay: 1 - 1e-3, Beta1: 0.9, Beta2: 0.99, Rate: 0.02, Root: 3.3, Epsilon: 1e-8}
	const n = 133
	rng := rand.New(rand.NewPCG(14, 1))
	w, m, v, g := randomFloats(rng, n), randomFloats(rng, n), randomFloats(rng, n), randomFloats(rng, n)
	for i := range v {
		v[i] *= v[i]
	}
	g[5], m[5], v[5] = 0, 0, 0
	var want [3][]float32
	everywhere(t, func(t *testing.T) {
		got := [3][]float32{append([]float32(nil), w...), append([]float32(nil), m...), append([]float32(nil), v...)}
		o.Step(got[0], got[1], got[2], g)
		for i := range n {
			d := 0.7 * float64(g[i])
			a := 0.9*float64(m[i]) + 0.1*d
			b := 0.99*float64(v[i]) + 0.01*d*d
			x := float64(w[i])*(1-1e-3) - 0.02*a/(math.Sqrt(b)*3.3+1e-8)
			for k, exact := range []float64{x, a, b} {
				if math.Abs(float64(got[k][i])-exact) > 3e-6*(math.Abs(exact)+0.1) {
					t.Fatalf("element %d of %s is %v, want %v", i, []string{"w", "m", "v"}[k], got[k][i], exact)
				}
			}
		}
		if want[0] == nil {
			want = got
		}
		for k := range got {
			for i := range got[k] {
				if got[k][i] != want[k][i] {
					t.Fatalf("element %d of %s is %v, another implementation says %v", i, []string{"w", "m", "v"}[k], got[k][i], want[k][i])
				}
			}
		}
	})
	defer func() {
		if recover() == nil {
			t.Error("no panic for moments of another length")
		}
	}()
	o.Step(w, m[:1], v, g)
}

func TestSumSquares(t *testing.T) {
	rng := rand.New(rand.NewPCG(15, 1))
	for n := range 40 {
		x := randomFloats(rng, n)
		var want float64
		for _, v := range x {
			want += float64(v) * float64(v)
		}
		if got := SumSquares(x); math.Abs(got-want) > 1e-13*(want+1) {
			t.Errorf("length %d: %v, want %v", n, got, want)
		}
	}
}
