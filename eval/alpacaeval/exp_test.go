package alpacaeval

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestExp(t *testing.T) {
	x := []float64{0, math.Copysign(0, -1), 1, -1, 1e-300, 1e-9, math.Ln2, math.Ln2 / 128, -math.Ln2 / 128, 699.99, -699.99, 700, -745, -750, 710, math.Inf(1), math.Inf(-1), math.NaN()}
	r := rand.New(rand.NewPCG(1, 1))
	for range 100000 {
		x = append(x, (2*r.Float64()-1)*math.Pow(10, 4*r.Float64()-1.2))
	}
	e := make([]float64, len(x))
	newExpTable().exp(e, x)
	worst := 0.0
	for i, v := range x {
		want := math.Exp(v)
		if e[i] == want || math.IsNaN(e[i]) && math.IsNaN(want) {
			continue
		}
		d := math.Abs(e[i]/want - 1)
		worst = max(worst, d)
		if !(d < 1e-15) {
			t.Fatalf("e^%v = %v, want %v", v, e[i], want)
		}
	}
	t.Logf("within %.2g", worst)
}

func BenchmarkExp(b *testing.B) {
	x, e := make([]float64, 2415), make([]float64, 2415)
	for i := range x {
		x[i] = float64(i-1200) / 300
	}
	t := newExpTable()
	b.Run("table", func(b *testing.B) {
		for b.Loop() {
			t.exp(e, x)
		}
	})
	b.Run("math", func(b *testing.B) {
		for b.Loop() {
			for i, v := range x {
				e[i] = math.Exp(v)
			}
		}
	})
}
