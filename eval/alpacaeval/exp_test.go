package alpacaeval

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestExp(t *testing.T) {
	x := []float64{0, math.Copysign(0, -1), 1, -1, 1e-300, 1e-9, math.Ln2, math.Ln2 / 128, -math.Ln2 / 128, 699.99, -699.99, 700, -700}
	r := rand.New(rand.NewPCG(1, 1))
	for range 100000 {
		x = append(x, (2*r.Float64()-1)*math.Pow(10, 4*r.Float64()-1.2))
	}
	worst := 0.0
	for _, v := range x {
		if math.Abs(v) > expMost {
			continue
		}
		want := math.Exp(v)
		e := powers.one(v)
		d := math.Abs(e/want - 1)
		worst = max(worst, d)
		if !(d < 1e-15) {
			t.Fatalf("e^%v = %v, want %v", v, e, want)
		}
	}
	t.Logf("within %.2g", worst)
}
