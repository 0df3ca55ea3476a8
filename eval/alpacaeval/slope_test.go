package alpacaeval

import (
	"math"
	"math/rand/v2"
	"testing"
)

// randomRows makes n rows like those of fits, with some far out.
func randomRows(n int, seed uint64) rows {
	g := rand.New(rand.NewPCG(seed, 9))
	r := newRows(n)
	for i := range n {
		one := 0.0
		if i > n/2 {
			one = 1
		}
		y := g.Float64()
		if i%9 == 0 {
			y = math.Round(y)
		}
		r.add(2*g.Float64()-1, 3*g.NormFloat64(), one, y, 1-y)
	}
	return r
}

// TestSlope compares with sums by the library's functions.
func TestSlope(t *testing.T) {
	for n := range 40 {
		n += 600 * (n / 37)
		r := randomRows(n, uint64(n))
		for _, w := range [][3]float64{{0, 0, 0}, {-1.9, 0.99, -3.1}, {0.3, -40, 20}, {1e3, 1e4, -900}} {
			var want, size slope
			for i, c := range r.c {
				x := [3]float64{r.x[0][i], r.x[1][i], r.x[2][i]}
				tt := 1 / (1 + math.Exp(w[0]*x[0]+w[1]*x[1]+w[2]*x[2]))
				for j := range 3 {
					want[j] += c * tt * x[j]
					size[j] += math.Abs(c * tt * x[j])
					for k := range j + 1 {
						at := 3 + j*(j+1)/2 + k
						want[at] += c * (tt - tt*tt) * x[j] * x[k]
						size[at] += math.Abs(c * tt * x[j] * x[k])
					}
				}
			}
			got := r.slopeAt(&w)
			for i := range got {
				// Near the largest exponents t is as small as 1e−304.
				if !(math.Abs(got[i]-want[i]) <= 1e-14*size[i]*(1+math.Abs(w[1])/10)+1e-250) {
					t.Errorf("%d rows, w = %v, sum %d: %v, want %v", n, w, i, got[i], want[i])
				}
			}
			if got.hessian(2, 1) != got[7] || got.hessian(1, 0) != got[4] || got.hessian(0, 0) != got[3] {
				t.Errorf("the Hessian of %v is read wrongly", got)
			}
		}
	}
}

// TestRise compares with the loss as it is defined.
func TestRise(t *testing.T) {
	r := randomRows(100, 4)
	loss := func(w [3]float64) (sum float64) {
		for i := range r.c {
			z := w[0]*r.x[0][i] + w[1]*r.x[1][i] + w[2]*r.x[2][i]
			sum += r.a[i]*math.Log(1+math.Exp(-z)) + r.b[i]*math.Log(1+math.Exp(z))
		}
		return sum
	}
	w, u := [3]float64{0.1, -0.2, 0.3}, [3]float64{-1, 2, 0.5}
	if got, want := r.rise(&w, &u), loss(u)-loss(w); math.Abs(got-want) > 1e-11 {
		t.Errorf("%v, want %v", got, want)
	}
	// Far out the loss is a straight line.
	w, u = [3]float64{0, 0, 0}, [3]float64{0, 5000, 0}
	if got := r.rise(&w, &u); math.IsInf(got, 0) || math.IsNaN(got) || got < 1000 {
		t.Errorf("far out %v", got)
	}
}

// TestRiseAtMost: the bound holds, and is close for short steps.
func TestRiseAtMost(t *testing.T) {
	g := rand.New(rand.NewPCG(3, 3))
	for k := range 2000 {
		f := newFit([]int{0, 1, 2})
		f.on(randomRows(60, uint64(k)))
		long := math.Pow(10, 4*g.Float64()-3)
		before, after, most := 0.0, 0.0, 0.0
		for j := range f.w {
			f.w[j], f.u[j] = g.NormFloat64(), g.NormFloat64()*long
			f.u[j] += f.w[j]
			most += math.Abs(f.u[j]-f.w[j]) * f.most[j]
		}
		at, to := f.slope(f.w), f.slope(f.u)
		for j := range f.w {
			before += (f.failed[j] - at[j]) * (f.u[j] - f.w[j])
			after += (f.failed[j] - to[j]) * (f.u[j] - f.w[j])
		}
		w, u := f.spread(f.w), f.spread(f.u)
		rise, bound := f.rise(&w, &u), riseAtMost(before, after, most)
		if rise > bound+1e-10*(1+math.Abs(before)+math.Abs(after)) {
			t.Errorf("step of %v: rises by %v, more than %v", most, rise, bound)
		}
		if slack := bound - rise; most < 0.1 && slack > most*(after-before)/4+1e-10 {
			t.Errorf("step of %v: rises by %v, bound %v", most, rise, bound)
		}
	}
}

func BenchmarkSlope(b *testing.B) {
	r := randomRows(2415, 1)
	w := [3]float64{-1.9, 0.3, -1}
	for b.Loop() {
		r.slopeAt(&w)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/2415, "ns/row")
}
