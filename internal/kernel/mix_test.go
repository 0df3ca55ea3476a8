package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// alphas include everything that takes a path of its own.
var alphas = []float32{
	0, float32(math.Copysign(0, -1)), 0.3, -1, 1, 0.5, 1.0 / 3, 25, 1e-3, 1e30, -1e-30,
	math.MaxFloat32, math.SmallestNonzeroFloat32,
	float32(math.Inf(1)), float32(math.Inf(-1)), math.Float32frombits(0x7FFFFFFF), math.Float32frombits(0xFF800001),
}

func TestMix32(t *testing.T) {
	inf, zero := float32(math.Inf(1)), float32(math.Copysign(0, -1))
	nan := math.Float32frombits(0x7FC01234)
	tests := []struct {
		a, s, alpha float32
		want        uint32
	}{
		{3, 1, 0.5, 0x40800000}, // 4
		{1, 1, 0.5, 0x3F800000},
		{zero, zero, 0.5, 0x80000000}, // kept where the formula gives +0
		{zero, 0, 0.5, 0x80000000},
		{0, zero, 0.5, 0},
		{inf, inf, 0.5, 0x7F800000}, // kept where the formula gives NaN
		{inf, -inf, 0.5, 0x7F800000},
		{inf, 1, -1, 0x7FC00000},
		{nan, 1, 0.5, 0x7FC00000},
		{nan, 1, 0, 0x7FC01234}, // kept
		{1, nan, 0, 0x3F800000},
		{1, nan, 0.5, 0x7FC00000},
		{math.MaxFloat32, -math.MaxFloat32, -0.5, 0xFF800000}, // a-s overflows
		{0x1p-149, -0x1p-149, 1, 3},                           // subnormals
		// d = 1/3 rounded, p = d/3 rounded, r rounded: a fused multiply-add differs.
		{0x1.555556p0, 1, 1.0 / 3, math.Float32bits(mixRef(0x1.555556p0, 1, 1.0/3))},
	}
	everywhere(t, func(t *testing.T) {
		for _, tt := range tests {
			for _, n := range []int{1, 37} {
				a, s, r := make([]float32, n), make([]float32, n), make([]float32, n)
				for i := range n {
					a[i], s[i] = tt.a, tt.s
				}
				Mix32(r, a, s, tt.alpha)
				for i, x := range r {
					if got := math.Float32bits(x); got != tt.want {
						t.Errorf("a %v, s %v, alpha %v, element %d: got %#x, want %#x", tt.a, tt.s, tt.alpha, i, got, tt.want)
					}
				}
			}
		}
	})
}

func TestMixRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	type op struct {
		name string
		f    func(r, a, s []float32, alpha float32)
		ref  func(a, s, alpha float32) float32
	}
	for kind := range kinds {
		a, s := values32(rng, kind, 20_000)
		t.Run(fmt.Sprint(kind), func(t *testing.T) {
			everywhere(t, func(t *testing.T) {
				r := make([]float32, len(a))
				for _, op := range []op{{"Mix32", Mix32, mixRef}, {"MixPerOp32", MixPerOp32, perOpRef}} {
					for _, alpha := range alphas {
						op.f(r, a, s, alpha)
						for i, got := range r {
							want := op.ref(a[i], s[i], alpha)
							if want != want && !(alpha == 0 && op.name == "Mix32") {
								want = math.Float32frombits(nanF32)
							}
							if !same32(got, want) {
								t.Fatalf("%s, alpha %v, a %v (%#x), s %v (%#x): got %v (%#x), want %v", op.name, alpha,
									a[i], math.Float32bits(a[i]), s[i], math.Float32bits(s[i]), got, math.Float32bits(got), want)
							}
						}
					}
				}
			})
		})
	}
}

// TestMixLengths checks lengths, unaligned starts, and that r may be a.
func TestMixLengths(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	a, s := values32(rng, edges, 2*block+64)
	everywhere(t, func(t *testing.T) {
		for _, n := range lengths() {
			x, y := a[n%3:][:n], s[n%5:][:n]
			for i, f := range []func(r, a, s []float32, alpha float32){Mix32, MixPerOp32} {
				r := make([]float32, n+1)
				r[n] = 42
				copy(r, x)
				f(r[:n], r[:n], y, 0.3)
				if r[n] != 42 {
					t.Fatalf("%d elements: wrote beyond", n)
				}
				for j, got := range r[:n] {
					want := mixRef(x[j], y[j], 0.3)
					if i == 1 {
						want = perOpRef(x[j], y[j], 0.3)
					}
					if !same32(got, want) && (got == got || want == want) {
						t.Fatalf("%d elements: %d is %v, want %v", n, j, got, want)
					}
				}
			}
		}
	})
}
